//! Notices that the other side has stopped.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_io::Timer;

/// Rings when something was blocked for `limit` without a break.
///
/// The timer is moved when it rings, not at each progress: a fast transfer costs one timer per `limit`.
pub(super) struct Watch {
    limit: Duration,
    blocked: Option<Instant>,
    timer: Option<Timer>,
}

impl Watch {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, blocked: None, timer: None }
    }

    /// It moved.
    pub(super) fn progress(&mut self) {
        self.blocked = None;
    }

    /// From now on it may be blocked for so long; a shorter time counts at once, at the price of another timer.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        if limit < self.limit {
            self.timer = None;
        }
        self.limit = limit;
    }

    /// Forgets everything: also that it rang.
    pub(super) fn restart(&mut self) {
        self.blocked = None;
        self.timer = None;
    }

    /// It is blocked. Ready with the error when it was for too long; otherwise `cx` is woken at that time.
    pub(super) fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let end = *self.blocked.get_or_insert_with(Instant::now) + self.limit;
        loop {
            let timer = self.timer.get_or_insert_with(|| Timer::at(end));
            let rang = ready!(Pin::new(&mut *timer).poll(cx));
            if rang >= end {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no progress for too long"));
            }
            timer.set_at(end);
        }
    }
}
