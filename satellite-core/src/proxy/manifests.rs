//! What a reference names now: looked up upstream where it must be, else as it is here.

use std::sync::Arc;

use super::{Counters, Inner, flight::Progress};
use crate::{
    oci::{Digest, Manifest, Reference, Repository, Tag},
    remote::{self, Fetched},
    store::{self, Cached, ManifestInfo, Put, Sparse},
};

/// Largest config that is waited for before its manifest is answered; of a larger one, the first byte.
const MAX_CONFIG: u64 = 1 << 20;

/// What a look upstream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It names this manifest, which is in the store now.
    Found(Digest),
    /// What is here is still it.
    Unchanged,
    /// There is no such thing.
    Absent,
    /// It could not be found out.
    Failed,
}

impl Inner {
    pub(super) async fn manifest(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        reference: &Reference,
        whole: bool,
    ) -> Option<ManifestInfo> {
        if !self.may(host, repository, reference).await {
            Counters::add(&self.counters.denied, 1);
            return None;
        }
        let info = match reference {
            Reference::Tag(tag) => self.by_tag(host, repository, tag).await,
            Reference::Digest(_) => match self.here(repository, reference) {
                Some(info) => Some(info),
                None => match self.look(host, repository, reference, None).await {
                    Look::Found(digest) => self.here(repository, &Reference::Digest(digest)),
                    _ => None,
                },
            },
        };
        let info = match info {
            Some(info) if !whole || self.is_coming(host, repository, &info).await => Some(info),
            _ => None,
        };
        if info.is_none() {
            Counters::add(&self.counters.failed, 1);
        }
        info
    }

    /// Whether the policy allows it. Where only some tags are allowed, a digest must be named by what is here.
    async fn may(&self, host: &str, repository: &Repository, reference: &Reference) -> bool {
        if self.policy().allows_reference(host, repository, reference) {
            return true;
        }
        match reference {
            Reference::Digest(digest) if self.policy().allows(host, repository).is_some() => {
                self.here(repository, reference).is_some() || self.naming(repository, digest).await.is_some()
            }
            _ => false,
        }
    }

    /// A manifest that is in the store with its bytes.
    fn here(&self, repository: &Repository, reference: &Reference) -> Option<ManifestInfo> {
        let info = self.logged(self.store().manifest(repository, reference))??;
        self.logged(self.store().manifest_bytes(&info))?.map(|_| info)
    }

    /// A failure of the store is one line in the log and a miss for the client.
    pub(super) fn logged<T>(&self, result: store::Result<T>) -> Option<T> {
        result.map_err(|e| log::error!("pull-through: {e}")).ok()
    }

    async fn by_tag(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        tag: &Tag,
    ) -> Option<ManifestInfo> {
        let known = self.logged(self.store().cached_tag(repository, host, tag))?;
        let known = known.and_then(|digest| self.here(repository, &Reference::Digest(digest)));
        if known.is_some() && self.is_fresh(host, repository, tag) {
            return known;
        }
        let look = if self.is_away(host) {
            Look::Failed
        } else {
            let digest = known.as_ref().map(|info| info.digest.clone());
            self.look(host, repository, &Reference::Tag(tag.clone()), digest).await
        };
        match look {
            Look::Found(digest) => self.here(repository, &Reference::Digest(digest)),
            Look::Unchanged => known,
            Look::Absent => None,
            Look::Failed => known.inspect(|_| Counters::add(&self.counters.stale, 1)),
        }
    }

    /// Looks upstream, together with all who ask for the same, as long as a client can wait.
    async fn look(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        reference: &Reference,
        known: Option<Digest>,
    ) -> Look {
        if self.is_away(host) {
            return Look::Failed;
        }
        let stale = known.is_some();
        let name = format!("{host}/{repository} {reference}");
        let (flight, first) = self.looks.join(&name);
        if first {
            let (this, flight) = (self.clone(), flight.clone());
            let (host, repository, reference) = (host.to_string(), repository.clone(), reference.clone());
            self.executor
                .spawn(async move {
                    let landing = this.looks.landing(&name, &flight, Look::Failed);
                    let _place = this.manifest_places.acquire().await;
                    landing.with(this.look_now(&host, &repository, &reference, known).await);
                })
                .detach();
        }
        // What is here is given out once the look has had its time, whoever began it: not each waits anew.
        let patience = match stale {
            true => self.options.patience_stale.saturating_sub(flight.age()),
            false => self.options.patience,
        };
        match flight.wait(false, patience).await {
            Progress::Done(look) => look,
            _ => Look::Failed,
        }
    }

