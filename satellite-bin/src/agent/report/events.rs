//! What happened, kept until Ground Control has heard of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use satellite_core::fleet::SyncEvent;

use crate::agent::{cause::Cause, schedule::Clock};

/// Most that are kept: the oldest make room.
const MAX: usize = 64;
/// Longest reference that Ground Control takes, in bytes.
const MAX_REFERENCE: usize = 512;

/// A step of a replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An image is fetched from now on.
    Started,
    /// So many bytes of it are here.
    Progress {
        /// Here.
        bytes: u64,
        /// Of so many.
        total: u64,
    },
    /// It is here.
    Completed {
        /// Its bytes.
        total: u64,
    },
    /// It is not, and why.
    Failed(Cause),
    /// It was removed.
    Removed,
}

/// What happened and was not heard of yet; all clones are the same.
#[derive(Clone, Debug)]
pub struct Events {
    clock: Arc<Clock>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    /// What was sent and not answered is not changed any more: up to here.
    sent: u64,
    events: VecDeque<SyncEvent>,
}

impl Events {
    /// None yet.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, queue: Arc::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to `image` (`edge/app:v1@sha256:…`). Of an image's progress the last alone is kept.
    pub fn push(&self, image: &str, kind: EventKind) {
        // Finely: after a restart the same number may come in the same second, and is another event.
        let at = format!("{:.3}", self.clock.now());
        let (event, bytes, total, cause) = match kind {
            EventKind::Started => ("started", 0, 0, ""),
            EventKind::Progress { bytes, total } => ("progress", bytes, total, ""),
            EventKind::Completed { total } => ("completed", total, total, ""),
            EventKind::Failed(cause) => ("failed", 0, 0, cause.as_str()),
            EventKind::Removed => ("removed", 0, 0, ""),
        };
        let mut end = image.len().min(MAX_REFERENCE);
        while !image.is_char_boundary(end) {
            end -= 1;
        }
        let image = &image[..end];
        let mut queue = self.queue();
        let sent = queue.sent;
        queue.events.retain(|e| e.seq <= sent || e.event != "progress" || e.image != image);
        if queue.events.len() >= MAX {
            queue.events.pop_front();
        }
        queue.last += 1;
        let seq = queue.last;
        let (event, cause) = (event.into(), cause.into());
        queue.events.push_back(SyncEvent { seq, at, event, image: image.into(), bytes, total, cause });
    }

    /// All of them, oldest first, to be sent.
    pub(super) fn send(&self) -> Vec<SyncEvent> {
        let mut queue = self.queue();
        queue.sent = queue.last;
        queue.events.iter().cloned().collect()
    }

    /// Ground Control has heard of those up to this number.
    pub(super) fn heard(&self, seq: u64) {
        self.queue().events.retain(|e| e.seq > seq);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::schedule::MachineTicks, *};

    fn events() -> Events {
        let dir = std::env::temp_dir();
        Events::new(Arc::new(Clock::open(&dir.join("absent"), Arc::new(MachineTicks::new()))))
    }

    fn said(events: &Events) -> Vec<(u64, String, u64)> {
        events.send().into_iter().map(|e| (e.seq, e.event, e.bytes)).collect()
    }

    #[test]
    fn events_are_said_until_they_are_heard() {
        let events = events();
        events.push("a", EventKind::Started);
        events.push("a", EventKind::Progress { bytes: 1, total: 9 });
        events.push("b", EventKind::Failed(Cause::DISK_BLOCKED));
        events.push("a", EventKind::Progress { bytes: 2, total: 9 });
        let first = [(1, "started".into(), 0), (3, "failed".into(), 0), (4, "progress".into(), 2)];
        assert_eq!(said(&events), first);
        assert_eq!(said(&events), first);
        // What was sent may be known under its number: it stays as it is.
        events.push("a", EventKind::Progress { bytes: 3, total: 9 });
        assert_eq!(said(&events).len(), 4);
        events.heard(4);
        assert_eq!(said(&events), [(5, "progress".into(), 3)]);
    }

    #[test]
    fn the_oldest_make_room() {
        let events = events();
        let long = "ä".repeat(1000);
        (0..100).for_each(|_| events.push(&long, EventKind::Removed));
        let said = events.send();
        assert_eq!((said.len(), said[0].seq, said[0].image.len()), (MAX, 37, MAX_REFERENCE));
    }
}
