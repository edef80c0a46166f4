//! PostgreSQL of the tests' own: one cluster a test program, a database a test.
//!
//! A cluster lives in a directory of its own, listens on 127.0.0.1 and on a socket in that directory, and does
//! not sync its files: it is to be quick, not to last. PostgreSQL refuses to run as root, so root runs it as
//! the user `postgres`. A small shell outlives the test program, however that ends: it stops the cluster and
//! removes the directory when the pipe to it closes.

use crate::dir::Dir;
use crate::process::run;
use crate::{ports, wait};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);

/// What the guardian does: waits for the end of its standard input, then tidies up. `$0` is the programs' folder,
/// `$1` the data directory, `$2` what to remove, and the rest changes the user.
const GUARDIAN: &str = r#"
    trap '' INT HUP TERM
    cat >/dev/null
    bin=$0 data=$1 all=$2
    shift 2
    "$@" "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1
    rm -rf "$all"
"#;

/// A PostgreSQL server with its data. Dropping it stops it.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    durable: bool,
    guardian: Child,
}

/// A database of one test; it goes with its cluster.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
}

impl Cluster {
    /// The folder of PostgreSQL's programs: the newest of Debian's, else where the search path has `postgres`.
    pub fn programs() -> Option<PathBuf> {
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = debian
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                bin.join("postgres").is_file().then_some((version, bin))
            })
            .collect();
        found.sort();
        found.pop().map(|(_, bin)| bin).or_else(|| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).find(|dir| dir.join("postgres").is_file())
        })
    }

    /// The cluster that this test program's tests share; `None`, said loudly, where there is no PostgreSQL.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::own).as_ref()
    }

    /// A cluster for one test alone, which may stop and start it.
    pub fn own() -> Option<Self> {
        Self::make(false)
    }

    /// A cluster that syncs its files as it does in earnest, for measurements.
    pub fn durable() -> Option<Self> {
        Self::make(true)
    }

    fn make(durable: bool) -> Option<Self> {
        let Some(bin) = Self::programs() else {
            crate::skip("PostgreSQL", "it is not installed; tests/install gets it");
            return None;
        };
        let dir = Dir::new();
        let data = dir.join("data");
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()), BOUND).ok();
        }
        let mut initdb = as_postgres(&bin.join("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(initdb.arg("-D").arg(&data), BOUND).ok();
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN])
            .arg(&bin)
            .arg(&data)
            .arg(dir.path())
            .args(user_change())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut cluster = Self { bin, dir: dir.keep(), port: 0, durable, guardian };
        // Somebody may take the free port before the server does.
        for attempt in 0.. {
            cluster.port = ports::free();
            match cluster.try_start() {
                Ok(()) => break,
                Err(why) => assert!(attempt < 5, "PostgreSQL does not start: {why}"),
            }
        }
        Some(cluster)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn try_start(&self) -> Result<(), String> {
        let Self { dir, port, .. } = self;
        let mut options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c max_connections=200",
            dir.display()
        );
        if !self.durable {
            options.push_str(" -c fsync=off -c synchronous_commit=off -c full_page_writes=off");
        }
        let done = run(self.pg_ctl("start").arg("-l").arg(dir.join("log")).args(["-o", &options]), BOUND);
        match done.code {
            Some(0) => Ok(()),
            _ => Err(format!("{done}\n{}", std::fs::read_to_string(dir.join("log")).unwrap_or_default())),
        }
    }

    fn pg_ctl(&self, what: &str) -> Command {
        let mut command = as_postgres(&self.bin.join("pg_ctl"));
        command.args(["--silent", "--wait", what, "-D"]).arg(self.data());
        command
    }

    /// Starts it again after [`Self::stop`] or [`Self::crash`], on the same port.
    pub fn start(&self) {
        // The port was ours a moment ago; a connection of somebody else may hold it for another moment.
        wait::until(BOUND, "PostgreSQL on its old port", || self.try_start().ok());
    }

    /// Stops it in good order, cutting the connections.
    pub fn stop(&self) {
        run(self.pg_ctl("stop").args(["-m", "fast"]), BOUND).ok();
    }

    /// Stops it as a crash would: it has to recover at its next start.
    pub fn crash(&self) {
        run(self.pg_ctl("stop").args(["-m", "immediate"]), BOUND).ok();
    }

    /// A new, empty database.
    pub fn database(&self) -> Database {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database { url: format!("postgres://postgres@127.0.0.1:{}/{name}", self.port) };
        let admin = Database { url: format!("postgres://postgres@127.0.0.1:{}/postgres", self.port) };
        admin.query(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        database
    }

    /// The process id of the server, for its CPU and memory.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("a running server");
        text.lines().next().and_then(|line| line.parse().ok()).expect("a process id")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = wait::within(BOUND, || self.guardian.try_wait().ok().flatten());
    }
}

impl Database {
    /// `postgres://…`, as programs want it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything in it as SQL, by `pg_dump`.
    pub fn dump(&self) -> String {
        let program = psql().with_file_name("pg_dump");
        run(Command::new(program).args(["--inserts", &self.url]), Duration::from_secs(300)).ok()
    }

    /// What SQL answers, by `psql`: a row a line, columns split by `|`.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        let mut psql = Command::new(psql());
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"]);
        let done = run(psql.args([&self.url, "-c", sql]), Duration::from_secs(300));
        done.ok().trim().to_owned()
    }
}

fn psql() -> PathBuf {
    let beside = Cluster::programs().map(|bin| bin.join("psql")).filter(|path| path.is_file());
    beside.unwrap_or_else(|| "psql".into())
}

/// The words before a command that make it run as `postgres`; none unless we are root.
fn user_change() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    } else {
        &["env"]
    }
}

fn as_postgres(program: &Path) -> Command {
    let words = user_change();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(program).current_dir("/").env("LC_ALL", "C");
    command
}
