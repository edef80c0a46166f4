//! Clients of registries, as the agent needs them.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use satellite_core::{
    net::{
        Executor,
        client::{CertificateClock, ClientConfig, ClientError, SurfClient, surf_client},
    },
    remote::{self, Credentials, DockerConfig, Registry, RetryPolicy, Scheme, Secret},
    replicate::Connect,
};
use url::Url;

use crate::agent::{
    cause::{Cause, Trouble},
    identity::Identity,
};

/// How registries are reached; may be replaced while the satellite runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether plain HTTP may be spoken to the account's host, where its URL says so.
    pub use_unsecure: bool,
    /// Further authorities (PEM).
    pub ca: Vec<PathBuf>,
}

/// Clients by host. The account's secret goes to the account's host alone; others get what Docker's files say.
pub struct Registries {
    identity: Arc<Identity>,
    executor: Executor,
    via: Option<String>,
    clock: Option<CertificateClock>,
    stall: Duration,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    reach: Reach,
    client: Option<SurfClient>,
    /// With the account they were made for.
    by_host: HashMap<String, (Option<(String, Secret)>, Registry)>,
}

impl Registries {
    /// Without a connection yet. `via`: what requests that are made for clients say in `Via`.
    pub fn new(identity: Arc<Identity>, executor: Executor, reach: Reach, via: Option<String>) -> Self {
        let made = Mutex::new(Made { reach, ..Made::default() });
        Self { identity, executor, via, clock: None, stall: Duration::from_secs(60), made }
    }

    /// Judges certificates by another clock than the machine's.
    #[must_use]
    pub fn with_clock(self, clock: CertificateClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// From the next request on.
    pub fn set(&self, reach: Reach) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.reach != reach {
            *made = Made { reach, ..Made::default() };
        }
    }

    fn client(&self, made: &mut Made) -> Result<SurfClient, ClientError> {
        if let Some(client) = &made.client {
            return Ok(client.clone());
        }
        let config = ClientConfig {
            extra_roots: made.reach.ca.clone(),
            first_byte_timeout: self.stall,
            clock: self.clock.clone(),
            ..ClientConfig::from_env()
        };
        let client = surf_client(config, self.executor.clone())?;
        made.client = Some(client.clone());
        Ok(client)
    }
}

impl Connect for Registries {
    fn connect(&self, host: &str) -> Result<Registry, remote::Error> {
        let account = self.identity.account();
        let url = account.as_ref().and_then(|a| a.auth.url.parse::<Url>().ok());
        let own = url.as_ref().filter(|url| host_of(url) == host);
        let login = own
            .and(account.as_ref())
            .map(|a| (a.auth.username.clone(), Secret::new(a.auth.password.as_str())));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, registry)) = made.by_host.get(host).filter(|(before, _)| *before == login) {
            return Ok(registry.clone());
        }
        let scheme = match own.map(Url::scheme) {
            Some("http") if made.reach.use_unsecure => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => Scheme::Auto,
        };
        let options = remote::Options {
            scheme,
            credentials: match login.clone() {
                Some((user, password)) => Credentials::Password { user, password },
                None => Credentials::Docker(DockerConfig::from_env()),
            },
            via: self.via.clone(),
            stall_timeout: self.stall,
            retry: RetryPolicy::default(),
            ..remote::Options::default()
        };
        let client = self.client(&mut made).map_err(|cause| remote::Error::Transport {
            host: host.into(),
            object: "TLS".into(),
            cause: Box::new(cause),
        })?;
        let registry = Registry::new(host, options, client)?;
        made.by_host.insert(host.into(), (login, registry.clone()));
        Ok(registry)
    }
}

/// `HOST[:PORT]` of a URL, as image references spell it.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    }
}

/// What a registry's refusal means. Nothing it says makes this satellite forget who it is or what it holds: Harbor
/// answers 401 also while its database is down.
pub(super) fn trouble(object: &str, error: &remote::Error) -> Trouble {
    let cause = match error {
        e if e.is_unauthorized() || e.status() == Some(403) => Cause::REGISTRY_UNAUTHORIZED,
        e if e.is_not_found() => Cause::REGISTRY_NOT_FOUND,
        remote::Error::Digest { .. } => Cause::STATE_DIGEST_LIES,
        remote::Error::TooLarge { .. } => Cause::STATE_TOO_LARGE,
        _ => Cause::REGISTRY_UNREACHABLE,
    };
    let trouble = Trouble::new(cause, format!("{object}: {error}"));
    Trouble { retry_after: error.retry_after(), ..trouble }
}
