//! Bodies, both ways, without copies where the caller asked for none.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_lite::{AsyncBufRead, AsyncRead, Stream};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{SendStream, pool::Lease};
use crate::net::message::ByteStream;

/// Where a response keeps its stream for [`super::take_stream`]. The mutex is never locked: it makes the stream `Sync`.
pub(super) struct Slot(pub(super) Mutex<Option<ByteStream>>);

enum Source {
    Surf(surf::Body),
    Stream(ByteStream),
}

/// A request's body.
pub(super) struct Outgoing {
    source: Option<Source>,
    length: Option<u64>,
    sent: u64,
    /// Set when all of it was handed to hyper: only then may the connection serve another request.
    done: Arc<AtomicBool>,
}

impl Outgoing {
    pub(super) fn empty() -> Self {
        Self { source: None, length: Some(0), sent: 0, done: Arc::new(AtomicBool::new(true)) }
    }

    pub(super) fn from_surf(body: surf::Body) -> Self {
        match body.len() {
            Some(0) => Self::empty(),
            length => Self::new(Source::Surf(body), length.map(|n| n as u64)),
        }
    }

    /// `None` if the stream was taken before.
    pub(super) fn from_stream(mut from: SendStream) -> Option<Self> {
        let stream = from.stream.get_mut().ok()?.take()?;
        Some(if from.length == Some(0) {
            Self::empty()
        } else {
            Self::new(Source::Stream(stream), from.length)
        })
    }

    fn new(source: Source, length: Option<u64>) -> Self {
        Self { source: Some(source), length, sent: 0, done: Arc::new(AtomicBool::new(false)) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.source.is_none()
    }

    pub(super) fn done(&self) -> Arc<AtomicBool> {
        self.done.clone()
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.source {
            None => Poll::Ready(None),
            Some(Source::Stream(stream)) => stream.as_mut().poll_next(cx),
            Some(Source::Surf(body)) => {
                let mut body = Pin::new(body);
                let bytes = Bytes::copy_from_slice(ready!(body.as_mut().poll_fill_buf(cx))?);
                body.consume(bytes.len());
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = ready!(self.poll_source(cx)).transpose()?;
        let wrong = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the body to send is {what} than said"))
        };
        let sent = self.sent + next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Poll::Ready(match (next, self.length) {
            (Some(_), Some(length)) if sent > length => Some(Err(wrong("longer"))),
            (None, Some(length)) if sent < length => Some(Err(wrong("shorter"))),
            (Some(bytes), length) => {
                self.sent = sent;
                // hyper asks no further once the length is reached.
                if length == Some(sent) {
                    self.done.store(true, Ordering::Release);
                }
                Some(Ok(Frame::data(bytes)))
            }
            (None, _) => {
                self.done.store(true, Ordering::Release);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |n| SizeHint::with_exact(n - self.sent))
    }
}

/// An answer's body. At its end the connection goes back to the pool; dropped before, it is closed.
pub(super) struct Received {
    incoming: Incoming,
    chunk: Bytes,
    lease: Option<Lease>,
}

impl Received {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut this = Self { incoming, chunk: Bytes::new(), lease: Some(lease) };
        if this.incoming.is_end_stream() {
            this.end();
        }
        this
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.lease.is_none() {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => self.end(),
                Some(Ok(frame)) => {
                    // Trailers say nothing that a registry's client needs.
                    let Ok(bytes) = frame.into_data() else { continue };
                    if self.incoming.is_end_stream() {
                        self.end();
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                }
                Some(Err(error)) => {
                    self.lease = None;
                    let kind = kind_of(&error);
                    return Poll::Ready(Err(io::Error::new(kind, error)));
                }
            }
        }
    }
}

/// What the socket said, or that the body ended early.
fn kind_of(error: &hyper::Error) -> io::ErrorKind {
    if error.is_incomplete_message() || error.is_closed() {
        return io::ErrorKind::UnexpectedEof;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.kind();
        }
        source = cause.source();
    }
    io::ErrorKind::Other
}

impl Stream for Received {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx).map(Result::transpose)
    }
}

impl AsyncBufRead for Received {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.chunk.is_empty() {
            this.chunk = ready!(this.poll_chunk(cx))?.unwrap_or_default();
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl AsyncRead for Received {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let read = chunk.len().min(buffer.len());
        buffer[..read].copy_from_slice(&chunk[..read]);
        self.consume(read);
        Poll::Ready(Ok(read))
    }
}
