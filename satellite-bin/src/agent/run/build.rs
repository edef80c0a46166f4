//! Settings become the parts.

use std::{sync::Arc, time::Duration};

use satellite_core::{
    net::{Executor, client::CertificateClock},
    proxy::{Policy, loop_name},
    registry::{self, Access, Names, Rule},
    replicate::{self, Replicator},
    store::{self, ScrubOptions},
    transfer::{self, Engine},
};

use super::{
    jobs::{Agent, Parts},
    status::Gauges,
};
use crate::{
    agent::{
        audit::Audit,
        byo::OwnRegistry,
        cause::Trouble,
        center::Center,
        identity::{DeviceKey, Identity, Way},
        life::Troubles,
        report::{Events, Reporter},
        schedule::{Clock, MachineTicks},
        settings::{Config, Edge, Fallback, RegistryMode, Settings},
        state::{Options, Place, Reach, Registries, StateJob},
    },
    exit::{Code, Failure, Result},
    serving::{Live, Plan, PullThrough, Serving},
};

/// Without a byte for so long, a connection to a registry is given up.
const STALL: Duration = Duration::from_secs(60);

fn failed(trouble: Trouble) -> Failure {
    Failure::new(Code::Failed, trouble)
}

/// The agent, the store that it serves, and who mends it.
pub(super) fn build(
    config: Config,
    own_level: bool,
    executor: &Executor,
) -> Result<(Arc<Agent>, Serving, Replicator)> {
    let settings = config.settings();
    let dir = config.dir().to_path_buf();
    let clock = Arc::new(Clock::open(&dir, Arc::new(MachineTicks::new())));
    let judge = {
        let clock = clock.clone();
        CertificateClock::new(move || clock.now().into())
    };
    let center = Center::new(settings.address(), executor.clone()).map_err(failed)?;
    let center = Arc::new(center.with_clock(judge.clone()));
    let key = DeviceKey::open(&dir).map_err(failed)?;
    let way = match (&settings.spiffe.files, config.flags().token()) {
        (Some(_), _) => Way::Certificate,
        (None, Some(token)) => Way::Token(token.clone()),
        (None, None) => Way::None,
    };
    let vault = Arc::new(config.clone());
    let identity = Arc::new(Identity::new(center.clone(), vault, key, way, settings.harbor.clone()));
    let registries = |via| {
        let registries = Registries::new(identity.clone(), executor.clone(), reach(&settings), via);
        Arc::new(registries.with_clock(judge.clone()))
    };
    let (upstream, name) = (registries(None), loop_name());
    let through = registries(Some(name.clone()));
    let connect = through.clone();
    let serving = Serving::bind(
        plan(
            &settings,
            &dir,
            PullThrough {
                connect,
                name,
                revalidate: settings.edge.pull_through.revalidate,
                policy: policy(&settings.edge)?,
            },
        )?,
        executor,
    )?;

    let stall = transfer::Options { stall: STALL, ..transfer::Options::default() };
    let engine = Engine::new(serving.store.clone(), serving.context.throttle(), stall);
    let replicator = Replicator::new(engine, upstream.clone(), executor.clone());
    let place = match &settings.registry {
        RegistryMode::Embedded(_) => Place::Store(host(&serving)),
        RegistryMode::Own(own) => {
            let login = own.username.clone().zip(own.password.clone());
            let ca = settings.tls.ca.clone().into_iter().collect();
            Place::Own(
                OwnRegistry::new(&own.url, login, ca, judge.clone(), executor.clone()).map_err(failed)?,
            )
        }
    };
    let events = Events::new(clock.clone());
    let audit = Audit::new(clock.clone());
    if let Err(trouble) = audit.configure(&settings.audit) {
        log::error!("{trouble}");
    }
    let state = StateJob::new(
        dir.clone(),
        identity.clone(),
        upstream.clone(),
        replicator.clone(),
        place,
        options(&settings),
        events.clone(),
    );
    let agent = Arc::new(Agent::new(Parts {
        reporter: Reporter::new(
            center,
            identity.clone(),
            clock.clone(),
            events,
            serving.store.root().to_path_buf(),
        ),
        clock,
        audit,
        troubles: Arc::new(Troubles::default()),
        gauges: Gauges::new(&serving.metrics),
        live: serving.handle(),
        registries: [upstream, through],
        addresses: serving.addresses.clone(),
        own_level,
        identity,
        state,
        config,
    }));
    serving.context.set_agent(agent.clone());
    Ok((agent, serving, replicator))
}

/// Where clients on this machine find the store.
fn host(serving: &Serving) -> String {
    let address = serving.addresses.first().copied();
    let address = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
    if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() }
}

