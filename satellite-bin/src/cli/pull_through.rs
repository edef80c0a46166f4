//! What of `satellite serve` is about pulling through: the flags, the proxy they make, and its numbers.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clap::Args;
use satellite_core::{
    net::Executor,
    proxy::{self, Counters, Policy, Proxy, Rule},
    registry::{Gauge, Metrics},
    store::Store,
    transfer::{self, Engine, Throttle},
};

use super::UpstreamArgs;
use crate::{
    control::Upstream,
    exit::{Code, Failure, Result},
    human,
    registries::Registries,
};

#[derive(Args)]
pub(super) struct PullThrough {
    /// Fetch what clients ask for and is not here, if this allows it: HOST, HOST/REPOSITORY or HOST/REPOSITORY:TAG,
    /// with * for anything but / and ** for anything, e.g. docker.io/library/* or harbor.example/edge/**. May be given
    /// more than once; what no rule allows is not fetched
    #[arg(long, value_name = "RULE")]
    pull_through: Vec<Rule>,
    /// The host whose repositories are meant by clients that name none
    #[arg(long, requires = "pull_through", value_name = "HOST")]
    default_upstream: Option<String>,
    /// Look a tag up anew when it was last looked up longer ago; if the upstream is away it is served as it is
    #[arg(long, default_value = "5m", value_parser = human::parse_duration, value_name = "TIME")]
    revalidate: Duration,
}

impl PullThrough {
    /// What the command line asks for, or what is wrong with it; nothing is touched.
    pub(super) fn policy(&self, upstream: &UpstreamArgs) -> Result<Option<Policy>> {
        if self.pull_through.is_empty() {
            return Ok(None);
        }
        let policy = Policy::new(self.pull_through.clone(), self.default_upstream.as_deref())
            .map_err(|e| Failure::new(Code::Usage, e))?;
        if upstream.username.is_some() && policy.hosts().len() > 1 {
            return Err(Failure::new(
                Code::Usage,
                "--username is for one upstream, and the rules name several: let Docker's config.json have the passwords",
            ));
        }
        Ok(Some(policy))
    }

    /// The pull-through into `store`.
    pub(super) fn proxy(
        &self,
        policy: Policy,
        store: &Store,
        throttle: Arc<Throttle>,
        upstream: Upstream,
        executor: &Executor,
    ) -> Result<Proxy> {
        let name = proxy::loop_name();
        let options = transfer::Options { stall: upstream.stall(), ..transfer::Options::default() };
        let engine = Engine::new(store.clone(), throttle, options);
        let connect = Arc::new(Registries::new(upstream, executor)?.named(&name));
        let options = proxy::Options { revalidate: self.revalidate, ..proxy::Options::default() };
        Ok(Proxy::new(engine, connect, executor.clone(), policy, options, &name))
    }
}

/// The proxy's counters among the metrics.
pub(super) struct ProxyGauges {
    counters: Arc<Counters>,
    gauges: [(Gauge, Read); 6],
}

type Read = fn(&Counters) -> u64;

impl ProxyGauges {
    pub(super) fn new(metrics: &Metrics, counters: Arc<Counters>) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(&format!("pull_through_{name}"), help);
        Self {
            counters,
            gauges: [
                (gauge("fetched", "Manifests and blobs fetched for clients"), |c| {
                    c.fetched.load(Ordering::Relaxed)
                }),
                (gauge("unchanged", "Tags looked up upstream that had not changed"), |c| {
                    c.unchanged.load(Ordering::Relaxed)
                }),
                (gauge("stale", "Tags served as they are, the upstream being away"), |c| {
                    c.stale.load(Ordering::Relaxed)
                }),
                (gauge("denied", "Requests that no rule allows"), |c| c.denied.load(Ordering::Relaxed)),
                (gauge("failed", "Requests that could not be satisfied"), |c| {
                    c.failed.load(Ordering::Relaxed)
                }),
                (gauge("received_bytes", "Bytes of blobs fetched for clients"), |c| {
                    c.received.load(Ordering::Relaxed)
                }),
            ],
        }
    }

    pub(super) fn refresh(&self) {
        for (gauge, read) in &self.gauges {
            gauge.set(i64::try_from(read(&self.counters)).unwrap_or(i64::MAX));
        }
    }
}
