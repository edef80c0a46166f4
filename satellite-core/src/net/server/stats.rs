//! What a server counts for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Counters of one [`Server`](super::Server), read while it runs.
#[derive(Debug, Default)]
pub struct Stats {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    sent: AtomicU64,
}

impl Stats {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Connections accepted since the start, without the refused ones.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections closed at once because [`Limits::connections`](super::Limits::connections) were open.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Bytes handed to sockets, heads included, before encryption.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn add_sent(&self, n: usize) {
        self.sent.fetch_add(n as u64, Relaxed);
    }

    /// Counts a new connection as open until the value is dropped. `None`: `limit` are open already.
    pub(super) fn admit(self: &Arc<Self>, limit: usize) -> Option<Open> {
        // A server's accept loops share one task, so nothing comes between the look and the count.
        if self.open() >= limit {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        self.open.fetch_add(1, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
        Some(Open(Arc::clone(self)))
    }
}

/// One open connection.
pub(super) struct Open(Arc<Stats>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
