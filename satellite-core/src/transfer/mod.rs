//! The transfer engine: one resumable, verified copy of one blob into the store, from whichever source has it.
//!
//! It owns resumption, the stall time-out, retries with backoff, the WAN limit, and moving to the next source at the
//! current offset. Total time is never limited: a slow link that makes progress is a good link. Who asks for a blob that
//! is already arriving waits for that arrival.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::{FutureExt, StreamExt};

use crate::{
    oci::Digest,
    store::{self, Outcome, Receive, Store, Writer},
};

mod backoff;
mod source;
#[cfg(test)]
mod tests;
mod throttle;

pub use backoff::Backoff;
pub use source::{Opened, Source, SourceError};
pub use throttle::Throttle;

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

/// One transfer's state between tries.
struct Run<'a> {
    engine: &'a Engine,
    digest: &'a Digest,
    size: Option<u64>,
    sources: &'a [Arc<dyn Source>],
    sink: Sink<'a>,
    /// Sources whose bytes were wrong, or that do not have it.
    shunned: HashSet<usize>,
    /// Sources that bytes of the current try at the whole came from.
    given: HashSet<usize>,
    /// Whether the current try began with bytes of an earlier run.
    inherited: bool,
    next: usize,
    fruitless: u32,
    received: u64,
    last: String,
}

