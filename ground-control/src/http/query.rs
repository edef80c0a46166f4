//! Parameters of queries and paths; what is wrong with one is told in the form of every other error.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::Error;
use crate::app::App;

/// A query's parameters.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let query = AxumQuery::<T>::from_request_parts(parts, app).await;
        query.map(|q| Self(q.0)).map_err(|e| {
            let text = e.body_text();
            Error::bad(text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_string())
        })
    }
}

/// A path's parameters.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let path = AxumPath::<T>::from_request_parts(parts, app).await;
        path.map(|p| Self(p.0)).map_err(|e| Error::bad("Invalid path").detail(e.body_text()))
    }
}
