//! The HTTP/1.1 server: [`Server`] takes sockets and gives requests to a [`Handler`].
//!
//! # Implementation
//!
//! One task per connection on the caller's executor; no threads. Files go from the page cache to plain sockets by
//! `sendfile` (`sendfile.rs` tells how that works under hyper), or in 64 KiB pieces where they are small or
//! encrypted. Bytes of a file that are not in the page cache are read ahead by smol's pool of blocking threads, four
//! windows at once, so that a slow card delays nobody else (`piece.rs`). Every wait for a client has a bound
//! ([`Limits`]), and so has what a connection holds in memory: hyper's buffers, and 64 KiB to 128 KiB of a body
//! that is copied (`gate.rs`).
//!
//! `sendfile` raises SIGPIPE where a client has gone: Rust programs ignore it, others must.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_io::{Async, Timer};
use futures_lite::future::{or, yield_now};
use smol::channel::bounded;

use self::connection::Common;
use super::{Executor, message::Handler, woken::Woken};

mod body;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gate;
mod limits;
mod linger;
mod piece;
mod sendfile;
mod socket;
mod stats;
mod tls;
mod upload;
mod watch;

#[cfg(test)]
mod tests;

pub use self::{
    limits::Limits,
    stats::Stats,
    tls::{TlsAcceptor, TlsError},
};

/// Between attempts to accept while the system refuses, at least and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Connections accepted in a row before those that are open have their turn.
const BURST: usize = 64;

/// What a client gets that is one too many, as far as it fits into a socket at once.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: application/json\r\ncontent-length: 73\r\n\r\n\
    {\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"too many connections open\"}]}";

/// Serves HTTP/1.1, plain or over TLS, on any number of listening sockets.
pub struct Server {
    listeners: Vec<Async<TcpListener>>,
    common: Arc<Common>,
}

impl Server {
    /// A server on sockets that listen already. Fails where the reactor cannot watch one.
    pub fn new(
        listeners: impl IntoIterator<Item = TcpListener>,
        handler: Arc<dyn Handler>,
        limits: Limits,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Self> {
        let listeners = listeners.into_iter().map(Async::new).collect::<io::Result<_>>()?;
        let (stats, http) = (Arc::new(Stats::default()), connection::http(&limits));
        Ok(Self { listeners, common: Arc::new(Common { handler, limits, tls, stats, http }) })
    }

    /// Its counters, which live on after it.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.common.stats)
    }

    /// Serves until `stop` is ready. Then the listening sockets are closed, so that new clients are refused and go
    /// elsewhere; idle connections are closed, running answers may end within [`Limits::drain`], and what is
    /// left is cut. If the returned future is dropped, the connections end likewise in their own tasks.
    pub async fn run(self, ex: &Executor, stop: impl Future<Output = ()>) {
        let Self { listeners, common } = self;
        // Nothing is ever sent: dropping the sender tells the connections to stop, and when the last of them
        // has dropped its own sender, all have.
        let (running, stopped) = bounded::<Infallible>(1);
        let (busy, all_done) = bounded::<Infallible>(1);
        {
            let start = |stream, address: SocketAddr| {
                // So that a socket for both families shows IPv4 clients, and loopback, as what they are.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let Some(open) = common.stats.admit(common.limits.connections) else {
                    return refuse(&stream);
                };
                let (common, stopped, busy) = (Arc::clone(&common), stopped.clone(), busy.clone());
                let serve = connection::serve(common, stream, address, stopped);
                ex.spawn(async move {
                    serve.await;
                    drop((open, busy));
                })
                .detach();
            };
            let mut loops: Vec<_> =
                listeners.into_iter().map(|listener| Box::pin(accept(listener, &start))).collect();
            let all = poll_fn(|cx| {
                for accept in &mut loops {
                    let _: Poll<Infallible> = accept.as_mut().poll(cx);
                }
                Poll::Pending
            });
            Woken::new(or(stop, all)).await;
        }
        drop((running, busy));
        let _: Result<Infallible, _> = all_done.recv().await;
    }
}

/// Accepts for ever. Where the system has no descriptors or memory left, it waits instead of spinning.
async fn accept(listener: Async<TcpListener>, start: &impl Fn(Async<TcpStream>, SocketAddr)) -> Infallible {
    let [least, most] = BACK_OFF;
    let mut pause = least;
    for count in 1_usize.. {
        // Not after each one: between two turns every busy connection may send, and a crowd would wait for
        // seconds to be let in.
        if count % BURST == 0 {
            yield_now().await;
        }
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = least;
                start(stream, address);
            }
            // The client's trouble, not ours.
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(e) => {
                if pause == least {
                    log::warn!("accepting connections fails, trying again: {e}");
                }
                Timer::after(pause).await;
                pause = (pause * 2).min(most);
            }
        }
    }
    std::future::pending().await
}

/// Says so if that needs no waiting, and closes; over TLS the client only sees the end.
fn refuse(stream: &Async<TcpStream>) {
    let _ = rustix::net::send(stream, BUSY, rustix::net::SendFlags::NOSIGNAL);
}
