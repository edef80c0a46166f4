//! The transfer engine: one resumable, verified copy of one blob into the store, from whichever source has it.
//!
//! It owns resumption, the stall time-out, retries with backoff, the WAN limit, and moving to the next source at the
//! current offset. Total time is never limited: a slow link that makes progress is a good link. Who asks for a blob that
//! is already arriving waits for that arrival.

use std::{sync::Arc, time::Duration};

use crate::{
    oci::Digest,
    store::{self, Outcome, Receive, Store},
};

mod backoff;
mod run;
mod source;
#[cfg(test)]
mod tests;
mod throttle;

pub use backoff::Backoff;
pub use source::{Opened, Source, SourceError};
pub use throttle::Throttle;

use run::Run;

/// How transfers behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// No byte for this long: the connection is given up, and the transfer goes on with another. Default one minute.
    pub stall: Duration,
    /// Tries in a row that bring no byte, after which a transfer fails. Default 8.
    pub attempts: u32,
    /// Waiting between tries.
    pub backoff: Backoff,
}

impl Default for Options {
    fn default() -> Self {
        Self { stall: Duration::from_secs(60), attempts: 8, backoff: Backoff::default() }
    }
}

/// What happens to a blob, for progress bars, logs and reports.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Begun, with so many bytes here from an earlier try.
    Begun {
        /// The blob.
        digest: &'a Digest,
        /// Bytes that need not be fetched.
        resumed: u64,
        /// Its size, where known.
        size: Option<u64>,
    },
    /// Bytes came.
    Bytes {
        /// The blob.
        digest: &'a Digest,
        /// How many of them are new.
        count: u64,
    },
    /// Somebody else is fetching it; this waits.
    Joined {
        /// The blob.
        digest: &'a Digest,
    },
    /// A try failed; there will be another.
    Retry {
        /// The blob.
        digest: &'a Digest,
        /// Who failed.
        source: &'a str,
        /// How.
        cause: &'a str,
        /// What is waited before the next.
        wait: Duration,
    },
    /// What came was wrong and is thrown away; the count starts again.
    Restarted {
        /// The blob.
        digest: &'a Digest,
        /// Bytes thrown away.
        lost: u64,
    },
    /// It is in the store.
    Done {
        /// The blob.
        digest: &'a Digest,
        /// How it got there.
        how: How,
    },
}

/// How a blob got into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was there.
    Present,
    /// Somebody else fetched it meanwhile.
    Joined,
    /// This transfer fetched it: bytes that came over the wire, and bytes that an earlier try had left.
    Fetched {
        /// Bytes received, those received in vain included.
        received: u64,
        /// Bytes that were here.
        resumed: u64,
    },
}

/// Who listens to events.
pub type Sink<'a> = &'a (dyn Fn(&Event<'_>) + Send + Sync);

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No source has it.
    #[error("blob {digest}: no source has it ({cause})")]
    NotFound {
        /// The blob.
        digest: Digest,
        /// What the last one said.
        cause: String,
    },
    /// A source refused.
    #[error("blob {digest} from {from}: {cause}")]
    Refused {
        /// The blob.
        digest: Digest,
        /// Who.
        from: String,
        /// What it said.
        cause: String,
        /// Whether it asked for other credentials.
        unauthorized: bool,
    },
    /// Too many tries without a byte. What came is kept for the next time.
    #[error(
        "blob {digest} from {from}: given up at byte {offset} after {attempts} tries without progress: {cause}"
    )]
    Exhausted {
        /// The blob.
        digest: Digest,
        /// Who was asked last.
        from: String,
        /// Bytes that are kept.
        offset: u64,
        /// Tries.
        attempts: u32,
        /// How the last failed.
        cause: String,
    },
    /// Every source gave wrong bytes.
    #[error("blob {digest} from {from}: wrong content: {cause}")]
    Wrong {
        /// The blob.
        digest: Digest,
        /// Who gave it.
        from: String,
        /// What is wrong.
        cause: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Copies blobs into a store.
#[derive(Clone)]
pub struct Engine {
    store: Store,
    throttle: Arc<Throttle>,
    options: Options,
}

impl Engine {
    /// An engine; `throttle` is shared by all that use the WAN.
    pub fn new(store: Store, throttle: Arc<Throttle>, options: Options) -> Self {
        Self { store, throttle, options }
    }

    /// The store that it fills.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Gets a blob into the store, from the first of `sources` that can. `size` is what its descriptor says.
    ///
    /// Dropping the future keeps what its last checkpoint has: at most a second or 8 MiB are fetched again.
    pub async fn fetch(
        &self,
        digest: &Digest,
        size: Option<u64>,
        sources: &[Arc<dyn Source>],
        sink: Sink<'_>,
    ) -> Result<How, Error> {
        let mut run = Run::new(self, digest, size, sources, sink);
        loop {
            match self.store.receive(digest, size).await? {
                Receive::Present(_) => {
                    let how = How::Present;
                    sink(&Event::Done { digest, how });
                    return Ok(how);
                }
                Receive::Join(arrival) => {
                    sink(&Event::Joined { digest });
                    match arrival.ended().await {
                        Outcome::Stored(_) => {
                            sink(&Event::Done { digest, how: How::Joined });
                            return Ok(How::Joined);
                        }
                        Outcome::Failed(why) => {
                            if run.failed_again() {
                                return Err(store::Error::Abandoned(digest.clone(), why).into());
                            }
                        }
                    }
                }
                Receive::Lead(writer) => {
                    if let Some(how) = run.lead(*writer).await? {
                        sink(&Event::Done { digest, how });
                        return Ok(how);
                    }
                }
            }
        }
    }
}
