//! The body of an answer, piece by piece as hyper asks for it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::{connection::Shared, gate::Gate, piece::Piece, sendfile::Data, watch::Watch};
use crate::net::message::{ByteStream, ResponseBody};

/// Bytes of a file read at once where it is not sent by `sendfile`; smaller files are never sent so, since a
/// plain write costs less for them.
const READ: usize = 64 << 10;
/// hyper counts in `usize`, which is less than a file on 32-bit gateways.
const FRAME: u64 = 1 << 30;

enum Kind {
    Bytes(Bytes),
    /// Read and copied: small files, and all of them over TLS.
    Read(Piece, BytesMut),
    /// Still to be put into the connection's slot, or `None` when it is there.
    Send(Option<Piece>),
    Stream(ByteStream, Watch),
}

/// What hyper sends after the head.
pub(super) struct Outgoing {
    kind: Kind,
    left: Option<u64>,
    gate: Gate,
    shared: Arc<Shared>,
}

/// The `answer` to a request of `method`, as hyper takes it. Its `content-length` is set to what the body has; only an
/// `Empty` answer to HEAD says by hand what GET would have.
pub(super) fn outgoing(
    answer: Response<ResponseBody>,
    method: &Method,
    shared: &Arc<Shared>,
    stall: Watch,
) -> Response<Outgoing> {
    let (mut head, body) = answer.into_parts();
    // RFC 9110 §8.6; hyper sends no length with 304 either.
    let bare = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let by_hand = !bare && method == Method::HEAD && matches!(body, ResponseBody::Empty);
    let (kind, left) = match body {
        ResponseBody::Empty => (Kind::Bytes(Bytes::new()), Some(0)),
        ResponseBody::Bytes(bytes) => {
            let left = bytes.len() as u64;
            (Kind::Bytes(bytes), Some(left))
        }
        ResponseBody::File { file, offset, len } => {
            let piece = Piece::new(file, offset, len);
            let send = !shared.tls && len > READ as u64;
            (if send { Kind::Send(Some(piece)) } else { Kind::Read(piece, BytesMut::new()) }, Some(len))
        }
        ResponseBody::Stream { len, stream } => (Kind::Stream(stream, stall), len),
    };
    if !by_hand {
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
        if let (Some(left), false) = (left, bare) {
            head.headers.insert(header::CONTENT_LENGTH, left.into());
        }
    }
    let silent = bare || method == Method::HEAD;
    let (kind, left) = if silent { (Kind::Bytes(Bytes::new()), Some(0)) } else { (kind, left) };
    let body = Outgoing { kind, left, gate: Gate::default(), shared: Arc::clone(shared) };
    Response::from_parts(head, body)
}

impl Outgoing {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Data>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let bytes = match &mut self.kind {
            Kind::Bytes(bytes) => std::mem::take(bytes),
            Kind::Send(piece) => {
                if let Some(piece) = piece.take() {
                    self.shared.file.put(piece);
                }
                let n = self.left.unwrap_or(0).min(FRAME);
                self.left = self.left.map(|left| left - n);
                return Poll::Ready(Some(Ok(Data::File(usize::try_from(n).unwrap_or(usize::MAX)))));
            }
            Kind::Read(piece, memory) => {
                ready!(self.gate.poll_open(cx));
                ready!(piece.poll_read(cx, memory, READ))?
            }
            Kind::Stream(stream, stall) => {
                ready!(self.gate.poll_open(cx));
                match stream.as_mut().poll_next(cx) {
                    Poll::Pending => return stall.poll_blocked(cx).map(|e| Some(Err(e))),
                    Poll::Ready(Some(bytes)) => {
                        stall.progress();
                        bytes?
                    }
                    Poll::Ready(None) if self.left.is_none() => return Poll::Ready(None),
                    Poll::Ready(None) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                }
            }
        };
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| io::Error::other("the body is longer than promised"))?;
        }
        let pass = self.gate.pass(bytes.len());
        Poll::Ready(Some(Ok(Data::Bytes(bytes, Some(pass)))))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.shared.answered();
    }
}

impl Body for Outgoing {
    type Data = Data;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Data>>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
