//! Replication: what is wanted, less what is here, fetched and then published, so that clients see the old image or the
//! new one, whole.
//!
//! `discover` reads manifests and finds what an image is made of; [`plan`] is pure and says which blobs are missing;
//! `run` lets the transfer engine fetch them and puts manifests, children first, tags last. [`push`] is the other way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    oci::{Digest, ImageReference, ManifestError, PlatformSet},
    remote,
    store::{self, Put},
    transfer,
};

mod discover;
mod heal;
mod places;
mod plan;
mod push;
mod run;
mod upstream;

pub use plan::{Plan, Transfer, plan};
pub use push::push;
pub use run::Replicator;
#[cfg(feature = "serve")]
pub(crate) use upstream::RegistrySource;

/// How replication is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which children of an index are fetched. The index itself is always kept as it is.
    pub platforms: PlatformSet,
    /// Whether what is about an image (referrers, cosign's tags) comes with it.
    pub referrers: bool,
    /// Blobs fetched at once; of small ones up to four times as many, where the way to the registry is long.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { platforms: PlatformSet::All, referrers: true, concurrency: 4 }
    }
}

/// Gives the client of a registry by its host; the same one for the same host, so that connections and tokens are shared.
pub trait Connect: Send + Sync + 'static {
    /// The client for `HOST[:PORT]`.
    fn connect(&self, host: &str) -> Result<remote::Registry, remote::Error>;
}

/// What happens, for progress bars, logs and reports. One stream for all of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The images' manifests are read; this is what is to do.
    Planned {
        /// Blobs to fetch.
        blobs: u64,
        /// Their bytes, less what earlier tries left.
        bytes: u64,
        /// Blobs that are here already.
        present_blobs: u64,
        /// Bytes that are here already, parts of blobs included.
        present_bytes: u64,
    },
    /// A blob is begun, with `resumed` bytes from an earlier try.
    BlobBegun {
        /// The blob.
        digest: Digest,
        /// Bytes that need not be fetched.
        resumed: u64,
        /// Its size.
        size: u64,
    },
    /// More of it came; at most ten times a second for each.
    BlobProgress {
        /// The blob.
        digest: Digest,
        /// Bytes that are here now.
        at: u64,
    },
    /// A try failed, and another follows.
    BlobRetry {
        /// The blob.
        digest: Digest,
        /// Who failed.
        source: String,
        /// How.
        cause: String,
        /// What is waited, in milliseconds.
        wait_ms: u64,
    },
    /// It is in the store.
    BlobDone {
        /// The blob.
        digest: Digest,
        /// Bytes that came for it over the wire.
        received: u64,
    },
    /// An image is in the store, whole, and its tag points to it.
    ImageDone {
        /// What was asked for.
        image: String,
        /// What it is.
        digest: Digest,
        /// Whether nothing had to be fetched.
        unchanged: bool,
    },
    /// An image could not be had.
    ImageFailed {
        /// What was asked for.
        image: String,
        /// Why.
        error: Failure,
    },
}

/// Who listens.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// What became of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was asked for.
    pub image: String,
    /// The digest it has, if it is in the store.
    pub digest: Option<Digest>,
    /// Whether nothing had to be fetched.
    pub unchanged: bool,
    /// Why it could not be had.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Failure>,
}

/// What became of a replication.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Each image, in the order asked for.
    pub images: Vec<Outcome>,
    /// Bytes of blobs that came over the wire.
    pub received: u64,
    /// Bytes that earlier tries had left.
    pub resumed: u64,
    /// Bytes that were here.
    pub present: u64,
}

/// An error as it is reported: a class that scripts can decide on, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// What happened, to which object.
    pub message: String,
}

/// Classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It is not there.
    NotFound,
    /// The registry refused who we are.
    Unauthorized,
    /// The store refused: damaged, in use.
    Store,
    /// There is no room.
    NoSpace,
    /// The registry or the way to it.
    Network,
    /// The bytes are not what they should be.
    Content,
}

/// Why an image could not be replicated or pushed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry.
    #[error(transparent)]
    Remote(#[from] remote::Error),
    /// A blob.
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A manifest that is none.
    #[error("{image}: {digest}: {cause}")]
    Manifest {
        /// What was asked for.
        image: String,
        /// Which manifest.
        digest: Digest,
        /// What is wrong with it.
        cause: ManifestError,
    },
    /// An index without a child for the machine.
    #[error("{image} has nothing for {wanted}; it has {offered}")]
    Platform {
        /// What was asked for.
        image: String,
        /// What was wanted.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// More manifests than an image has.
    #[error("{image} leads to more manifests than the {limit} allowed")]
    TooLarge {
        /// What was asked for.
        image: String,
        /// How many are.
        limit: usize,
    },
    /// It was pushed here: no registry is known to have it.
    #[error("{repository}@{digest} was not replicated from anywhere: push it again")]
    NoOrigin {
        /// Where it belongs.
        repository: crate::oci::Repository,
        /// What is missing.
        digest: Digest,
    },
    /// Nothing of that name in the store.
    #[error("{0} is not in the store")]
    NotHere(String),
}

impl Error {
    /// Its class.
    pub fn kind(&self) -> FailureKind {
        use store::Error as S;
        use transfer::Error as T;
        match self {
            Self::Remote(e) if e.is_not_found() => FailureKind::NotFound,
            Self::Remote(e) if e.is_unauthorized() || e.status() == Some(403) => FailureKind::Unauthorized,
            Self::Remote(remote::Error::Digest { .. } | remote::Error::TooLarge { .. }) => {
                FailureKind::Content
            }
            Self::Remote(remote::Error::Source { .. }) => FailureKind::Store,
            Self::Remote(_) => FailureKind::Network,
            Self::Transfer(T::NotFound { .. })
            | Self::NotHere(_)
            | Self::NoOrigin { .. }
            | Self::Platform { .. } => FailureKind::NotFound,
            Self::Transfer(T::Refused { unauthorized: true, .. }) => FailureKind::Unauthorized,
            Self::Transfer(T::Refused { .. } | T::Exhausted { .. }) => FailureKind::Network,
            Self::Transfer(T::Wrong { .. }) | Self::Manifest { .. } | Self::TooLarge { .. } => {
                FailureKind::Content
            }
            Self::Transfer(T::Store(e)) | Self::Store(e) => match e {
                S::DigestMismatch { .. } | S::SizeMismatch { .. } | S::Manifest(_) => FailureKind::Content,
                S::BlobUnknown(_) | S::ManifestUnknown(..) => FailureKind::NotFound,
                e if e.is_no_space() => FailureKind::NoSpace,
                _ => FailureKind::Store,
            },
        }
    }

    /// As it is reported.
    pub fn report(&self) -> Failure {
        Failure { kind: self.kind(), message: self.to_string() }
    }
}

/// The tags that cosign hangs its artifacts on, for a subject (its tag schema; older than referrers).
pub fn cosign_tags(digest: &Digest) -> impl Iterator<Item = crate::oci::Tag> {
    let stem = format!("{}-{}", digest.algorithm(), digest.hex());
    ["sig", "att", "sbom"].into_iter().filter_map(move |kind| format!("{stem}.{kind}").parse().ok())
}

/// How an image is named in messages.
fn name(image: &ImageReference) -> String {
    image.to_string()
}
