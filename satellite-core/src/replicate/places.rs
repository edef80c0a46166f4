//! How many blobs are fetched at once.
//!
//! As many as the caller says; of small ones more, where the way to and fro takes longer than the bytes do. On a link
//! with a long way that fills the line; on a slow one, more connections would only fill its queue, and lose what does
//! not fit (measured at 1 Mbit/s: 16 at once carry half of what 4 do).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_lock::{Semaphore, SemaphoreGuardArc};
use futures_lite::future::or;

/// Bytes up to which a blob may cost more for the way than for itself.
const SMALL: u64 = 256 << 10;
/// So many times the caller's number at most.
const MOST: usize = 4;

pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Further ones for small blobs: none at first.
    extra: Arc<Semaphore>,
    /// How many of those there are.
    open: AtomicUsize,
    most: usize,
}

/// One of them, until it is given back.
pub(super) struct Place {
    guard: SemaphoreGuardArc,
    extra: bool,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            all: Arc::new(Semaphore::new(count)),
            extra: Arc::new(Semaphore::new(0)),
            open: AtomicUsize::new(0),
            most: count * (MOST - 1),
        }
    }

    /// Waits for a place for a blob of `size` bytes.
    pub(super) async fn take(&self, size: u64) -> Place {
        let all = async { Place { guard: self.all.acquire_arc().await, extra: false } };
        if size > SMALL {
            return all.await;
        }
        or(all, async { Place { guard: self.extra.acquire_arc().await, extra: true } }).await
    }

    /// Gives a place back after a blob whose first byte came after `wait`, and whose last so much later.
    pub(super) fn give_back(&self, place: Place, size: u64, wait: Duration, bytes: Duration) {
        if size > SMALL {
            return;
        }
        let open = self.open.load(Ordering::Relaxed);
        // Between the two nothing changes: a full line makes both longer.
        if bytes < wait / 2 && open < self.most {
            self.open.fetch_add(1, Ordering::Relaxed);
            self.extra.add_permits(1);
        } else if bytes > wait && open > 0 {
            let surplus = if place.extra { Some(place.guard) } else { self.extra.try_acquire_arc() };
            if let Some(surplus) = surplus {
                self.open.fetch_sub(1, Ordering::Relaxed);
                surplus.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    const FAR: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(10));
    const SLOW: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

    /// How many small ones, or large ones, go at once.
    fn width(places: &Places, size: u64) -> usize {
        let mut held = Vec::new();
        while let Some(place) = block_on(poll_once(places.take(size))) {
            held.push(place);
        }
        held.len()
    }

    fn fetch(places: &Places, size: u64, (wait, bytes): (Duration, Duration), times: usize) {
        for _ in 0..times {
            let place = block_on(places.take(size));
            places.give_back(place, size, wait, bytes);
        }
    }

    #[test]
    fn small_blobs_over_a_long_way_go_many_at_once_and_large_ones_do_not() {
        let places = Places::new(4);
        assert_eq!(width(&places, 1000), 4);
        fetch(&places, 1000, FAR, 100);
        assert_eq!((width(&places, 1000), width(&places, SMALL + 1)), (16, 4));
        fetch(&places, SMALL + 1, SLOW, 100);
        assert_eq!(width(&places, 1000), 16, "large blobs say nothing about the way");
    }

    #[test]
    fn on_a_slow_line_there_are_no_more_than_were_asked_for() {
        let places = Places::new(4);
        fetch(&places, 64 << 10, SLOW, 10);
        assert_eq!(width(&places, 1000), 4);
        fetch(&places, 1000, FAR, 5);
        assert_eq!(width(&places, 1000), 9);
        fetch(&places, 64 << 10, SLOW, 50);
        assert_eq!(width(&places, 1000), 4);
        assert_eq!(width(&Places::new(0), 1), 1);
    }
}
