//! Notices whether a client came here for one repository: how it is known that a runtime really uses its mirror.

use std::sync::{Arc, Mutex, PoisonError};

use satellite_core::{
    oci::{Digest, Reference, Repository},
    proxy::Proxy,
    registry::{Found, Upstream},
    store::ManifestInfo,
};

/// What is watched for, and whether it was seen.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Option<(String, bool)>>);

impl Watch {
    /// From now on for this repository, or one that a name rule put a project before; until [`seen`](Self::seen) is asked.
    pub(crate) fn expect(&self, repository: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((repository, false));
    }

    /// Whether a client asked for it since.
    pub(crate) fn seen(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some_and(|(_, seen)| seen)
    }

    fn is_on(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn look(&self, repository: &Repository) -> bool {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some((name, seen)) if repository.as_str().ends_with(name.as_str()) => {
                *seen = true;
                true
            }
            _ => false,
        }
    }
}

/// What is asked on a miss, watched.
pub(super) struct Watched {
    pub(super) proxy: Proxy,
    pub(super) watch: Arc<Watch>,
}

#[async_trait::async_trait]
impl Upstream for Watched {
    fn knows(&self, host: &str) -> bool {
        self.watch.is_on() || self.proxy.knows(host)
    }

    fn name(&self) -> &str {
        self.proxy.name()
    }

    async fn manifest(
        &self,
        host: Option<&str>,
        repository: &Repository,
        reference: &Reference,
        whole: bool,
    ) -> Option<ManifestInfo> {
        if self.watch.look(repository) {
            return None;
        }
        self.proxy.manifest(host, repository, reference, whole).await
    }

    async fn blob(
        &self,
        host: Option<&str>,
        repository: &Repository,
        digest: &Digest,
        body: bool,
    ) -> Option<Found> {
        self.proxy.blob(host, repository, digest, body).await
    }
}
