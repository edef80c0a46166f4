//! Blobs: one transfer for all who want one, streamed while it is stored.

use std::{sync::Arc, time::Duration};

use async_io::Timer;
use futures_lite::FutureExt;

use super::{
    Counters, Inner,
    flight::{Flight, Progress},
};
use crate::{
    oci::{Descriptor, Digest, Manifest, Reference, Repository},
    registry::Found,
    replicate::RegistrySource,
    store::{Lease, ManifestInfo},
    transfer::{self, Event, How, Source},
};

/// Blobs that are waited for or under way; one more is refused, and its client looks elsewhere.
const MAX_FETCHES: usize = 256;

impl Inner {
    pub(super) async fn blob(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        digest: &Digest,
        body: bool,
    ) -> Option<Found> {
        let Some(allowed) = self.policy().allows(host, repository) else {
            Counters::add(&self.counters.denied, 1);
            return None;
        };
        // What a manifest names that is here belongs to the repository, and has the size that it says.
        let naming = self.naming(repository, digest).await;
        if naming.is_none() && allowed == super::Allowed::SomeTags {
            Counters::add(&self.counters.denied, 1);
            return None;
        }
        let found = self.find(host, repository, digest, naming.as_ref(), body).await;
        if found.is_none() {
            Counters::add(&self.counters.failed, 1);
        }
        found
    }

    async fn find(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        digest: &Digest,
        naming: Option<&(ManifestInfo, Descriptor)>,
        body: bool,
    ) -> Option<Found> {
        let size = match naming {
            Some((_, blob)) => blob.size,
            None => self.is_there(host, repository, digest).await?,
        };
        if let Some(found) = self.stored(digest, size) {
            return Some(found);
        }
        if !body {
            return Some(Found::There(size));
        }
        if self.is_away(host) && self.store().arriving(digest).is_none() {
            return None;
        }
        let flight = self.fetch(host, repository, digest, size);
        if let Some((info, _)) = naming {
            self.complete(host, repository, info, digest);
        }
        match flight.wait(true, self.options.patience).await {
            Progress::Done(true) => self.stored(digest, size),
            Progress::Begun => match self.store().arriving(digest) {
                Some(arrival) => Some(Found::Coming { arrival, size }),
                None => self.stored(digest, size),
            },
            Progress::Done(false) | Progress::Waiting => None,
        }
    }

    fn stored(&self, digest: &Digest, size: u64) -> Option<Found> {
        self.store().touch(digest);
        let blob = self.logged(self.store().open_blob(digest))?;
        blob.filter(|b| b.size == size).map(Found::Here)
    }

