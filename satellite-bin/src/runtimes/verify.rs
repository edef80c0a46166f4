//! Whether a runtime takes what was written: asked of the runtime itself, and seen by whoever serves it.

use std::{process::Command, time::Duration};

use super::{Host, Wish, containerd, detect::Store, docker, reload::run, wish::Kind};

const BOUND: Duration = Duration::from_secs(30);

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
    pub(super) fn check_running(&self, kind: Kind, wish: &Wish) -> Result<bool, String> {
        if kind != Kind::Docker || !wish.upstreams.contains_key(&kind) {
            return Ok(false);
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
