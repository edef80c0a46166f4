//! The program under test.

use crate::http::Client;
use crate::process::{Daemon, Finished, run, run_with, stdin};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

/// How long any one command of these tests may take.
pub const BOUND: Duration = Duration::from_secs(90);

/// The `satellite` program: `SATELLITE_BIN`, or what cargo builds for the profile of the running test.
///
/// Cargo is asked once per test program, and does nothing if `cargo test --workspace` was here before.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SATELLITE_BIN") {
        Some(path) => path.into(),
        None => build("satellite-bin", "satellite"),
    })
}

/// Builds a program of the workspace for the profile of the running test; gives its path.
pub(crate) fn build(package: &str, program: &str) -> PathBuf {
    build_all(package, &[]).join(program)
}

/// Builds a package for the profile of the running test, or what of it cargo's `flags` say; gives the folder of results.
pub fn build_all(package: &str, flags: &[&str]) -> PathBuf {
    // .../target/PROFILE/deps/this-test
    let exe = std::env::current_exe().expect("our own path");
    let profile = exe.ancestors().nth(2).expect("a target directory").to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--offline", "--package", package])
        .args(flags);
    cargo.arg("--target-dir").arg(profile.parent().expect("a target directory"));
    match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    run(&mut cargo, Duration::from_secs(1800)).ok();
    profile
}

/// A command line of the program, ready for more arguments.
///
/// Nothing of the caller's environment that changes what it does is left: no proxies, no Docker credentials.
pub fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env("DOCKER_CONFIG", "/nonexistent").env("HOME", "/nonexistent");
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

/// A store, used by commands and at most one server.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in `dir`, which the program makes if it is not there.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `satellite NAME --data-dir DIR ARGS…`, not yet started.
    pub fn command<A: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = command([OsStr::new(name), OsStr::new("--data-dir"), self.dir.as_os_str()]);
        command.args(args);
        command
    }

    /// Runs a command to its end.
    pub fn run<A: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = A>) -> Finished {
        run(&mut self.command(name, args), BOUND)
    }

    /// Runs a command with a password on standard input.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Finished {
        run_with(&mut self.command(name, args), stdin(input), BOUND)
    }

    /// Pulls over plain HTTP.
    pub fn pull(&self, reference: &str) -> Finished {
        self.run("pull", ["--plain-http", reference])
    }

    /// Starts a server on a free port that lets loopback push and delete.
    pub fn serve(&self) -> Server {
        self.serve_with(["--trust-loopback"])
    }

    /// Starts a server on a free port with these flags.
    pub fn serve_with<A: AsRef<OsStr>>(&self, flags: impl IntoIterator<Item = A>) -> Server {
        let mut command = self.command("serve", ["--listen", "127.0.0.1:0"]);
        Server::start(command.args(flags), &self.dir)
    }
}

/// A running `satellite serve`. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    address: SocketAddr,
    tls: bool,
}

impl Server {
    /// Starts the command, which must be `satellite serve`, and waits until it says where it listens.
    ///
    /// The log goes beside the store (`DIR.log`), cut at each start: what is found in it is of this server.
    pub fn start(command: &mut Command, dir: &Path) -> Self {
        let log = dir.with_extension("log");
        let _ = std::fs::remove_file(&log);
        let mut daemon = Daemon::start("satellite serve", command, &log);
        let (tls, address) = daemon.wait_log(Duration::from_secs(20), |line| {
            let url = line.strip_prefix("listening on http")?;
            let tls = url.starts_with('s');
            url.trim_start_matches('s').strip_prefix("://")?.trim_end().parse().ok().map(|at| (tls, at))
        });
        Self { daemon, address, tls }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// True if it speaks TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// A client of it, without credentials.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The process, for its log, its id and signals.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Resident memory and its peak, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
    }

    /// Stops it gracefully.
    pub fn stop(self) -> ExitStatus {
        self.daemon.terminate(Duration::from_secs(20))
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.daemon.kill();
    }
}
