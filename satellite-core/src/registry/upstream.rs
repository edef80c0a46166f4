//! Whom a registry asks for what its store lacks.

use std::sync::Arc;

use crate::{
    oci::{Digest, Reference, Repository},
    store::{Arrival, Blob, ManifestInfo},
};

/// A blob that an upstream has.
pub enum Found {
    /// In the store by now.
    Here(Blob),
    /// On its way into the store; whoever follows it gets the bytes as they come.
    Coming {
        /// The blob under way.
        arrival: Arc<Arrival>,
        /// Bytes of the whole.
        size: u64,
    },
    /// At the upstream, with this size: all that HEAD asks.
    There(u64),
}

/// Answers on a miss. `host` is the one that the request names, if it names one.
#[async_trait::async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Whether it fetches anything from this host.
    fn knows(&self, host: &str) -> bool;

    /// What it calls itself in `Via` when it asks others: a request that has it comes from ourselves.
    fn name(&self) -> &str;

    /// The manifest that is meant, in the store; with `whole` its blobs are there too, or surely coming. `None`: not
    /// allowed, not there, or not to be had now.
    async fn manifest(
        &self,
        host: Option<&str>,
        repository: &Repository,
        reference: &Reference,
        whole: bool,
    ) -> Option<ManifestInfo>;

    /// A blob of a repository; without `body` only its size is wanted. `None` as above.
    async fn blob(
        &self,
        host: Option<&str>,
        repository: &Repository,
        digest: &Digest,
        body: bool,
    ) -> Option<Found>;
}
