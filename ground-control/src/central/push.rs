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
/// Tags of so many later seconds are tried where those before are taken.
const MAX_SECONDS: i64 = 60;
/// Most tags that are looked at to find what is old: what is left goes with the next changes.
const MAX_PRUNED: usize = 100;
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
    token_repository: Option<Repository>,
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
        token_repository,
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

/// Publishes `json` as `latest`, unless it is that already. The tag of the time goes first: with `latest` all is done, and
/// every artifact that `latest` ever named has a tag of its own, by which [`prune`] finds it.
pub(super) async fn push(
    registry: &Registry,
    repository: &Repository,
    json: &[u8],
    stamp: i64,
) -> Result<Digest> {
    let packed = pack(json).await?;
    if resolve(registry, repository, "latest").await? == Some(packed.digest.clone()) {
        return Ok(packed.digest);
    }
    for blob in [packed.config, packed.layer] {
        upload(registry, repository, blob.into()).await?;
    }
    let manifest = Bytes::from(packed.manifest);
    let put = async |tag: &str| {
        let tag = Reference::Tag(self::tag(tag)?);
        let put = registry.put_manifest(repository, &tag, media_type::DOCKER_MANIFEST, manifest.clone());
        put.await.map_err(from_remote)
    };
    // Looked at first: a tag under an immutability rule cannot even be set to what it is; and one of the same second that
    // names something else must not be moved off it, or nothing would name that any more.
    let mut times = (0..MAX_SECONDS).map(|later| stamp.saturating_add(later).to_string());
    loop {
        let Some(time) = times.next() else {
            let text = format!("{repository}: tags of {MAX_SECONDS} seconds from {stamp} on are all taken");
            return Err(Error::transient("busy", text));
        };
        match resolve(registry, repository, &time).await? {
            Some(digest) if digest == packed.digest => break,
            Some(_) => {}
            None => {
                put(&time).await?;
                break;
            }
        }
    }
    put("latest").await?;
    Ok(packed.digest)
}

/// Deletes what was published before: by digest, what nothing names but tags of times up to `stamp`. One of another server
/// that publishes at the same time has a later one, or is `latest`; one that a person has tagged is hers. `may_refuse`: a
/// registry that deletes nothing is no failure.
pub(super) async fn prune(
    registry: &Registry,
    repository: &Repository,
    current: &Digest,
    stamp: i64,
    may_refuse: bool,
) -> Result<()> {
    let mut tags = registry.tags(repository).await.map_err(from_remote)?;
    let time = |tag: &Tag| tag.as_str().parse::<i64>().ok().filter(|at| *at <= stamp);
    // Those that keep something first, then the oldest; as many as is reasonable at once.
    tags.sort_by_key(time);
    let mut named: Vec<(Digest, bool)> = Vec::new();
    for tag in tags.iter().take(MAX_PRUNED) {
        let old = time(tag).is_some();
        let Some(digest) = resolve(registry, repository, tag.as_str()).await? else { continue };
        match named.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, all_old)) => *all_old &= old,
            None => named.push((digest, old)),
        }
    }
    for (digest, _) in named.iter().filter(|(digest, all_old)| *all_old && digest != current) {
        if !delete(registry, repository, digest, may_refuse).await? {
            break;
        }
    }
    Ok(())
}

/// `false`: this registry deletes nothing.
pub(super) async fn delete(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    may_refuse: bool,
) -> Result<bool> {
    match registry.delete_manifest(repository, digest).await {
        Ok(_) => Ok(true),
        // Held by a rule: its owner wants it kept.
        Err(error) if error.status() == Some(412) => Ok(true),
        Err(error) if may_refuse && matches!(error.status(), Some(400 | 403 | 405)) => {
            log::warn!(
                "{repository}@{digest} stays: {} deletes nothing ({error}); allow it there, or clean by hand",
                registry.host()
            );
            Ok(false)
        }
        Err(error) => Err(from_remote(error)),
    }
}

/// # Errors
/// `too_large`.
pub(super) async fn pack(json: &[u8]) -> Result<artifact::Packed> {
    let json = json.to_vec();
    // A large state takes a second to compress.
    let packed = smol::unblock(move || artifact::pack(&json)).await;
    packed.map_err(|e| Error::permanent("too_large", format!("the state cannot be packed: {e}")))
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
