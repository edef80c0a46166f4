//! HTTP between sockets and routes: request ids, error bodies, limits, the access log.
//!
//! The sockets are satellite-core's server: its limits on heads, idle time and connections hold here too, and its TLS.
//! [`Service`] is the handler that it calls: `/v2/` goes to the embedded registry if there is one, everything else to the
//! routes.

mod body;
mod error;
mod layer;
mod origin;
mod page;
mod query;
mod reply;
mod service;

pub use body::{Json, LARGE, SMALL};
pub use error::Error;
pub use layer::{not_allowed, not_found, observe};
pub use origin::Origin;
pub use page::{Page, PageQuery, stream};
pub use query::{Path, Query};
pub use reply::{NullInt32, NullInt64, NullString, NullTime, json, text, time};
pub use service::Service;

/// What a route answers.
pub type Answer = Result<axum::response::Response, Error>;
