//! Whether a runtime takes what was written: asked of the runtime itself, and seen by whoever serves it.

use std::{process::Command, time::Duration};

use super::{
    Host, Wish, containerd,
    detect::Store,
    docker,
    reload::{Reload, run},
    wish::Kind,
};

const BOUND: Duration = Duration::from_secs(30);
/// The mirror is asked first, and at once.
const PULL: Duration = Duration::from_secs(15);

/// What a pull through a runtime came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The satellite saw the runtime's request.
    Seen,
    /// It did not: the runtime went elsewhere.
    Unseen,
    /// It could not be tried, because of this.
    Untried(String),
}

/// Pulls a small image through a runtime and looks whether the satellite was asked.
pub trait Probe {
    /// `registry` is one of those that were pointed at the satellite.
    fn pull(&self, host: &Host, kind: Kind, registry: &str) -> Sight;
}

impl Host {
    /// Has a runtime pull `repository` of a registry, which nobody has: whoever serves it sees the request, and its origin
    /// says no.
    ///
    /// # Errors
    /// Why it did not come to that, in so far as is known: a failure that does not name the image says nothing about where
    /// the runtime looked for it.
    pub fn try_pull(&self, kind: Kind, registry: &str, repository: &str) -> Result<(), String> {
        let socket = || self.look(kind).socket.ok_or_else(|| format!("{kind} has no socket here"));
        let mut command = match kind {
            Kind::Docker => self.docker_at(&socket()?).map_err(|e| e.to_string())?,
            _ if !self.is_here() => return Err("it is not this process's own machine".into()),
            // Podman has no daemon: each of its commands reads the files.
            Kind::Podman => Command::new("podman"),
            Kind::K3s => {
                let mut command = Command::new("k3s");
                command.arg("crictl");
                command
            }
            Kind::Containerd | Kind::Crio | Kind::Rke2 => {
                let mut command = Command::new("crictl");
                command.args(["--image-endpoint", &format!("unix://{}", socket()?)]);
                command
            }
        };
        let image = format!("{registry}/{repository}:v1");
        judge_pull(run(command.args(["pull", &image]), PULL), repository)
    }

    /// The runtime's own check of its files, before it reads them. `Ok(false)`: it cannot be asked.
    pub(super) fn check(&self, kind: Kind, wish: Option<&Wish>) -> Result<bool, String> {
        let has = |program: &str| run(Command::new(program).arg("--version"), BOUND).is_ok();
        match kind {
            Kind::Containerd if has("containerd") && self.at(containerd::CONFIG).exists() => {
                let file = self.at(containerd::CONFIG);
                run(Command::new("containerd").arg("--config").arg(file).args(["config", "dump"]), BOUND)?;
                Ok(true)
            }
            Kind::Docker if has("dockerd") && self.at(docker::CONFIG).exists() => {
                let file = self.at(docker::CONFIG);
                match run(Command::new("dockerd").args(["--validate", "--config-file"]).arg(file), BOUND) {
                    Ok(_) => Ok(true),
                    // Before 23.0.
                    Err(said) if said.contains("unknown flag") => Ok(false),
                    Err(said) => Err(said),
                }
            }
            Kind::Podman if self.is_here() && has("podman") => {
                let said = run(Command::new("podman").args(["info", "--format", "json"]), BOUND)?;
                let sees = wish
                    .is_none_or(|w| !w.upstreams.contains_key(&kind) || said.contains(w.mirror.address()));
                if sees {
                    return Ok(true);
                }
                Err("`podman info` does not show the mirror: a registries.conf in a home directory may hide /etc/containers"
                    .into())
            }
            _ => Ok(false),
        }
    }

    /// Whether a runtime that was told to read its files anew has done so. `Ok(false)`: it cannot be asked.
    pub(super) fn check_running(&self, kind: Kind, reload: Reload, wish: &Wish) -> Result<bool, String> {
        match (kind, reload) {
            (Kind::Containerd, Reload::Restart) if self.is_here() => return plugins_load(),
            (Kind::Docker, Reload::Reload) if wish.upstreams.contains_key(&kind) => {}
            _ => return Ok(false),
        }
        let found = self.look(kind);
        let (Some(socket), Some(Store::Classic)) = (&found.socket, found.store) else { return Ok(false) };
        // It reads its file some time after the signal.
        for _ in 0..20 {
            match self.docker(socket, &["info", "--format", "{{.RegistryConfig.Mirrors}}"]) {
                Some(text) if text.contains(wish.mirror.address()) => return Ok(true),
                Some(_) => std::thread::sleep(Duration::from_millis(100)),
                None => return Ok(false),
            }
        }
        Err("`docker info` does not show the mirror: its log says why, or --registry-mirror is among its flags".into())
    }
}

/// Whether a pull of what nobody has came as far as a registry.
fn judge_pull(pulled: Result<String, String>, repository: &str) -> Result<(), String> {
    pulled.map(drop).or_else(|said| if said.contains(repository) { Ok(()) } else { Err(said) })
}

/// Whether containerd has its CRI plugins after a restart: `config dump` does not see what keeps them from loading.
fn plugins_load() -> Result<bool, String> {
    for _ in 0..100 {
        match run(Command::new("ctr").args(["plugins", "ls"]), BOUND) {
            Ok(said) => return judge_plugins(&said).map(|()| true),
            Err(e) if e.starts_with("ctr:") => return Ok(false),
            // It is still starting.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    Err("it does not answer after the restart".into())
}

/// The list of `ctr plugins ls`: TYPE ID PLATFORMS STATUS.
fn judge_plugins(said: &str) -> Result<(), String> {
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    for line in said.lines().map(words).filter(|w| w.len() >= 3) {
        let cri = line[1] == "cri" || line[0].contains(".cri.");
        if cri && line.last().is_some_and(|status| status == "error") {
            return Err(format!("its plugin {} {} does not load; its log says why", line[0], line[1]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{judge_plugins, judge_pull};

    #[test]
    fn a_plugin_of_the_cri_that_does_not_load_is_found() {
        let head = "TYPE                    ID        PLATFORMS      STATUS\nio.containerd.snapshotter.v1    aufs   linux/amd64    error\n";
        assert_eq!(judge_plugins(&format!("{head}io.containerd.grpc.v1   cri   linux/amd64   ok\n")), Ok(()));
        for line in
            ["io.containerd.grpc.v1  cri  linux/amd64  error", "io.containerd.cri.v1  images  -  error"]
        {
            assert!(judge_plugins(&format!("{head}{line}\n")).is_err(), "{line}");
        }
    }

    #[test]
    fn a_pull_that_failed_on_its_own_machine_says_nothing_about_the_mirror() {
        let judge = |said: &str| judge_pull(Err(said.into()), "satellite-probe/7");
        for said in [
            "docker (exit status: 1): pull access denied for satellite-probe/7, repository does not exist",
            "podman (exit status: 125): initializing source docker://satellite-probe/7:v1: manifest unknown",
        ] {
            assert_eq!(judge(said), Ok(()));
        }
        for said in [
            "crictl: No such file or directory (os error 2)",
            "podman did not end within 15s",
            "crictl (exit status: 1): validate service connection: permission denied",
        ] {
            assert_eq!(judge(said), Err(said.to_string()));
        }
        assert_eq!(judge_pull(Ok(String::new()), "satellite-probe/7"), Ok(()));
    }
}
