//! Points the runtimes of this machine at the satellite.

use std::{net::SocketAddr, path::Path};

use crate::{
    agent::{
        cause::{Cause, Trouble},
        settings::{Config, Fallback, RegistryMode, Settings},
    },
    runtimes::{Error, Host, Kind, Mirror, Wish},
};

/// Applies what the settings ask for; done twice, nothing changes. `bound`: where the satellite listens. What was done, in a
/// line. Blocks, for as long as a runtime takes to start anew.
///
/// # Errors
/// Codes of `runtime`.
pub(super) fn apply(config: &Config, bound: Option<SocketAddr>) -> Result<String, Trouble> {
    let settings = config.settings();
    let host = host(config.dir());
    let Some(wish) = wish(&settings, bound, &host)? else { return Ok("no runtime is to be changed".into()) };
    let outcome = host.apply(&wish, None).map_err(|e| trouble(&e))?;
    if outcome.files.is_empty() {
        return Ok("the runtimes are as they should be".into());
    }
    Ok(format!("the runtimes come here first: {} changed", outcome.files.join(", ")))
}

/// The machine, and where it is kept what was there before.
pub(super) fn host(dir: &Path) -> Host {
    Host { root: "/".into(), state: dir.join("runtimes") }
}

fn wish(settings: &Settings, bound: Option<SocketAddr>, host: &Host) -> Result<Option<Wish>, Trouble> {
    let url = match &settings.registry {
        RegistryMode::Own(own) => own.url.to_string(),
        RegistryMode::Embedded(own) => {
            let address = bound.unwrap_or(own.listen);
            let ip =
                if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
            format!("http://{ip}:{}", address.port())
        }
    };
    let bad = |e: &dyn std::fmt::Display| Trouble::new(Cause::RUNTIME_FAILED, e).slowly();
    let mirror: Mirror = url.trim_end_matches('/').parse().map_err(|e| bad(&e))?;
    let mut wish = Wish::new(mirror);
    match &settings.fallback {
        Fallback::Off => return Ok(None),
        Fallback::Mirrors(mirrors) => {
            for text in mirrors {
                wish.add(text).map_err(|e| bad(&e))?;
            }
        }
        Fallback::Registries { registries, runtimes } => {
            let found: Vec<Kind> = host.detect().iter().map(|f| f.kind).collect();
            let kinds = if runtimes.is_empty() { &found } else { runtimes };
            for kind in kinds.iter().filter(|kind| found.contains(kind)) {
                for registry in registries {
                    // Docker Hub is all that Docker's mirrors are of.
                    if *kind == Kind::Docker && registry != "docker.io" {
                        continue;
                    }
                    wish.add_registry(*kind, registry).map_err(|e| bad(&e))?;
                }
            }
        }
    }
    Ok(Some(wish))
}

fn trouble(error: &Error) -> Trouble {
    let cause = match error {
        Error::Unparsable { .. } => Cause::RUNTIME_UNPARSABLE,
        _ => Cause::RUNTIME_FAILED,
    };
    // Somebody has to mend the file, or the runtime.
    Trouble::new(cause, error).slowly()
}