enum Step {
    /// All bytes are here.
    Complete,
    /// Go on, after a wait. Progress was made or not.
    Again { cause: String, wait: Option<Duration>, progress: bool },
    /// The source is of no use for this blob.
    Useless(SourceError),
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
        let mut run = Run {
            engine: self,
            digest,
            size,
            sources,
            sink,
            shunned: HashSet::new(),
            given: HashSet::new(),
            inherited: false,
            next: 0,
            fruitless: 0,
            received: 0,
            last: "no source was given".into(),
        };
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
                            run.fruitless += 1;
                            if run.fruitless >= self.options.attempts {
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

impl Run<'_> {
    /// Writes the blob. `None`: what came was wrong, begin again.
    async fn lead(&mut self, mut writer: Writer) -> Result<Option<How>, Error> {
        let resumed = writer.offset();
        self.inherited = resumed > 0;
        self.given.clear();
        (self.sink)(&Event::Begun { digest: self.digest, resumed, size: self.size });
        if self.size.is_some_and(|size| resumed > size) {
            let lost = writer.offset();
            writer.discard("longer than its descriptor says");
            (self.sink)(&Event::Restarted { digest: self.digest, lost });
            return Ok(None);
        }
        if let Some(size) = self.size
            && let Err(e) = writer.reserve(size - resumed)
        {
            writer.park("no room").await?;
            return Err(e.into());
        }
        while self.size.is_none_or(|size| writer.offset() < size) {
            let Some(index) = self.choose() else {
                let offset = writer.park(&self.last).await?;
                return Err(self.none_left(offset));
            };
            let source = self.sources[index].clone();
            match self.pump(index, &mut writer).await? {
                Step::Complete => break,
                Step::Again { cause, wait, progress } => {
                    self.fruitless = if progress { 0 } else { self.fruitless + 1 };
                    self.last = cause;
                    if self.fruitless >= self.engine.options.attempts {
                        let offset = writer.park(&self.last).await?;
                        return Err(Error::Exhausted {
                            digest: self.digest.clone(),
                            from: source.name(),
                            offset,
                            attempts: self.fruitless,
                            cause: self.last.clone(),
                        });
                    }
                    self.next = index + 1;
                    let wait = self.engine.options.backoff.wait(self.fruitless, wait);
                    let event =
                        Event::Retry { digest: self.digest, source: &source.name(), cause: &self.last, wait };
                    (self.sink)(&event);
                    // Before a wait, what came is made durable: it may be long, and the power may go.
                    writer.checkpoint().await?;
                    Timer::after(wait).await;
                }
                Step::Useless(error) => {
                    self.last = format!("{}: {error}", source.name());
                    self.shunned.insert(index);
                    let alone = self.shunned.len() == self.sources.len();
                    if let (true, SourceError::Refused { message, unauthorized }) = (alone, error) {
                        writer.park(&self.last).await?;
                        return Err(Error::Refused {
                            digest: self.digest.clone(),
                            from: source.name(),
                            cause: message,
                            unauthorized,
                        });
                    }
                }
            }
        }
        let lost = writer.offset();
        match writer.commit(self.digest).await {
            Ok(_) => Ok(Some(How::Fetched { received: self.received, resumed })),
            Err(e @ store::Error::DigestMismatch { .. }) => {
                self.blame(lost, e.to_string())?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// After wrong bytes: shuns who gave them, or fails if nobody else is left. Where several gave bytes, or an earlier
    /// run left some, nobody is proven guilty but those who are not trusted.
    fn blame(&mut self, lost: u64, cause: String) -> Result<(), Error> {
        let sole = self.given.len() == 1 && !self.inherited;
        let guilty: Vec<usize> =
            self.given.iter().copied().filter(|i| sole || !self.sources[*i].trusted()).collect();
        let from =
            guilty.iter().chain(&self.given).next().map(|i| self.sources[*i].name()).unwrap_or_default();
        log::warn!("blob {} from {from} is wrong and thrown away ({lost} bytes): {cause}", self.digest);
        self.shunned.extend(guilty);
        self.fruitless += 1;
        (self.sink)(&Event::Restarted { digest: self.digest, lost });
        if self.shunned.len() >= self.sources.len() || self.fruitless >= self.engine.options.attempts {
            return Err(Error::Wrong { digest: self.digest.clone(), from, cause });
        }
        Ok(())
    }

    /// The next source that is not shunned, round and round.
    fn choose(&mut self) -> Option<usize> {
        let count = self.sources.len();
        let found = (0..count).map(|n| (self.next + n) % count).find(|i| !self.shunned.contains(i))?;
        self.next = found;
        Some(found)
    }

    fn none_left(&self, offset: u64) -> Error {
        log::debug!("blob {}: no source left, {offset} bytes kept", self.digest);
        Error::NotFound { digest: self.digest.clone(), cause: self.last.clone() }
    }

    /// Takes what one connection to one source gives.
    async fn pump(&mut self, index: usize, writer: &mut Writer) -> Result<Step, Error> {
        let source = &self.sources[index];
        let stall = self.engine.options.stall;
        let at = writer.offset();
        let opened = match source.open(self.digest, at).await {
            Ok(opened) => opened,
            Err(SourceError::Later { message, after }) => {
                return Ok(Step::Again { cause: message, wait: after, progress: false });
            }
            Err(error) => return Ok(Step::Useless(error)),
        };
        if let (Some(size), Some(total)) = (self.size, opened.total)
            && size != total
        {
            let message = format!("it says the blob has {total} bytes, the manifest says {size}");
            return Ok(Step::Useless(SourceError::Refused { message, unauthorized: false }));
        }
        let size = self.size.or(opened.total);
        if self.size.is_none()
            && let Some(total) = opened.total
        {
            writer.reserve(total.saturating_sub(at))?;
        }
        let mut skip = at.saturating_sub(opened.offset);
        let mut stream = opened.stream;
        let begun = Instant::now();
        loop {
            let next = async { Some(stream.next().await) };
            let timeout = async {
                Timer::after(stall).await;
                None
            };
            let progress = writer.offset() > at;
            let again = |cause: String| Ok(Step::Again { cause, wait: None, progress });
            let mut piece = match next.or(timeout).await {
                None => return again(format!("no byte for {} s", stall.as_secs())),
                Some(Some(Ok(piece))) => piece,
                Some(Some(Err(e))) => return again(format!("cut at byte {}: {e}", writer.offset())),
                Some(None) => match size {
                    Some(size) if writer.offset() < size => {
                        return again(format!("ended at byte {} of {size}", writer.offset()));
                    }
                    _ => return Ok(Step::Complete),
                },
            };
            self.received += piece.len() as u64;
            if source.metered() {
                self.engine.throttle.pay(piece.len() as u64).await;
            }
            if skip > 0 {
                let cut = skip.min(piece.len() as u64);
                skip -= cut;
                piece = piece.slice(cut as usize..);
            }
            if piece.is_empty() {
                continue;
            }
            // More than there should be is cut off: the digest says whether the rest is right.
            let room = size.map_or(u64::MAX, |size| size.saturating_sub(writer.offset()));
            piece.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            let count = piece.len() as u64;
            self.given.insert(index);
            writer.append(piece).await?;
            (self.sink)(&Event::Bytes { digest: self.digest, count });
            if size == Some(writer.offset()) {
                log::debug!("blob {} from {} in {:?}", self.digest, source.name(), begun.elapsed());
                return Ok(Step::Complete);
            }
        }
    }
}
