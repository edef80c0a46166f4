//! A socket as hyper sees it: reads straight into hyper's buffer, writes with files by `sendfile`, and gives up on
//! a client that takes nothing, or sends no request.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, TcpStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::server::TlsStream;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::{Limits, connection::Shared, linger::Linger, sendfile::is_stand_in, watch::Watch};

/// Bytes sent before other connections get their turn, however fast this client is: a third of a millisecond.
const TURN: usize = 1 << 20;
/// A TLS record at most: rustls needs bytes that are initialised, and has no more at once.
const RECORD: usize = 16 << 10;

/// The two kinds of connection.
pub(super) enum Socket {
    Plain(Async<TcpStream>),
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

/// What hyper reads and writes.
pub(super) struct Io {
    socket: Socket,
    shared: Arc<Shared>,
    stall: Watch,
    /// For the next request's head to come whole, and for which one that is.
    head: Watch,
    awaited: Option<usize>,
    /// For a head to come, and for the next one to begin.
    patience: [Duration; 2],
    /// Since when that one is waited for, and whether any of it has come.
    since: Instant,
    begun: bool,
    turn: usize,
    /// The socket took less than it was offered.
    full: bool,
    /// The socket had less than there was room for: it has nothing now, and reading only says so.
    empty: bool,
    linger: Option<Linger>,
}

impl Io {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>, limits: &Limits) -> Self {
        let (stall, head) = (Watch::new(limits.body_idle), Watch::new(limits.header_time));
        let patience = [limits.header_time, limits.idle.min(limits.header_time)];
        let awaited = None;
        Self {
            socket,
            shared,
            stall,
            head,
            awaited,
            patience,
            since: Instant::now(),
            begun: false,
            turn: 0,
            full: false,
            empty: false,
            linger: None,
        }
    }

    /// Whether another head is waited for than at the last look; its time begins now.
    fn look(&mut self) {
        let awaited = self.shared.awaited();
        if awaited != self.awaited {
            self.awaited = awaited;
            self.since = Instant::now();
            self.begun = false;
            self.head.progress();
        }
    }

    /// Nothing to read: the error if the head that is waited for takes too long, its beginning included.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look();
        let [whole, idle] = self.patience;
        if idle < whole {
            return self.poll_rest(cx);
        }
        if self.awaited.is_none() {
            return Poll::Pending;
        }
        self.head.poll_blocked(cx).map(Err)
    }

    /// The same where a kept connection may not rest as long as a head may take. Nobody tells when an answer has ended,
    /// so that is looked at again and again.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let [whole, idle] = self.patience;
        loop {
            let most = if self.awaited.is_some_and(|n| n > 0) && !self.begun { idle } else { whole };
            if self.awaited.is_some() && self.since.elapsed() >= most {
                let late = io::Error::new(io::ErrorKind::TimedOut, "no request in time");
                return Poll::Ready(Err(late));
            }
            self.head.set_limit(idle);
            ready!(self.head.poll_blocked(cx).map(drop));
            self.head.restart();
            self.look();
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let sent = match &mut self.socket {
            Socket::Plain(socket) => {
                let file = slices.first().filter(|first| is_stand_in(first)).map(|first| first.len());
                if file.is_some() {
                    ready!(self.shared.file.poll_resident(cx));
                }
                loop {
                    if self.full {
                        match socket.poll_writable(cx) {
                            Poll::Ready(ready) => ready?,
                            Poll::Pending => break Poll::Pending,
                        }
                        self.full = false;
                    }
                    match file
                        .map_or_else(|| send(socket, slices), |most| self.shared.file.send(&*socket, most))
                    {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.full = true,
                        sent => {
                            // A `sendfile` that finds no room is not cheap: it takes the pages first.
                            self.full = matches!((&sent, file), (Ok(n), Some(most)) if *n < most);
                            break Poll::Ready(sent);
                        }
                    }
                }
            }
            Socket::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        };
        let sent = ready!(self.or_stalled(cx, sent));
        if let Ok(n) = sent {
            self.turn += n;
            self.shared.stats.add_sent(n);
        }
        Poll::Ready(sent)
    }

    /// Passes on the `state` of a write, or the error when the client has not taken anything for too long.
    fn or_stalled<T>(&mut self, cx: &mut Context<'_>, state: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if state.is_ready() {
            self.stall.progress();
            return state;
        }
        self.turn = 0;
        self.stall.poll_blocked(cx).map(Err)
    }
}

/// Sends what comes before the first file; it waits for company if a file follows.
fn send(socket: &Async<TcpStream>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let before = slices.iter().position(|slice| is_stand_in(slice));
    let more = if before.is_some() { SendFlags::MORE } else { SendFlags::empty() };
    let slices = &slices[..before.unwrap_or(slices.len())];
    Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL | more)?)
}

impl Read for Io {
    #[allow(unsafe_code)]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.socket {
            Socket::Plain(socket) => loop {
                if this.empty {
                    match socket.poll_readable(cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return this.poll_patience(cx),
                    }
                    this.empty = false;
                }
                // SAFETY: `read` writes to the space and never de-initialises it.
                match rustix::io::read(&*socket, unsafe { buf.as_mut() }) {
                    Ok((read, room)) => {
                        let n = read.len();
                        this.empty = n > 0 && !room.is_empty();
                        // SAFETY: so many bytes at its front were just written.
                        unsafe { buf.advance(n) };
                        this.look();
                        this.begun = true;
                        break;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => this.empty = true,
                    Err(e) => return Poll::Ready(Err(e.into())),
                }
            },
            Socket::Tls(tls) => {
                let mut record = [0; RECORD];
                let most = buf.remaining().min(RECORD);
                match Pin::new(tls).poll_read(cx, &mut record[..most]) {
                    Poll::Ready(n) => {
                        buf.put_slice(&record[..n?]);
                        this.look();
                        this.begun = true;
                    }
                    Poll::Pending => return this.poll_patience(cx),
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, slices)
    }

    /// hyper must queue the pieces of a body: flattening would copy the stand-in.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Tls(tls) => {
                let state = Pin::new(tls).poll_flush(cx);
                self.or_stalled(cx, state)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(linger) = &mut this.linger {
            let socket = match &this.socket {
                Socket::Plain(socket) => socket,
                Socket::Tls(tls) => tls.get_ref().0,
            };
            return linger.poll(cx, socket).map(Ok);
        }
        match &mut this.socket {
            Socket::Plain(socket) => socket.get_ref().shutdown(Shutdown::Write)?,
            Socket::Tls(tls) => {
                let state = Pin::new(tls).poll_close(cx);
                ready!(this.or_stalled(cx, state))?;
            }
        }
        if this.shared.is_unread() {
            this.linger = Some(Linger::new());
            return self.poll_shutdown(cx);
        }
        Poll::Ready(Ok(()))
    }
}
