//! The seam to where bytes come from: a range of a blob.

use std::time::Duration;

use crate::{net::message::ByteStream, oci::Digest};

/// A place that may have a blob: an upstream registry, a peer, a bundle.
#[async_trait::async_trait]
pub trait Source: Send + Sync + 'static {
    /// For logs and errors: host and repository.
    fn name(&self) -> String;

    /// Whether it is an authority for its content. The last word on a digest mismatch is a trusted source's.
    fn trusted(&self) -> bool {
        true
    }

    /// Whether its bytes count against the WAN limit.
    fn metered(&self) -> bool {
        true
    }

    /// Opens the blob at `offset`, or earlier where the place knows no ranges.
    async fn open(&self, digest: &Digest, offset: u64) -> Result<Opened, SourceError>;
}

/// A blob's bytes from [`offset`](Self::offset) on.
pub struct Opened {
    /// Where the stream really starts: at most the offset asked for.
    pub offset: u64,
    /// Size of the whole blob, where the place said.
    pub total: Option<u64>,
    /// The bytes.
    pub stream: ByteStream,
}

/// Why a place does not give a blob.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It does not have it: ask elsewhere.
    #[error("{0}")]
    NotFound(String),
    /// It refuses; asking again is no use.
    #[error("{message}")]
    Refused {
        /// What it said.
        message: String,
        /// Whether it asked for other credentials.
        unauthorized: bool,
    },
    /// It cannot now; it may later.
    #[error("{message}")]
    Later {
        /// What happened.
        message: String,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
}
