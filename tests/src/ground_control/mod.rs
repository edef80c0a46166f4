//! The fleet server under test: started on either database and any central registry, stopped, killed, started
//! again; and those who call it.

mod api;
pub mod state;

pub use api::{Api, Robot, basic, heartbeat};

use crate::http::Client;
use crate::postgres::Database;
use crate::process::{Daemon, Finished, run};
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

/// The password of `admin` in every test.
pub const PASSWORD: &str = "Adminpw1x";

/// The `ground-control` program: `GROUND_CONTROL_BIN`, or what cargo builds for the profile of the running test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("GROUND_CONTROL_BIN") {
        Some(path) => path.into(),
        None => crate::satellite::build("ground-control", "ground-control"),
    })
}

/// How a server is started, as often as a test likes.
#[derive(Debug, Clone)]
pub struct Setup {
    dir: PathBuf,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<OsString>,
    wrapper: Vec<OsString>,
}

impl Setup {
    /// SQLite and the embedded registry below `dir`, and nothing of the caller's environment.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let setup = Self { dir: dir.into(), environment: vec![], flags: vec![], wrapper: vec![] };
        setup.env("ADMIN_PASSWORD", PASSWORD)
    }

    /// With PostgreSQL.
    pub fn database(self, database: &Database) -> Self {
        self.env("DATABASE_URL", database.url())
    }

    /// With a Harbor at `url`.
    pub fn harbor(self, url: &str, user: &str, password: &str) -> Self {
        self.env("HARBOR_URL", url).env("HARBOR_USERNAME", user).env("HARBOR_PASSWORD", password)
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// With a further flag of `serve`.
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.flags.push(flag.as_ref().into());
        self
    }

    /// Run by another program, such as `faketime`, with these words before its own command line.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(Into::into).collect();
        self
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `ground-control NAME ARGS…` in this setup's environment, not yet started.
    pub fn command<A: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = A>) -> Command {
        let mut words: Vec<OsString> = self.wrapper.clone();
        words.push(binary().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(name).args(args);
        // What is set around the tests says nothing about the server that they start.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", "/nonexistent").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs another command of the program on this setup's data directory.
    pub fn run<A: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = A>) -> Finished {
        let mut command = self.command(name, ["--data-dir".as_ref(), self.dir.as_os_str()]);
        run(command.args(args), crate::satellite::BOUND)
    }

    /// Starts a server on a free port of 127.0.0.1 and waits until it listens.
    pub fn start(&self) -> GroundControl {
        self.start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at an address, for one that is to be found again after a restart.
    pub fn start_at(&self, address: SocketAddr) -> GroundControl {
        self.try_start(address).wait()
    }

    /// Starts it, and does not wait for it.
    pub fn try_start(&self, address: SocketAddr) -> Starting {
        std::fs::create_dir_all(&self.dir).expect("the data directory");
        let mut command = self.command("serve", ["--data-dir".as_ref(), self.dir.as_os_str()]);
        command.args(["--listen", &address.to_string()]).args(&self.flags);
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        // Each life has its own log, so that what is found in it is of this server.
        let life = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.dir.with_extension(format!("{life}.log"));
        let daemon = Daemon::start("ground-control serve", &mut command, &log);
        Starting { daemon, setup: self.clone() }
    }
}

/// A server that may not listen yet.
#[derive(Debug)]
pub struct Starting {
    daemon: Daemon,
    setup: Setup,
}

impl Starting {
    /// Waits until it listens.
    pub fn wait(mut self) -> GroundControl {
        let (tls, address) = self.daemon.wait_log(Duration::from_secs(60), |line| {
            let (_, rest) = line.split_once("listening on http")?;
            let (tls, rest) = rest.strip_prefix('s').map_or((false, rest), |rest| (true, rest));
            let host = rest.strip_prefix("://")?.split(|c: char| c.is_whitespace() || c == '"').next()?;
            host.parse().ok().map(|address| (tls, address))
        });
        GroundControl { daemon: self.daemon, setup: self.setup, address, tls }
    }

    /// Waits for the end of one that is to refuse to start; gives how it ended and its log.
    pub fn refused(mut self) -> (ExitStatus, String) {
        let status = self.daemon.wait(Duration::from_secs(60));
        (status, self.daemon.log())
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.daemon.kill();
    }
}

/// A running `ground-control serve`. Dropping it kills it.
#[derive(Debug)]
pub struct GroundControl {
    daemon: Daemon,
    setup: Setup,
    address: SocketAddr,
    tls: bool,
}

impl GroundControl {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.tls { "s" } else { "" }, self.address)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The process, for its log and signals.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// A client without credentials.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Calls without credentials.
    pub fn anonymous(&self) -> Api {
        Api::new(self.client(), None)
    }

    /// Calls as `admin`, after a login.
    #[track_caller]
    pub fn admin(&self) -> Api {
        self.anonymous().login("admin", PASSWORD)
    }

    /// Stops it gracefully.
    pub fn stop(self) -> ExitStatus {
        self.daemon.terminate(Duration::from_secs(20))
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.daemon.kill();
    }

    /// Kills it, if it lives, and starts it at the same address.
    pub fn revive(&mut self) {
        self.daemon.kill();
        *self = self.setup.start_at(self.address);
    }
}
