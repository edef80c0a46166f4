//! Bounds what a body holds in memory for a client that reads slowly.
//!
//! hyper asks for more of a body until its write buffer is full, and that is as large as reading bodies needs it
//! (`Limits::buffer_bytes`), times the clients. The gate stays closed while a body's earlier pieces wait for the
//! socket.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A body asks for its next piece while less than this waits for the socket.
const OPEN_BELOW: usize = 64 << 10;

#[derive(Default)]
struct State {
    waiting: usize,
    waker: Option<Waker>,
}

/// Belongs to one body.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

impl Gate {
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.waiting < OPEN_BELOW {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// `bytes` go to the socket; drop the pass when they have gone.
    pub(super) fn pass(&self, bytes: usize) -> Pass {
        self.lock().waiting += bytes;
        Pass { gate: self.clone(), bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a body that wait for the socket.
pub(super) struct Pass {
    gate: Gate,
    bytes: usize,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.gate.lock();
            state.waiting -= self.bytes;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
