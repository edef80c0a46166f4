//! JSON bodies of requests, bounded.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use futures_lite::StreamExt;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::Error;
use crate::app::App;

/// Most bytes of an ordinary body.
pub const SMALL: usize = 1 << 20;
/// Most bytes of one with lists of images.
pub const LARGE: usize = 16 << 20;

/// A body read as the reference reads it: the content type does not matter, unknown fields neither, and what comes after
/// the first value is not looked at. Up to `LIMIT` bytes.
#[derive(Clone, Debug)]
pub struct Json<T, const LIMIT: usize = SMALL>(pub T);

impl<T: DeserializeOwned + Default, const LIMIT: usize> FromRequest<Arc<App>> for Json<T, LIMIT> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Error> {
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = read(request.into_body(), length, LIMIT).await?;
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

async fn read(body: Body, length: Option<usize>, limit: usize) -> Result<Vec<u8>, Error> {
    let too_large =
        || Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Request body is larger than {limit} bytes"));
    if length.is_some_and(|n| n > limit) {
        return Err(too_large());
    }
    let mut stream = body.into_data_stream();
    let mut all = Vec::with_capacity(length.unwrap_or(0).min(64 << 10));
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|e| Error::bad("Invalid request body").detail(e))?;
        if all.len() + piece.len() > limit {
            return Err(too_large());
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
