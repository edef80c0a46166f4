//! A state artifact into a registry by the Distribution API, as Harbor and any other registry take it.

use std::{future::Future, io, time::Duration};

use async_io::Timer;
use bytes::Bytes;
use futures_lite::{future, stream};
use satellite_core::{
    fleet::artifact,
    net::{client::SurfClient, message::ByteStream},
    oci::{Digest, Reference, Repository, Tag, media_type},
    remote::{self, Credentials, Options, Registry, RetryPolicy, Scheme, Secret, UploadOptions},
};
use url::Url;

use super::{Error, Result};

/// Longest time for one state to be published.
pub(super) const PUBLISH: Duration = Duration::from_secs(180);
/// Longest time for a tag to be looked up.
pub(super) const RESOLVE: Duration = Duration::from_secs(60);

/// `scheme://host[:port]`.
///
/// # Errors
/// `config`.
pub(super) fn base_url(text: &str) -> Result<Url> {
    let bad = |why: &str| Error::permanent("config", format!("{text:?} is no address of a registry: {why}"));
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("it must begin with https:// or http:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted back: it holds a password.
        return Err(Error::permanent("config", "the registry's address must not hold a name or password"));
    }
    if !bare {
        return Err(bad("nothing may follow the host and port"));
    }
    Ok(url)
}

/// A client of the registry there, as one account.
pub(super) fn registry(
    base: &Url,
    user: String,
    password: Secret,
    login_freeze: Duration,
    client: SurfClient,
) -> Result<Registry> {
    let options = Options {
        scheme: if base.scheme() == "http" { Scheme::Http } else { Scheme::Https },
        credentials: Credentials::Password { user, password },
        user_agent: concat!("ground-control/", env!("CARGO_PKG_VERSION")).into(),
        // Whoever calls tries again later anyway.
        retry: RetryPolicy { attempts: 2, base: Duration::from_millis(500), ..RetryPolicy::default() },
        stall_timeout: Duration::from_secs(30),
        commit_timeout: Duration::from_secs(60),
        login_freeze,
        ..Options::default()
    };
    let host = &base[url::Position::BeforeHost..url::Position::AfterPort];
    Registry::new(host, options, client).map_err(|e| Error::permanent("config", e.to_string()))
}

/// # Errors
/// `name`.
pub(super) fn repository(name: &str) -> Result<Repository> {
    name.parse().map_err(|e: satellite_core::oci::NameError| Error::permanent("name", e.to_string()))
}

/// Ends with a `timeout` after `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = async {
        Timer::after(limit).await;
        Err(Error::transient("timeout", format!("the registry took longer than {} s", limit.as_secs())))
    };
    future::or(work, late).await
}

/// Publishes `json` as `latest`, unless it is that already. The tag of the time goes first: with `latest` all is done.
pub(super) async fn push(
    registry: &Registry,
    repository: &Repository,
    json: &[u8],
    stamp: i64,
) -> Result<Digest> {
    let packed = pack(json)?;
    if resolve(registry, repository, "latest").await? == Some(packed.digest.clone()) {
        return Ok(packed.digest);
    }
    for blob in [packed.config, packed.layer] {
        upload(registry, repository, blob.into()).await?;
    }
    let manifest = Bytes::from(packed.manifest);
    for tag in [stamp.to_string(), "latest".into()] {
        // Looked at first: a tag under an immutability rule cannot even be set to what it is.
        if resolve(registry, repository, &tag).await? == Some(packed.digest.clone()) {
            continue;
        }
        let tag = Reference::Tag(self::tag(&tag)?);
        let put = registry.put_manifest(repository, &tag, media_type::DOCKER_MANIFEST, manifest.clone());
        put.await.map_err(from_remote)?;
    }
    Ok(packed.digest)
}

/// # Errors
/// `too_large`.
pub(super) fn pack(json: &[u8]) -> Result<artifact::Packed> {
    artifact::pack(json)
        .map_err(|e| Error::permanent("too_large", format!("the state cannot be packed: {e}")))
}

/// # Errors
/// `name`.
pub(super) fn tag(name: &str) -> Result<Tag> {
    name.parse().map_err(|e: satellite_core::oci::NameError| Error::permanent("name", e.to_string()))
}

async fn upload(registry: &Registry, repository: &Repository, bytes: Bytes) -> Result<()> {
    let digest = Digest::sha256(&bytes);
    let size = bytes.len() as u64;
    if registry.head_blob(repository, &digest).await.map_err(from_remote)? == Some(size) {
        return Ok(());
    }
    let source = move |offset: u64| {
        let rest = usize::try_from(offset).ok().filter(|o| *o <= bytes.len()).map(|o| bytes.slice(o..));
        async move {
            let rest = rest.ok_or(io::ErrorKind::InvalidInput)?;
            Ok(Box::pin(stream::once(Ok(rest))) as ByteStream)
        }
    };
    let pushed = registry.upload_blob(repository, &digest, size, source, UploadOptions::default());
    pushed.await.map_err(from_remote)
}

/// What a tag names; `None` if it, or the repository, is not there.
pub(super) async fn resolve(
    registry: &Registry,
    repository: &Repository,
    tag: &str,
) -> Result<Option<Digest>> {
    let reference = Reference::Tag(self::tag(tag)?);
    match registry.head_manifest(repository, &reference).await {
        Ok(head) => Ok(head.digest),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(from_remote(error)),
    }
}

/// The client's error as ours.
#[expect(clippy::needless_pass_by_value, reason = "called by map_err")]
pub(super) fn from_remote(error: remote::Error) -> Error {
    let text = error.to_string();
    let status = error.status();
    let code = match &error {
        remote::Error::Status { code, .. } => code.as_deref().unwrap_or_default(),
        _ => "",
    };
    let ours = match (status, code) {
        (Some(401), _) => Error::transient("unauthorized", text),
        (Some(403), "DENIED") if text.contains("read only") => Error::transient("read_only", text),
        (Some(403), "DENIED") if text.contains("exceed") => Error::permanent("quota", text),
        (Some(403), _) => Error::permanent("forbidden", text),
        (Some(404), _) => Error::permanent("not_found", text),
        (Some(405), _) | (_, "UNSUPPORTED") => Error::permanent("unsupported", text),
        (Some(412), _) => Error::permanent("immutable", text),
        (Some(408 | 425 | 429), _) => Error::transient("busy", text),
        (Some(500..), _) => Error::transient("ill", text),
        (Some(_), _) => Error::permanent("refused", text),
        (None, _) if error.is_retryable() => Error::transient("unreachable", text),
        (None, _) => match error {
            remote::Error::Transport { .. } => Error::permanent("untrusted", text),
            remote::Error::Token { .. } => Error::transient("unauthorized", text),
            _ => Error::permanent("protocol", text),
        },
    };
    match status {
        Some(status) => ours.with_status(status),
        None => ours,
    }
}
