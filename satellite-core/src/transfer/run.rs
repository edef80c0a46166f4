//! One blob's way through its sources, try by try.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::{FutureExt, StreamExt};

use super::{Engine, Error, Event, How, Sink, Source, SourceError};
use crate::{
    oci::Digest,
    store::{self, Writer},
};

/// One transfer's state between tries.
pub(super) struct Run<'a> {
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

impl<'a> Run<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        digest: &'a Digest,
        size: Option<u64>,
        sources: &'a [Arc<dyn Source>],
        sink: Sink<'a>,
    ) -> Self {
        Self {
            engine,
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
        }
    }

    /// Counts a try without a byte, and says whether it was the last.
    pub(super) fn failed_again(&mut self) -> bool {
        self.fruitless += 1;
        self.fruitless >= self.engine.options.attempts
    }

    /// Writes the blob. `None`: what came was wrong, begin again.
    pub(super) async fn lead(&mut self, mut writer: Writer) -> Result<Option<How>, Error> {
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
            && let Err(e) = writer.reserve(size - resumed).await
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
            writer.reserve(total.saturating_sub(at)).await?;
        }
        let mut skip = at.saturating_sub(opened.offset);
        let mut stream = opened.stream;
        let begun = Instant::now();
        let mut quiet = Quiet::new(stall);
        loop {
            let next = async { Some(stream.next().await) };
            let timeout = async {
                quiet.wait().await;
                None
            };
            let progress = writer.offset() > at;
            let again = |cause: String| Ok(Step::Again { cause, wait: None, progress });
            let mut piece = match next.or(timeout).await {
                None => return again(format!("no byte for {} s", stall.as_secs())),
                Some(Some(Ok(piece))) => {
                    quiet.touch();
                    piece
                }
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
                quiet.touch();
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
            // What the disk takes its time for is not the source's silence.
            quiet.touch();
            (self.sink)(&Event::Bytes { digest: self.digest, count });
            if size == Some(writer.offset()) {
                log::debug!("blob {} from {} in {:?}", self.digest, source.name(), begun.elapsed());
                return Ok(Step::Complete);
            }
        }
    }
}

/// Ends when nothing has come for a while. One timer for all pieces: it is set again only when it fires too early.
struct Quiet {
    limit: Duration,
    last: Instant,
    timer: Timer,
}

impl Quiet {
    fn new(limit: Duration) -> Self {
        Self { limit, last: Instant::now(), timer: Timer::after(limit) }
    }

    fn touch(&mut self) {
        self.last = Instant::now();
    }

    async fn wait(&mut self) {
        loop {
            (&mut self.timer).await;
            match self.last.checked_add(self.limit) {
                Some(due) if due > Instant::now() => self.timer.set_at(due),
                _ => return,
            }
        }
    }
}
