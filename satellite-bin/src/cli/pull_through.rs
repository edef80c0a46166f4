//! What of `satellite serve` is about pulling through: the flags, and what they ask for.

use std::{sync::Arc, time::Duration};

use clap::Args;
use satellite_core::{
    net::Executor,
    proxy::{self, Policy, Rule},
};

use super::UpstreamArgs;
use crate::{
    control::Upstream,
    exit::{Code, Failure, Result},
    human,
    registries::Registries,
    serving::PullThrough,
};

#[derive(Args)]
pub(super) struct PullThroughArgs {
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

impl PullThroughArgs {
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

    /// What it takes to pull through.
    pub(super) fn through(
        &self,
        policy: Policy,
        upstream: Upstream,
        executor: &Executor,
    ) -> Result<PullThrough> {
        let name = proxy::loop_name();
        let connect = Arc::new(Registries::new(upstream, executor)?.named(&name));
        Ok(PullThrough { connect, name, revalidate: self.revalidate, policy })
    }
}