fn plan(settings: &Settings, dir: &std::path::Path, pull_through: PullThrough) -> Result<Plan> {
    let (listen, grace) = match &settings.registry {
        RegistryMode::Embedded(own) => (vec![own.listen], own.gc_delay),
        RegistryMode::Own(_) => (Vec::new(), Duration::ZERO),
    };
    Ok(Plan {
        data_dir: settings.store_dir(dir),
        listen,
        tls: None,
        // Anybody on the addresses it listens on may pull; nobody may change what Ground Control decides.
        access: Access { trust_loopback: false, users: None, private: false },
        settings: registry::Settings { read_only: true, ..registry::Settings::default() },
        store: store::Options { cap: settings.edge.capacity, grace, ..store::Options::default() },
        stall: STALL,
        scrub: (settings.edge.scrub.rate > 0).then(|| ScrubOptions {
            rate: settings.edge.scrub.rate,
            interval: settings.edge.scrub.interval,
            ..ScrubOptions::default()
        }),
        pull_through: Some(pull_through),
        live: live(settings)?,
    })
}

/// What of the settings may change while the store is served.
pub(super) fn live(settings: &Settings) -> Result<Live> {
    let gc_interval = match &settings.registry {
        RegistryMode::Embedded(own) => own.gc_interval.unwrap_or_default(),
        RegistryMode::Own(_) => Duration::from_secs(3600),
    };
    let names = Names::new(rules(settings)).map_err(|e| Failure::new(Code::Usage, e))?;
    Ok(Live { names, limit_rate: settings.edge.limit_rate, gc_interval })
}

/// What a runtime asks for by its origin: by the rules of the configuration; a registry that it has none for means the same
/// name here, if it is the only one. Of several, `library/app` could be any's.
fn rules(settings: &Settings) -> Vec<Rule> {
    let mut rules = settings.edge.names.clone();
    let hosts: Vec<String> = match &settings.fallback {
        Fallback::Off => Vec::new(),
        Fallback::Registries { registries, .. } => registries.clone(),
        Fallback::Mirrors(mirrors) => mirrors
            .iter()
            .filter_map(|m| m.split_once(':'))
            .flat_map(|(_, list)| list.split(','))
            // Docker's own mirror is of Docker Hub alone.
            .map(|host| if host == "true" { "docker.io".into() } else { host.to_string() })
            .filter(|host| host != "false")
            .collect(),
    };
    let mut unruled: Vec<Rule> = hosts.iter().filter_map(|host| format!("{host}=*").parse().ok()).collect();
    unruled.dedup_by(|a, b| a == b);
    unruled.sort_by(|a, b| a.host().cmp(b.host()));
    unruled.dedup();
    unruled.retain(|rule| rules.iter().all(|r| r.host() != rule.host()));
    match unruled.len() {
        0 => {}
        1 => rules.append(&mut unruled),
        _ => {
            let hosts: Vec<&str> = unruled.iter().map(Rule::host).collect();
            log::warn!(
                "images of {} are served under these names only by rules: set app_config.satellite.names, as in \
                 [\"docker.io=PROJECT\"]",
                hosts.join(", ")
            );
        }
    }
    rules
}

/// What is fetched for clients.
pub(super) fn policy(edge: &Edge) -> Result<Policy> {
    let through = &edge.pull_through;
    Policy::new(through.rules.clone(), through.default_upstream.as_deref())
        .map_err(|e| Failure::new(Code::Usage, e))
}

/// How registries are reached.
pub(super) fn reach(settings: &Settings) -> Reach {
    Reach { use_unsecure: settings.use_unsecure, ca: settings.tls.ca.clone().into_iter().collect() }
}

/// How state becomes images.
pub(super) fn options(settings: &Settings) -> Options {
    let edge = &settings.edge;
    Options {
        harbor: settings.harbor.clone(),
        replicate: replicate::Options {
            platforms: edge.platforms.clone(),
            referrers: edge.referrers,
            concurrency: edge.concurrency,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::settings::{Flags, Source, check};

    fn rules_of(mirrors: &[&str], names: &[&str]) -> Vec<String> {
        let flags = Flags {
            ground_control_url: Some("http://127.0.0.1:1".into()),
            mirrors: mirrors.iter().map(|m| (*m).to_string()).collect(),
            ..Flags::default()
        };
        let document = serde_json::json!({"app_config": {"satellite": {"names": names}}});
        let settings = check(&document, Source::File, &flags).unwrap().settings;
        rules(&settings).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_single_registry_means_the_same_names_and_of_several_none_is_guessed() {
        assert_eq!(rules_of(&["containerd:docker.io"], &[]), ["docker.io=*"]);
        assert_eq!(rules_of(&["containerd:docker.io", "docker:true"], &[]), ["docker.io=*"]);
        assert_eq!(rules_of(&["containerd:docker.io,quay.io"], &[]), [] as [&str; 0]);
        assert_eq!(
            rules_of(&["containerd:docker.io,quay.io"], &["quay.io=quay"]),
            ["quay.io=quay", "docker.io=*"]
        );
        assert_eq!(rules_of(&[], &["a.test=b"]), ["a.test=b"]);
    }
}
