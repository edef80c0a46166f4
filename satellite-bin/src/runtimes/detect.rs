//! Which runtimes are here: by their programs, their sockets and their files.

use std::{fs, process::Command, time::Duration};

use serde::Serialize;

use super::{Host, containerd, docker, files, registries_conf, reload::run, wish::Kind};

/// Where Docker has its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// Its own: mirrors are of docker.io alone.
    Classic,
    /// containerd's: since 28 any registry has a `hosts.toml`.
    Containerd,
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Which.
    pub kind: Kind,
    /// What it says of itself, as it says it (`1.6.20~ds1`); `None` if it was not to be asked.
    pub version: Option<String>,
    /// Its socket, if there is one.
    pub socket: Option<String>,
    /// The file that is or would be changed.
    pub config: String,
    /// Docker's store.
    pub store: Option<Store>,
}

impl Found {
    /// The first number of its version.
    pub fn major(&self) -> Option<u32> {
        let version = self.version.as_deref()?.trim_start_matches('v');
        version.split('.').next()?.parse().ok()
    }
}

/// Programs, sockets, the file, and a directory that is there only if the runtime is.
type Traces = (&'static [&'static str], &'static [&'static str], &'static str);

fn traces(kind: Kind) -> Traces {
    match kind {
        Kind::Containerd => (&["containerd"], &["/run/containerd/containerd.sock"], containerd::CONFIG),
        Kind::Docker => (&["dockerd"], &["/run/docker.sock", "/var/run/docker.sock"], docker::CONFIG),
        Kind::Podman => (&["podman"], &["/run/podman/podman.sock"], registries_conf::MAIN),
        Kind::Crio => (&["crio"], &["/run/crio/crio.sock"], registries_conf::MAIN),
        Kind::K3s => (&["k3s"], &["/run/k3s/containerd/containerd.sock"], "/etc/rancher/k3s/registries.yaml"),
        Kind::Rke2 => (&["rke2"], &[], "/etc/rancher/rke2/registries.yaml"),
    }
}

impl Host {
    /// The runtimes of this machine.
    pub fn detect(&self) -> Vec<Found> {
        let found = Kind::ALL.into_iter().filter(|kind| {
            let (programs, sockets, config) = traces(*kind);
            let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/opt/rke2/bin"];
            programs.iter().any(|p| dirs.iter().any(|dir| self.at(&format!("{dir}/{p}")).is_file()))
                || sockets.iter().any(|s| self.at(s).exists())
                // The files of Podman and CRI-O are in one place: they tell nothing.
                || !matches!(kind, Kind::Podman | Kind::Crio) && self.at(config).exists()
        });
        found.map(|kind| self.look(kind)).collect()
    }

    /// What can be said of a runtime, whether it is here or not.
    pub fn look(&self, kind: Kind) -> Found {
        let (programs, sockets, config) = traces(kind);
        let socket = sockets.iter().find(|s| self.at(s).exists()).map(ToString::to_string);
        let version = self.is_here().then(|| programs.iter().find_map(|p| version(p))).flatten();
        let mut found = Found { kind, version, socket, config: config.into(), store: None };
        if kind == Kind::Docker {
            let asked = found
                .socket
                .as_deref()
                .and_then(|s| self.docker(s, &["version", "--format", "{{.Server.Version}}"]));
            found.version = asked.map(|text| text.trim().to_string()).or(found.version);
            found.store = Some(self.docker_store(found.socket.as_deref()));
        }
        found
    }

    /// What a running dockerd answers.
    pub(super) fn docker(&self, socket: &str, arguments: &[&str]) -> Option<String> {
        run(self.docker_at(socket).ok()?.args(arguments), Duration::from_secs(10)).ok()
    }

    /// `docker`, for the dockerd at this socket.
    pub(super) fn docker_at(&self, socket: &str) -> std::io::Result<Command> {
        // Socket addresses are short: where a link leads is shorter than a path through it.
        let path = fs::canonicalize(self.at(socket))?;
        let mut command = Command::new("docker");
        command.args(["-H", &format!("unix://{}", path.display())]);
        Ok(command)
    }

    fn docker_store(&self, socket: Option<&str>) -> Store {
        // Who runs knows best.
        if let Some(socket) = socket
            && let Some(said) = self.docker(socket, &["info", "--format", "{{.DriverStatus}}"])
        {
            let containerd = said.contains("io.containerd.snapshotter");
            return if containerd { Store::Containerd } else { Store::Classic };
        }
        let text = files::read(&self.at(docker::CONFIG)).ok().flatten();
        match docker::containerd_store(text.as_deref()) {
            Ok(Some(true)) => Store::Containerd,
            _ => Store::Classic,
        }
    }
}

fn version(program: &str) -> Option<String> {
    let said = run(Command::new(program).arg("--version"), Duration::from_secs(10)).ok()?;
    let mut words = said.split_whitespace().map(|w| w.trim_end_matches(',').trim_start_matches('v'));
    words.find(|w| w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('.')).map(str::to_string)
}
