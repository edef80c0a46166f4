//! What one client may cost, and how long anything may take.

use std::time::Duration;

/// Limits of a [`Server`](super::Server). The defaults suit a gateway with 64 MB of memory and slow clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; one more is answered 503 and closed. Each takes up to two descriptors (socket and
    /// file). Default: 500, which fits the usual limit of 1,024 descriptors.
    pub connections: usize,
    /// For a request's head to arrive, and so for an idle kept-alive connection and a TLS handshake too.
    /// Default: 30 s.
    pub header_time: Duration,
    /// For the next request's head to begin on a connection that is kept; at most [`header_time`](Self::header_time).
    /// A kept connection holds some 17 KiB: thousands of clients that come twice a minute are better off without.
    /// Default: as long as that.
    pub idle: Duration,
    /// Header lines of a request; more are answered 431. Default: 100, above which hyper allocates for each
    /// request.
    pub headers: usize,
    /// Bytes of a request's head; more are answered 431. Default: 16 KiB, enough for any bearer token seen.
    pub header_bytes: usize,
    /// Most that hyper buffers of a body being received, in bytes, at least 8 KiB. Default: 128 KiB. Measured, CPU-s
    /// per GiB received by one client and peak memory of 64 pushes at once: 16 KiB 0.34 and 5 MiB, 64 KiB 0.29
    /// and 12, **128 KiB 0.23 and 21**, 256 KiB 0.23 and 38, 1 MiB 0.18 and 114. It grows only where bytes come
    /// that fast; pulls leave it at 8 KiB.
    pub buffer_bytes: usize,
    /// Without a byte of a body moving, in either direction, before the connection is closed. A handler that
    /// reads a body gets `TimedOut` first. Default: 60 s, since clients with slow disks do pause.
    pub body_idle: Duration,
    /// For a handler to answer, counted from the head or from the last piece of the request's body that it got,
    /// and not while it waits for one; afterwards the client gets 503 and can go to another registry.
    /// Default: 30 s.
    pub first_byte: Duration,
    /// For running answers to end after a stop. Default: 20 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 500,
            header_time: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            headers: 100,
            header_bytes: 16 << 10,
            buffer_bytes: 128 << 10,
            body_idle: Duration::from_secs(60),
            first_byte: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}
