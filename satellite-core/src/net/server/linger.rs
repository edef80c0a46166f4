//! The end of a connection whose request was answered without reading its body.
//!
//! Closing a socket with bytes unread resets the connection, and the reset may overtake the answer (a 401 to a
//! push, say). So what still comes is thrown away for a moment, until the client has read the answer and closes.

use std::{
    future::Future,
    io::{ErrorKind, Read},
    net::TcpStream,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_io::{Async, Timer};

const TIME: Duration = Duration::from_secs(2);
/// Thrown away at most, so that nobody uses it to burn our CPU.
const BYTES: usize = 16 << 20;

/// Reads and forgets.
pub(super) struct Linger {
    timer: Timer,
    left: usize,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { timer: Timer::after(TIME), left: BYTES }
    }

    /// Ready when the connection may be closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &Async<TcpStream>) -> Poll<()> {
        let mut scratch = [0; 8 << 10];
        loop {
            if Pin::new(&mut self.timer).poll(cx).is_ready() || self.left == 0 {
                return Poll::Ready(());
            }
            match socket.get_ref().read(&mut scratch) {
                Ok(0) => return Poll::Ready(()),
                Ok(n) => self.left = self.left.saturating_sub(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if ready!(socket.poll_readable(cx)).is_err() {
                        return Poll::Ready(());
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}
