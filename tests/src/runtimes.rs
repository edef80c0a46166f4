//! Real container runtimes, started by the scripts that the projects share beside their checkouts.

use crate::dir::Dir;
use crate::process::{Finished, run};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the scripts are: `SATELLITE_RUNTIMES`, or `../shared/runtimes` beside the checkout; `None` if they are not.
pub fn scripts() -> Option<PathBuf> {
    let dir = std::env::var_os("SATELLITE_RUNTIMES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/runtimes"), PathBuf::from);
    dir.join("make-image.sh").is_file().then_some(dir)
}

/// The scripts, if they and every one of these programs are here and we are root; else says loudly what is missing.
pub fn needs(test: &str, programs: &[&str]) -> Option<PathBuf> {
    let missing: Vec<_> = programs.iter().filter(|program| !crate::has(program)).collect();
    let found = scripts();
    if !missing.is_empty() {
        crate::skip(test, &format!("missing programs {missing:?}; tests/install gets them"));
    } else if found.is_none() {
        crate::skip(test, "no ../shared/runtimes beside the checkout, and SATELLITE_RUNTIMES is not set");
    } else if !rustix::process::getuid().is_root() {
        crate::skip(test, "containers need root here");
    } else {
        return found;
    }
    None
}

/// A runtime with all its state in a directory of its own. Dropping it stops it, and what it runs.
#[derive(Debug)]
pub struct Runtime {
    scripts: PathBuf,
    facts: BTreeMap<String, String>,
    dir: Dir,
}

impl Runtime {
    /// A containerd; facts are `socket`, `certs_d` and others.
    pub fn containerd(scripts: &Path) -> Self {
        Self::start(scripts, "start-containerd.sh", &[])
    }

    /// A podman service; facts are `podman`, `in_ns`, `etc_containers` and others.
    pub fn podman(scripts: &Path) -> Self {
        Self::start(scripts, "start-podman.sh", &[])
    }

    /// A dockerd with the script's flags; facts are `socket`, `config`, `etc_docker` and others.
    pub fn docker(scripts: &Path, flags: &[&OsStr]) -> Self {
        Self::start(scripts, "start-dockerd.sh", flags)
    }

    /// A front of 127.0.0.1:`backend` at 127.0.0.1:`port`, which speaks TLS with this certificate and key.
    pub fn tls_front(scripts: &Path, port: u16, backend: u16, certificate: &Path, key: &Path) -> Self {
        let (port, backend) = (port.to_string(), backend.to_string());
        let flags: [&OsStr; 5] =
            [port.as_ref(), backend.as_ref(), "--tls".as_ref(), certificate.as_ref(), key.as_ref()];
        Self::start(scripts, "start-wire.sh", &flags)
    }

    /// Runtimes that start at the same time get into each other's way, over the lock of the packet filter for one: what ends
    /// while it starts is started once more, and a third time.
    fn start(scripts: &Path, script: &str, flags: &[&OsStr]) -> Self {
        for left in (0..3).rev() {
            let dir = Dir::new();
            let mut runtime = Self { scripts: scripts.into(), facts: BTreeMap::new(), dir };
            let mut command = Command::new(scripts.join(script));
            let done = run(command.arg(runtime.dir.path()).args(flags), Duration::from_secs(120));
            if done.code != Some(0) && left > 0 {
                let log = std::fs::read_to_string(runtime.dir.join("dockerd.log")).unwrap_or_default();
                eprintln!("{done}\n{}", log.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
                continue;
            }
            runtime.facts = facts(&done.ok());
            return runtime;
        }
        unreachable!("the last try panics")
    }

    /// Something the start script said.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", self.facts))
    }

    /// The directory with all of its state.
    pub fn state(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `docker` against this dockerd.
    pub fn docker_run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        let socket = format!("unix://{}", self.fact("socket"));
        run(Command::new("docker").args(["-H", &socket]).args(args), Duration::from_secs(120))
    }

    /// Runs `ctr` against this containerd.
    pub fn ctr<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        run(Command::new("ctr").args(["-a", self.fact("socket")]).args(args), Duration::from_secs(120))
    }

    /// Runs this podman.
    pub fn podman_run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        run(Command::new(self.fact("podman")).args(args), Duration::from_secs(120))
    }

    /// Tells containerd where pulls of `host` go: only to `mirror`.
    pub fn containerd_mirror(&self, host: &str, mirror: &str) {
        let dir = Path::new(self.fact("certs_d")).join(host);
        std::fs::create_dir_all(&dir).expect("the directory of a host");
        let text =
            format!("server = \"{mirror}\"\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        std::fs::write(dir.join("hosts.toml"), text).expect("hosts.toml");
    }

    /// Tells podman where pulls of `host` go: only to `mirror`, which has no scheme.
    pub fn podman_mirror(&self, host: &str, mirror: &str) {
        let dir = Path::new(self.fact("etc_containers")).join("registries.conf.d");
        let text = format!(
            "[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\nblocked = true\n\
             [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        );
        std::fs::write(dir.join("50-satellite.conf"), text).expect("the drop-in");
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let stopped =
            run(Command::new(self.scripts.join("stop.sh")).arg(self.dir.path()), Duration::from_secs(60));
        if stopped.code != Some(0) || std::thread::panicking() {
            eprintln!("{stopped}");
        }
    }
}

/// Makes a small runnable image of Debian's busybox in `dir` and pushes it by skopeo; gives its digest.
pub fn make_image(scripts: &Path, dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(scripts.join("make-image.sh"));
    let line = run(command.arg(dir).args(arguments), Duration::from_secs(120)).ok();
    facts(&line).remove("digest").expect("the digest of the image")
}

fn facts(line: &str) -> BTreeMap<String, String> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}