    /// A manifest of the repository that names this, and what it says of it.
    pub(super) async fn naming(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<(ManifestInfo, Descriptor)> {
        self.logged(self.store().naming(repository, digest).await)?
    }

    /// The size of a blob that the upstream says it has.
    pub(super) async fn is_there(&self, host: &str, repository: &Repository, digest: &Digest) -> Option<u64> {
        if self.is_away(host) {
            return None;
        }
        let ask = async {
            let registry = self.connect.connect(host).map_err(|e| log::error!("pull-through: {e}")).ok()?;
            match registry.head_blob(repository, digest).await {
                Ok(size) => {
                    self.reached(host, true);
                    size
                }
                Err(e) => {
                    self.reached(host, !e.is_retryable());
                    log::warn!("pull-through: {e}");
                    None
                }
            }
        };
        let timeout = async {
            Timer::after(self.options.patience).await;
            None
        };
        ask.or(timeout).await
    }

    /// Has a blob fetched, whoever goes away meanwhile.
    pub(super) fn fetch(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Arc<Flight<bool>> {
        let name = digest.to_string();
        let (flight, first) = self.fetches.join(&name);
        if !first {
            return flight;
        }
        if self.fetches.count() > MAX_FETCHES {
            drop(self.fetches.landing(&name, &flight, false));
            return flight;
        }
        let (this, begun) = (self.clone(), flight.clone());
        let (host, repository, digest) = (host.to_string(), repository.clone(), digest.clone());
        let task = async move {
            let landing = this.fetches.landing(&name, &begun, false);
            let _place = this.blob_places.acquire().await;
            landing.with(this.fetch_now(&host, &repository, &digest, size, &begun).await);
        };
        self.executor.spawn(task).detach();
        flight
    }

    async fn fetch_now(
        &self,
        host: &str,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        flight: &Flight<bool>,
    ) -> bool {
        let registry = match self.connect.connect(host) {
            Ok(registry) => registry,
            Err(e) => {
                log::error!("pull-through: {e}");
                return false;
            }
        };
        let _lease = self.store().lease(digest);
        let source: Arc<dyn Source> = Arc::new(RegistrySource { registry, repository: repository.clone() });
        let listen = |event: &Event<'_>| match event {
            Event::Bytes { .. } | Event::Joined { .. } | Event::Done { .. } => flight.begin(),
            Event::Begun { .. } | Event::Retry { .. } | Event::Restarted { .. } => {}
        };
        match self.engine.fetch(digest, Some(size), &[source], &listen).await {
            Ok(how) => {
                self.reached(host, true);
                if let How::Fetched { received, .. } = how {
                    Counters::add(&self.counters.fetched, 1);
                    Counters::add(&self.counters.received, received);
                }
                true
            }
            Err(e) => {
                if matches!(e, transfer::Error::Exhausted { .. }) {
                    self.reached(host, false);
                }
                log::warn!("pull-through: {e}");
                false
            }
        }
    }

    /// Makes an image whole behind a client that pulls `digest` of it. Its config alone is no pull.
    fn complete(self: &Arc<Self>, host: &str, repository: &Repository, info: &ManifestInfo, digest: &Digest) {
        let name = format!("{repository}@{}", info.digest);
        let (flight, first) = self.completions.join(&name);
        if !first {
            return;
        }
        let this = self.clone();
        let (host, repository, info, pulled) =
            (host.to_string(), repository.clone(), info.clone(), digest.clone());
        let task = async move {
            let landing = this.completions.landing(&name, &flight, false);
            let _place = this.completion_places.acquire().await;
            landing.with(this.complete_now(&host, &repository, &info, &pulled).await.is_some());
        };
        self.executor.spawn(task).detach();
    }

    async fn complete_now(
        self: &Arc<Self>,
        host: &str,
        repository: &Repository,
        info: &ManifestInfo,
        pulled: &Digest,
    ) -> Option<()> {
        let raw = self.logged(self.store().manifest_bytes(info))??;
        let manifest = Manifest::parse(raw, Some(&info.media_type)).ok()?;
        let is_whole = self.logged(self.store().cached(repository, &info.digest))?.is_none_or(|c| c.whole);
        let is_config =
            manifest.blobs.len() > 1 && manifest.blobs.first().is_some_and(|b| b.digest == *pulled);
        if manifest.is_index() || is_config || is_whole && self.logged(self.missing(&manifest))?.is_empty() {
            return None;
        }
        let names = manifest.blobs.iter().map(|b| &b.digest).chain([&info.digest]);
        let _leases: Vec<Lease> = names.map(|digest| self.store().lease(digest)).collect();
        let mut missing = self.logged(self.missing(&manifest))?;
        missing.sort_by_key(|(_, size)| *size);
        for (digest, size) in missing {
            let flight = self.fetch(host, repository, &digest, size);
            if flight.wait(false, Duration::MAX).await != Progress::Done(true) {
                return None;
            }
        }
        self.logged(self.keep(host, repository, None, &info.digest, manifest).await)?;
        let reference = Reference::Digest(info.digest.clone());
        log::info!("pull-through: {host}/{repository}@{reference} is here, whole");
        Some(())
    }
}
