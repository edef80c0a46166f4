//! A socket as hyper wants it.

use std::{
    io,
    net::TcpStream,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::client::TlsStream;
use hyper::rt::ReadBufCursor;

/// Most bytes taken from a TLS session at once. hyper's buffer has to be zeroed for it first, so no more than comes
/// (records hold 16 KiB).
const TLS_READ: usize = 32 << 10;

/// Most bytes that may come before an answer's head is there: interim answers (1xx) without end would keep the thread.
/// What of the body comes in the same reads is in it.
const MAX_BEFORE_ANSWER: u64 = 4 << 20;

/// When bytes last moved on a connection, and how many may come before the answer.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

struct Shared {
    begun: Instant,
    last: AtomicU64,
    /// Bytes that may come until the answer is there; without bound while none is awaited.
    left: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
        }))
    }

    /// Bytes move now.
    pub(super) fn touch(&self) {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(millis, Ordering::Relaxed);
    }

    /// When they last did.
    pub(super) fn last(&self) -> Instant {
        self.0.begun + Duration::from_millis(self.0.last.load(Ordering::Relaxed))
    }

    /// An answer is awaited from now on, or has come.
    pub(super) fn await_answer(&self, awaited: bool) {
        self.0.left.store(if awaited { MAX_BEFORE_ANSWER } else { u64::MAX }, Ordering::Relaxed);
    }

    /// Bytes came.
    fn came(&self, bytes: usize) -> io::Result<()> {
        self.touch();
        let left = self.0.left.load(Ordering::Relaxed);
        if left == u64::MAX {
            return Ok(());
        }
        self.0.left.store(left.saturating_sub(bytes as u64), Ordering::Relaxed);
        if left > 0 { Ok(()) } else { Err(io::Error::other("interim answers without end")) }
    }
}

pub(super) enum Stream {
    Plain(Async<TcpStream>),
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

pub(super) struct Io {
    stream: Stream,
    activity: Activity,
}

impl Io {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, activity: Activity::new() }
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream),
        }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.activity.touch();
        }
        result
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let came = match &mut self.stream {
            Stream::Plain(stream) => {
                let read = ready!(read_uninit(stream, cx, &mut cursor))?;
                // SAFETY: the kernel has written that many bytes at the front of the cursor.
                #[allow(unsafe_code)]
                unsafe {
                    cursor.advance(read);
                }
                read
            }
            Stream::Tls(stream) => {
                let room = cursor.remaining().min(TLS_READ);
                let buffer = cursor.initialize_unfilled_to(room);
                let read = ready!(Pin::new(stream).poll_read(cx, buffer))?;
                // SAFETY: those bytes are part of what was initialised.
                #[allow(unsafe_code)]
                unsafe {
                    cursor.advance(read.min(room));
                }
                read
            }
        };
        Poll::Ready(self.activity.came(came))
    }
}

/// Straight into hyper's buffer: zeroing 400 KiB for every read would cost more than the read.
fn read_uninit(
    stream: &Async<TcpStream>,
    cx: &mut Context<'_>,
    cursor: &mut ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        // SAFETY: `read` only ever writes initialised bytes into it.
        #[allow(unsafe_code)]
        let buffer = unsafe { cursor.as_mut() };
        match rustix::io::read(stream, buffer) {
            Ok((filled, _)) => return Poll::Ready(Ok(filled.len())),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => ready!(stream.poll_readable(cx))?,
            Err(error) => return Poll::Ready(Err(error.into())),
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.writer().poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.writer().poll_write_vectored(cx, pieces);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_close(cx)
    }
}
