//! The client of OCI registries (OCI Distribution 1.1), made against Harbor, Docker Hub and CNCF distribution as they
//! really answer.
//!
//! [`Registry`] is one registry as one account. It does the `WWW-Authenticate` dance, follows redirects without
//! leaking credentials, retries what may be retried, and times out on lack of progress only, never on length. Bytes
//! of manifests are checked against their digest here; bytes of blobs are not, for they are checked where they are
//! written.
//!
//! | file | does |
//! |---|---|
//! | `manifest`, `blob`, `list`, `upload` | one chapter of the specification each |
//! | `auth` | which `Authorization` goes with a request, and what to do on a 401 |
//! | `token` | token services |
//! | `challenge`, `scope`, `link`, `retry` | pure: grammar and arithmetic |
//! | `credentials` | where user names and passwords come from |
//! | `wire` | one request, one answer, over `surf` |
//! | `call` | a request of ours through redirects, authorisation and retries |

mod auth;
mod blob;
mod call;
mod challenge;
mod credentials;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod link;
mod list;
mod manifest;
mod retry;
mod scope;
mod secret;
mod token;
mod upload;
mod wire;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use url::Url;

pub use blob::BlobStream;
pub use credentials::{Credentials, DockerConfig};
pub use error::Error;
pub use manifest::{Fetched, ManifestHead, Pushed};
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use upload::{Mounted, UploadOptions, UploadSession};

use auth::Auth;
use wire::Wire;

use crate::oci::Repository;

/// `Result` of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// How a registry is to be used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether plain HTTP may be spoken.
    pub scheme: Scheme,
    /// Who we are there.
    pub credentials: Credentials,
    /// `User-Agent`.
    pub user_agent: String,
    /// What we call ourselves in `Via` (RFC 9110 §7.6.3), where requests are made for others.
    pub via: Option<String>,
    /// What happens when the registry or the link fails.
    pub retry: RetryPolicy,
    /// Longest time that a body may make no progress. There is no limit on the whole.
    pub stall_timeout: Duration,
    /// Longest wait for the answer to the request that closes a push: the registry may copy the blob meanwhile.
    pub commit_timeout: Duration,
    /// How long to wait after a 401 to good-looking credentials before asking once more. Harbor refuses right
    /// passwords, too, for 1.5 s after a wrong one.
    pub login_freeze: Duration,
    /// Tokens are asked for this repository, with all actions, whatever repository is meant: for registries whose tokens
    /// open more than the repository they name. Harbor's open its whole project, and each costs it a password's hash.
    pub token_repository: Option<Repository>,
}

/// Which scheme a registry is spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scheme {
    /// HTTPS, but plain HTTP for loopback.
    #[default]
    Auto,
    /// HTTPS, also for loopback.
    Https,
    /// Plain HTTP, passwords included: only when someone asked for it.
    Http,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scheme: Scheme::Auto,
            credentials: Credentials::Anonymous,
            user_agent: concat!("satellite/", env!("CARGO_PKG_VERSION")).into(),
            via: None,
            retry: RetryPolicy::default(),
            stall_timeout: Duration::from_secs(60),
            commit_timeout: Duration::from_secs(300),
            login_freeze: Duration::from_secs(2),
            token_repository: None,
        }
    }
}

/// One registry as one account. Clones share connections, tokens and what was learned about it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    /// As people name it: `docker.io`.
    host: String,
    /// Scheme, host and port, path `/`.
    base: Url,
    options: Options,
    wire: Wire,
    auth: Auth,
    etags: blob::Etags,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({})", self.0.base)
    }
}

impl Registry {
    /// The registry at `host` (`HOST` or `HOST:PORT`; `docker.io` is Docker Hub). Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Host`] if that is no host.
    pub fn new(host: &str, options: Options, client: surf::Client) -> Result<Self> {
        let bad = || Error::Host { host: host.chars().take(160).collect() };
        let real = match host {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let plausible =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if !real.bytes().all(plausible) {
            return Err(bad());
        }
        let https = Url::parse(&format!("https://{real}/")).map_err(|_| bad())?;
        let plain = match options.scheme {
            Scheme::Auto => is_loopback(&https),
            Scheme::Https => false,
            Scheme::Http => true,
        };
        // Parsed anew: a port that is the default of one scheme is not of the other.
        let base = if plain { Url::parse(&format!("http://{real}/")).map_err(|_| bad())? } else { https };
        let wire = Wire::new(client, options.user_agent.clone(), options.stall_timeout);
        let one_token = options.token_repository.is_some();
        let auth =
            Auth::new(host, base.clone(), options.credentials.clone(), options.login_freeze, one_token);
        let host = host.to_string();
        Ok(Self(Arc::new(Inner { host, base, options, wire, auth, etags: blob::Etags::default() })))
    }

    /// The host as given to [`new`](Self::new).
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Scheme, host and port.
    pub fn base(&self) -> &Url {
        &self.0.base
    }

    /// Whether the registry answers and takes our credentials (`GET /v2/`), asked anew and not by a token from
    /// before. Harbor's token service does not refuse a wrong password where a scope is asked for, so this is the way
    /// to test one.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for a refusal, which by itself does not mean that the account is gone: Harbor says
    /// the same when its database is down.
    pub async fn check(&self) -> Result<()> {
        self.0.auth.forget();
        let call = self.call(surf::http::Method::Get, "", "", scope::Scopes::none());
        self.run_for(&call, &[200]).await?.drain().await;
        Ok(())
    }
}

/// `localhost`, `127.0.0.0/8`, `::1`.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// A URL that the registry gave us for itself. Behind a TLS proxy it may believe that it is spoken to in plain HTTP;
/// we know better, and must not be led there.
fn keep_tls(base: &Url, mut given: Url) -> Url {
    let same_host = given.host_str() == base.host_str();
    let same_port = given.port() == base.port() || (given.port().is_none() && base.port().is_none());
    if base.scheme() == "https" && given.scheme() == "http" && same_host && same_port {
        let _ = given.set_scheme("https");
    }
    given
}

#[cfg(test)]
mod tests;
