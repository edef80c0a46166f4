//! JSON bodies of requests, bounded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use futures_lite::{StreamExt, future::or};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::Error;
use crate::app::App;

/// Most bytes of an ordinary body.
pub const SMALL: usize = 1 << 20;
/// Most bytes of one with lists of images.
pub const LARGE: usize = 16 << 20;

/// For a body to come, beside a second for each [`FLOOR`] bytes of it: who sends slower holds a place that others wait for.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes a second that a body must come with.
const FLOOR: usize = 4 << 10;

/// A body read as the reference reads it: the content type does not matter, unknown fields neither, and what comes after
/// the first value is not looked at. Up to `LIMIT` bytes.
#[derive(Clone, Debug)]
pub struct Json<T, const LIMIT: usize = SMALL>(pub T);

impl<T: DeserializeOwned + Default, const LIMIT: usize> FromRequest<Arc<App>> for Json<T, LIMIT> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Error> {
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = read(request.into_body(), length, LIMIT, GRACE).await?;
        let invalid = |e: serde_json::Error| Error::bad("Invalid request body").detail(e);
        // No route takes a list, and serde would fill a struct's fields from it by their order.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(Error::bad("Invalid request body").detail("an object is expected, not a list"));
        }
        let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Option<T>>();
        match values.next() {
            Some(value) => value.map(|v| Self(v.unwrap_or_default())).map_err(invalid),
            None => Err(Error::bad("Invalid request body").detail("the body is empty")),
        }
    }
}

async fn read(body: Body, length: Option<usize>, limit: usize, grace: Duration) -> Result<Vec<u8>, Error> {
    let too_large =
        || Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Request body is larger than {limit} bytes"));
    if length.is_some_and(|n| n > limit) {
        return Err(too_large());
    }
    let late = || Error::new(StatusCode::REQUEST_TIMEOUT, "Request body takes too long");
    let mut stream = body.into_data_stream();
    let mut all = Vec::with_capacity(length.unwrap_or(0).min(64 << 10));
    let begun = Instant::now();
    loop {
        let end = begun + grace + Duration::from_secs((all.len() / FLOOR) as u64);
        let piece = or(async { Ok(stream.next().await) }, async {
            Timer::at(end).await;
            Err(late())
        });
        let Some(piece) = piece.await? else { break };
        let piece = piece.map_err(|e| Error::bad("Invalid request body").detail(e))?;
        if all.len() + piece.len() > limit {
            return Err(too_large());
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_lite::stream::{self, StreamExt as _};

    use super::*;

    #[test]
    fn a_body_that_does_not_come_is_given_up_and_one_that_comes_is_whole() {
        let pieces = |n: usize| stream::iter((0..n).map(|_| Ok::<_, std::io::Error>(vec![b'x'; FLOOR])));
        smol::block_on(async {
            let never = Body::from_stream(pieces(1).chain(stream::pending()));
            let asked = Instant::now();
            let late = read(never, None, LARGE, Duration::from_millis(20)).await.unwrap_err();
            assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
            // A second for the bytes that came, beside the grace.
            assert!(asked.elapsed() >= Duration::from_millis(1020));
            let whole =
                read(Body::from_stream(pieces(3)), None, LARGE, Duration::from_millis(20)).await.unwrap();
            assert_eq!(whole.len(), 3 * FLOOR);
            let large = read(Body::from_stream(pieces(3)), None, 2 * FLOOR, GRACE).await.unwrap_err();
            assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
        });
    }
}
