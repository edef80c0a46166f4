//! The body of a request as the handler reads it.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_lite::Stream;
use http::{HeaderMap, header};
use http_body::Body;
use hyper::body::Incoming;

use super::{connection::Shared, watch::Watch};
use crate::net::message::RequestBody;

/// hyper's body as a stream, which ends in an error where the client sends nothing for too long.
struct Upload {
    body: Incoming,
    stall: Watch,
    shared: Arc<Shared>,
    done: bool,
}

/// `body` for a handler.
pub(super) fn incoming(
    body: Incoming,
    headers: &HeaderMap,
    shared: &Arc<Shared>,
    stall: Watch,
) -> RequestBody {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|_| body.size_hint().exact());
    let done = body.is_end_stream();
    RequestBody { length, stream: Box::pin(Upload { body, stall, shared: Arc::clone(shared), done }) }
}

impl Stream for Upload {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            let error = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => match this.stall.poll_blocked(cx) {
                    Poll::Pending => {
                        this.shared.set_turn(false);
                        return Poll::Pending;
                    }
                    Poll::Ready(error) => error,
                },
                Poll::Ready(Some(Ok(frame))) => {
                    this.stall.progress();
                    this.shared.set_turn(true);
                    match frame.into_data() {
                        Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                        Err(_trailers) => continue,
                    }
                }
                Poll::Ready(Some(Err(error))) => cause(&error),
                Poll::Ready(None) => {
                    this.done = true;
                    this.shared.set_turn(true);
                    return Poll::Ready(None);
                }
            };
            this.done = true;
            this.shared.set_turn(true);
            this.shared.set_unread(true);
            return Poll::Ready(Some(Err(error)));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.done {
            self.shared.set_turn(true);
            self.shared.set_unread(true);
        }
    }
}

/// The kind that a handler can tell apart: a client that went away is `UnexpectedEof` or a reset.
fn cause(error: &hyper::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let kind = source.map_or(io::ErrorKind::UnexpectedEof, io::Error::kind);
    io::Error::new(kind, format!("reading the request's body: {error}"))
}
