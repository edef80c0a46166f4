//! The handler that the server under it calls.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_lock::Semaphore;
use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use futures_lite::Stream;
use http_body::Body as _;
use satellite_core::net::message::{ByteStream, Handler, Request, Response, ResponseBody};
use tower::ServiceExt;

/// Answers of up to so many bytes go out in one piece.
const WHOLE: u64 = 32 << 20;
/// Requests in hand at once. One takes some 40 KiB beyond its connection, and the database has a dozen places: a herd
/// of thousands waits cheaply, with its bodies unread.
const IN_HAND: usize = 128;

/// Routes, and beside them perhaps a registry.
pub struct Service {
    routes: Router,
    registry: Option<Arc<dyn Handler>>,
    turns: Turns,
}

/// Places for requests in hand. Heartbeats have their own: they go on while whatever waits for a slow registry fills the
/// others.
struct Turns {
    heartbeats: Semaphore,
    others: Semaphore,
}

impl Turns {
    /// Where a request waits for its turn; what says how the server is never does.
    fn of(&self, path: &str) -> Option<&Semaphore> {
        match path {
            "/satellites/sync" => Some(&self.heartbeats),
            "/ping" | "/health" | "/healthz" | "/readyz" | "/metrics" => None,
            _ => Some(&self.others),
        }
    }
}

impl Service {
    /// `/v2` and all below it belongs to the registry, if there is one.
    pub fn new(routes: Router, registry: Option<Arc<dyn Handler>>) -> Self {
        let turns = Turns { heartbeats: Semaphore::new(IN_HAND), others: Semaphore::new(IN_HAND) };
        Self { routes, registry, turns }
    }
}

#[async_trait]
impl Handler for Service {
    async fn handle(&self, request: Request) -> Response {
        let path = request.uri().path();
        if let Some(registry) = &self.registry
            && (path == "/v2" || path.starts_with("/v2/"))
        {
            return registry.handle(request).await;
        }
        let turn = match self.turns.of(path) {
            Some(turns) => Some(turns.acquire().await),
            None => None,
        };
        let (parts, body) = request.into_parts();
        let body = if body.length == Some(0) {
            Body::empty()
        } else {
            Body::from_stream(Sendable(body.stream.into()))
        };
        let answer = self.routes.clone().oneshot(http::Request::from_parts(parts, body)).await;
        let (parts, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(never) => match never {},
        };
        let answer = http::Response::from_parts(parts, outgoing(body).await);
        drop(turn);
        answer
    }
}

async fn outgoing(body: Body) -> ResponseBody {
    match body.size_hint().exact() {
        Some(0) => ResponseBody::Empty,
        Some(len) if len <= WHOLE => match axum::body::to_bytes(body, usize::MAX).await {
            Ok(bytes) => ResponseBody::Bytes(bytes),
            Err(e) => ResponseBody::Stream {
                len: None,
                stream: Box::pin(futures_lite::stream::once(Err(std::io::Error::other(e)))),
            },
        },
        len => {
            let stream =
                futures_lite::StreamExt::map(body.into_data_stream(), |p| p.map_err(std::io::Error::other));
            ResponseBody::Stream { len, stream: Box::pin(stream) }
        }
    }
}

/// The body of a request is read by one task at a time; axum wants to know that it could be shared.
struct Sendable(std::sync::Mutex<ByteStream>);

impl Stream for Sendable {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        stream.as_mut().poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn heartbeats_have_places_of_their_own_and_who_asks_how_it_is_never_waits() {
        let turns = Turns { heartbeats: Semaphore::new(1), others: Semaphore::new(1) };
        let other = turns.of("/api/satellites").unwrap().try_acquire();
        assert!(other.is_some() && turns.of("/satellites/ztr/t").unwrap().try_acquire().is_none());
        assert!(turns.of("/satellites/sync").unwrap().try_acquire().is_some());
        assert!(turns.of("/readyz").is_none() && turns.of("/metrics").is_none());
        drop(other);
        assert!(turns.of("/api/groups").unwrap().try_acquire().is_some());
    }
}
