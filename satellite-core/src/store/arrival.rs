//! A blob while it arrives: one writer, any number of readers that follow it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use event_listener::Event;
use futures_lite::stream;

use super::pool::Pool;
use crate::oci::Digest;

const PIECE: u64 = 64 << 10;

/// How an arrival ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Verified and named; it has this many bytes.
    Stored(u64),
    /// Given up, for this reason. What came is kept for the next try where it can be.
    Failed(String),
}

/// A blob that is being received.
pub struct Arrival {
    digest: Digest,
    file: Arc<File>,
    /// Bytes written to the file so far.
    written: AtomicU64,
    outcome: Mutex<Option<Outcome>>,
    changed: Event,
    /// Whether anybody ever followed it.
    followed: AtomicBool,
    pool: Pool,
}

impl Arrival {
    pub(super) fn new(digest: Digest, file: Arc<File>, written: u64, pool: Pool) -> Self {
        Self {
            digest,
            file,
            written: written.into(),
            outcome: Mutex::new(None),
            changed: Event::new(),
            followed: AtomicBool::new(false),
            pool,
        }
    }

    /// What arrives.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes that are here so far, unverified.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    pub(super) fn publish(&self, written: u64) {
        self.written.store(written, Ordering::Release);
        self.changed.notify(usize::MAX);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        let mut slot = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(outcome);
        drop(slot);
        self.changed.notify(usize::MAX);
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Outcome {
        loop {
            let changed = self.changed.listen();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            changed.await;
        }
    }

    /// Waits until bytes beyond `position` may be given out: up to where, or `None` at the end. The last byte is held
    /// back until the whole is verified, so that nobody takes a wrong blob for a whole one.
    async fn beyond(&self, position: u64) -> io::Result<Option<u64>> {
        loop {
            let changed = self.changed.listen();
            match self.outcome() {
                Some(Outcome::Stored(size)) => return Ok((position < size).then_some(size)),
                Some(Outcome::Failed(why)) => return Err(io::Error::other(why)),
                None => {}
            }
            let available = self.written().saturating_sub(1);
            if available > position {
                return Ok(Some(available));
            }
            changed.await;
        }
    }

    /// The blob's bytes from `offset`, as they come. The stream ends with an error if the arrival fails.
    pub fn follow(self: Arc<Self>, offset: u64) -> crate::store::FollowStream {
        self.followed.store(true, Ordering::Relaxed);
        Box::pin(stream::try_unfold(offset, move |position| {
            let this = self.clone();
            async move {
                let Some(end) = this.beyond(position).await? else { return Ok(None) };
                let length = (end - position).min(PIECE) as usize;
                let file = this.file.clone();
                let piece = this
                    .pool
                    .run(move || {
                        let mut piece = vec![0; length];
                        file.read_exact_at(&mut piece, position).map(|()| Bytes::from(piece))
                    })
                    .await?;
                Ok(Some((piece, position + length as u64)))
            }
        }))
    }
}
