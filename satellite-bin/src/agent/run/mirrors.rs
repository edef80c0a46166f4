//! Points the runtimes of this machine at the satellite.

use std::net::SocketAddr;

use crate::{
    agent::{
        cause::{Cause, Trouble},
        settings::{Config, Fallback, RegistryMode, Settings},
    },
    runtimes::{Error, Host, Kind, Mirror, Outcome, Probe, Sight, Wish},
    serving::Watch,
};

/// Applies what the settings ask for; done twice, nothing changes. `bound`: where the satellite listens. What was done, in a
/// line; `None`: all was as it should be. Blocks, for as long as a runtime takes to start anew.
///
/// # Errors
/// Codes of `runtime`: what could be done is done all the same.
pub(super) fn apply(
    config: &Config,
    bound: Option<SocketAddr>,
    watch: Option<&Watch>,
) -> Result<Option<String>, Trouble> {
    let settings = config.settings();
    let host = host(config);
    let Some(wish) = wish(&settings, bound, &host)? else { return Ok(None) };
    // A registry of the user's own tells nobody who came.
    let watched = watch.filter(|_| matches!(settings.registry, RegistryMode::Embedded(_))).map(ByWatch);
    let probe = watched.as_ref().map(|probe| probe as &dyn Probe);
    let outcome = host.apply(&wish, probe).map_err(|e| trouble(&e))?;
    let said = (!outcome.files.is_empty()).then(|| told(&outcome));
    // Noted at each look; worth a line only where something was done.
    let level = if said.is_some() { log::Level::Warn } else { log::Level::Debug };
    for note in &outcome.notes {
        log::log!(level, "runtimes: {note}");
    }
    let mut refused = outcome.refused.iter().map(|(kind, error)| of_runtime(*kind, error));
    let Some(first) = refused.next() else { return Ok(said) };
    for said in said.into_iter().chain(refused.map(|trouble| trouble.to_string())) {
        log::warn!("{said}");
    }
    Err(first)
}

/// A pull of something that nobody has, which this satellite sees or does not.
struct ByWatch<'a>(&'a Watch);

impl Probe for ByWatch<'_> {
    fn pull(&self, host: &Host, kind: Kind, registry: &str) -> Sight {
        let repository = format!("satellite-probe/{:016x}", fastrand::u64(..));
        self.0.expect(repository.clone());
        let tried = host.try_pull(kind, registry, &repository);
        match (self.0.seen(), tried) {
            (true, _) => {
                log::info!("{kind} was seen to come here for {registry}");
                Sight::Seen
            }
            (false, Ok(())) => Sight::Unseen,
            (false, Err(why)) => Sight::Untried(why),
        }
    }
}

fn told(outcome: &Outcome) -> String {
    let mut said = format!("the runtimes come here first: {} changed", outcome.files.join(", "));
    for left in outcome.runtimes.iter().filter(|r| !r.done) {
        said += &format!("; {}: {}", left.kind, left.said);
    }
    said
}

/// The machine, and where it is kept what was there before.
pub(super) fn host(config: &Config) -> Host {
    let root = config.flags().host_root.as_ref().filter(|root| !root.as_os_str().is_empty());
    Host { root: root.cloned().unwrap_or_else(|| "/".into()), state: config.dir().join("runtimes") }
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

fn of_runtime(kind: Kind, error: &Error) -> Trouble {
    Trouble::new(cause(error), format!("{kind}: {error}")).slowly()
}

fn trouble(error: &Error) -> Trouble {
    // Somebody has to mend the file, or the runtime.
    Trouble::new(cause(error), error).slowly()
}

fn cause(error: &Error) -> Cause {
    match error {
        Error::Unparsable { .. } => Cause::RUNTIME_UNPARSABLE,
        _ => Cause::RUNTIME_FAILED,
    }
}