    async fn look_now(
        &self,
        host: &str,
        repository: &Repository,
        reference: &Reference,
        known: Option<Digest>,
    ) -> Look {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let registry = match self.connect.connect(host) {
            Ok(registry) => registry,
            Err(e) => {
                log::error!("pull-through: {e}");
                return Look::Failed;
            }
        };
        if let (Some(known), Some(tag)) = (&known, tag) {
            // Looking costs nothing where pulls are counted.
            match registry.head_manifest(repository, reference).await {
                Ok(head) if head.digest.as_ref() == Some(known) => {
                    self.reached(host, true);
                    self.saw(host, repository, tag);
                    Counters::add(&self.counters.unchanged, 1);
                    return Look::Unchanged;
                }
                Ok(_) => {}
                Err(e) => return self.judge(host, repository, Some(tag), &e).await,
            }
        }
        match registry.get_manifest(repository, reference, None).await {
            Ok(Fetched::Manifest { bytes, media_type, digest }) => {
                self.reached(host, true);
                let manifest = match Manifest::parse(bytes, Some(&media_type)) {
                    Ok(manifest) => manifest,
                    Err(e) => {
                        log::warn!("pull-through: {host}/{repository} {reference} is not kept: {e}");
                        return Look::Failed;
                    }
                };
                if let Err(e) = self.keep(host, repository, tag, &digest, manifest).await {
                    log::warn!("pull-through: {host}/{repository} {reference} cannot be kept: {e}");
                    return Look::Failed;
                }
                if let Some(tag) = tag {
                    self.saw(host, repository, tag);
                }
                Counters::add(&self.counters.fetched, 1);
                Look::Found(digest)
            }
            Ok(Fetched::NotModified) => Look::Failed,
            Err(e) => self.judge(host, repository, tag, &e).await,
        }
    }

    /// What an error says of what was asked for.
    async fn judge(
        &self,
        host: &str,
        repository: &Repository,
        tag: Option<&Tag>,
        error: &remote::Error,
    ) -> Look {
        self.reached(host, !error.is_retryable());
        if error.is_not_found() {
            if let Some(tag) = tag {
                self.logged(self.store().forget_cached_tag(repository, host, tag).await);
            }
            return Look::Absent;
        }
        log::warn!("pull-through: {error}");
        Look::Failed
    }

    /// Puts a manifest into the store as one that was asked for, whole or not.
    pub(super) async fn keep(
        &self,
        host: &str,
        repository: &Repository,
        tag: Option<&Tag>,
        digest: &Digest,
        manifest: Manifest,
    ) -> store::Result<()> {
        let _lease = self.store().lease(digest);
        let whole = self.missing(&manifest)?.is_empty();
        let put = Put {
            sparse: if whole { Sparse::Children } else { Sparse::Anything },
            origins: vec![host.to_string()],
            cached: Some(Cached { tags: tag.map(|t| (host.to_string(), t.clone())).into_iter().collect() }),
            ..Put::default()
        };
        self.store().put_manifest(repository, digest, manifest, put).await
    }

    /// Blobs of a manifest that are not here in their size.
    pub(super) fn missing(&self, manifest: &Manifest) -> store::Result<Vec<(Digest, u64)>> {
        let mut missing = Vec::new();
        for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
            if self.store().blob_size(&blob.digest)? != Some(blob.size) {
                missing.push((blob.digest.clone(), blob.size));
            }
        }
        Ok(missing)
    }

    /// Whether a client may start on this image: its blobs are here, or there is room for them and the upstream gives
    /// the first of them. Some clients cannot go elsewhere once they have started.
    async fn is_coming(self: &Arc<Self>, host: &str, repository: &Repository, info: &ManifestInfo) -> bool {
        let Some(Some(raw)) = self.logged(self.store().manifest_bytes(info)) else { return false };
        let Ok(manifest) = Manifest::parse(raw, Some(&info.media_type)) else { return false };
        let Some(missing) = self.logged(self.missing(&manifest)) else { return false };
        let Some((digest, size)) = missing.first() else { return true };
        if self.is_away(host) {
            return false;
        }
        let needs: u64 = missing
            .iter()
            .map(|(digest, size)| size.saturating_sub(self.store().resumable(digest)))
            .fold(0, u64::saturating_add);
        let has = self.logged(self.store().make_room(needs).await).unwrap_or(0);
        if has < needs {
            log::warn!(
                "pull-through: {host}/{repository}@{} is not fetched: it needs {needs} bytes, there are {has}",
                info.digest
            );
            return false;
        }
        // The config comes first in a manifest, and what can be had of an upstream's storage is had by it.
        let is_config = manifest.blobs.first().is_some_and(|b| b.digest == *digest);
        if !is_config {
            return self.is_there(host, repository, digest).await == Some(*size);
        }
        let flight = self.fetch(host, repository, digest, *size);
        let begun = *size > MAX_CONFIG;
        let coming = match flight.wait(begun, self.options.patience).await {
            Progress::Done(stored) => stored,
            Progress::Begun => begun,
            Progress::Waiting => false,
        };
        if coming && missing.len() == 1 && !begun {
            // That was all of it.
            return self.logged(self.keep(host, repository, None, &info.digest, manifest).await).is_some();
        }
        coming
    }
}
