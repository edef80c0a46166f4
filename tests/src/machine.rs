//! Gateway images under QEMU: machines that boot, serve, and lose their power.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dir::Dir;
use crate::http::Client;
use crate::process::{Daemon, run};
use crate::{ports, wait};

/// From the start of an emulated machine to what it is asked for, on a busy machine.
pub const BOUND: Duration = Duration::from_secs(180);

/// What images are built for.
pub const MACHINES: [&str; 2] = ["aarch64", "riscv64"];

/// This machine, as an emulated one sees it.
pub const HOST: &str = "10.0.2.2";

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-images")
}

/// Where `firmware-images/build` leaves what is built for a machine.
pub fn built(machine: &str) -> PathBuf {
    let out = std::env::var_os("FIRMWARE_OUT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/firmware"), PathBuf::from);
    out.join("dist").join(machine)
}

/// Why there is nothing to boot here, if so.
pub fn missing(machine: &str) -> Option<String> {
    if !built(machine).join("disk.img").exists() {
        return Some(format!("no image is built; firmware-images/build {machine}"));
    }
    let emulator = format!("qemu-system-{machine}");
    (!crate::has(&emulator)).then(|| format!("{emulator} is missing; firmware-images/setup gets it"))
}

/// A machine without power: its disk, and what it is told.
#[derive(Debug)]
pub struct Machine {
    name: &'static str,
    disk: PathBuf,
    boots: Cell<usize>,
    dir: Dir,
}

impl Machine {
    /// One fresh from the factory.
    pub fn new(name: &'static str) -> Self {
        let dir = Dir::new();
        let disk = dir.join("disk.img");
        run(Command::new("cp").arg("--sparse=always").arg(built(name).join("disk.img")).arg(&disk), BOUND)
            .ok();
        Self { name, disk, boots: Cell::new(0), dir }
    }

    /// Puts a file onto its boot partition, which begins at 1 MiB.
    pub fn provision(&self, file: &str, text: &str) {
        let from = self.dir.join("provision");
        std::fs::write(&from, text).unwrap();
        let mut copy = Command::new("mcopy");
        copy.args(["-o", "-i", &format!("{}@@1M", self.disk.display())]).arg(from).arg(format!("::{file}"));
        run(copy.env("MTOOLS_SKIP_CHECK", "1"), BOUND).ok();
    }

    /// Turns it on.
    pub fn boot(&self) -> Running {
        let boot = self.boots.replace(self.boots.get() + 1);
        let (log, qmp) = (self.dir.join(format!("console-{boot}")), self.dir.join("qmp"));
        let _ = std::fs::remove_file(&qmp);
        let port = ports::free();
        let mut command = Command::new(images().join("run"));
        command.args([self.name, "--port", &port.to_string()]);
        command.arg("--disk").arg(&self.disk).arg("--qmp").arg(&qmp);
        let started = Instant::now();
        let daemon = Daemon::start(&format!("the {} machine", self.name), &mut command, &log);
        Running { daemon, address: SocketAddr::from(([127, 0, 0, 1], port)), qmp, started }
    }
}

/// A machine with power. Dropping it cuts that.
#[derive(Debug)]
pub struct Running {
    daemon: Daemon,
    address: SocketAddr,
    qmp: PathBuf,
    started: Instant,
}

impl Running {
    /// A client of its satellite, with time for an emulated one.
    pub fn client(&self) -> Client {
        Client::new(self.address).bound(Duration::from_secs(60))
    }

    /// Waits until its satellite answers; gives the time since it was turned on.
    pub fn serving(&mut self) -> Duration {
        // The emulator takes connections before anything listens there.
        let client = Client::new(self.address).bound(Duration::from_secs(1));
        let request = crate::http::Request::new("GET", "/v2/");
        self.wait("its first answer", |_| {
            client.try_send(&request).is_ok_and(|answer| matches!(answer.status, 200 | 401)).then_some(())
        });
        self.started.elapsed()
    }

    /// Waits for something that its console or its satellite shows.
    pub fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> T {
        let found = wait::within(BOUND, || {
            let ended = self.daemon.ended();
            look(&self.daemon.log()).map(Ok).or(ended.map(Err))
        });
        match found {
            Some(Ok(value)) => value,
            Some(Err(status)) => panic!("the emulator ended ({status}):\n{}", self.console()),
            None => panic!("waited {BOUND:?} in vain for {what}:\n{}", self.console()),
        }
    }

    /// Waits for a line of its console that has `part` in it.
    pub fn says(&mut self, part: &str) -> String {
        self.wait(&format!("{part:?} on the console"), |console| {
            console.lines().find(|line| line.contains(part)).map(Into::into)
        })
    }

    /// All that its console showed since it was turned on.
    pub fn console(&self) -> String {
        self.daemon.log()
    }

    /// Bytes that it has written to its disk since it was turned on.
    pub fn written(&self) -> u64 {
        let mut stream = UnixStream::connect(&self.qmp).expect("the emulator's socket");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-blockstats\"}").unwrap();
        for line in BufReader::new(stream).lines().take(16) {
            let answer: Value = serde_json::from_str(&line.expect("an answer")).expect("JSON");
            if let Some(disks) = answer["return"].as_array() {
                return disks.iter().filter_map(|disk| disk["stats"]["wr_bytes"].as_u64()).sum();
            }
        }
        panic!("the emulator does not say what was written");
    }

    /// Cuts its power: what its kernel had not written is lost.
    pub fn cut(mut self) {
        self.daemon.kill();
    }
}
