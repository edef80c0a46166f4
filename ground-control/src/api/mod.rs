//! The routes: a file a resource. Each reads a request, does it in one transaction with its outbox rows and its audit
//! event, and says what was done. `router.rs` has the list.

pub mod audit;
pub mod configs;
pub mod enroll;
pub mod events;
pub mod groups;
pub mod health;
pub mod images;
pub mod lifecycle;
pub mod login;
pub mod members;
pub mod outbox;
mod pending;
pub mod rows;
pub mod satellites;
pub mod spire;
pub mod status;
pub mod sync;
pub mod users;
pub mod ztr;

pub(crate) use satellites::thresholds;

use std::sync::Arc;

use axum::extract::State;

/// The server, as handlers get it.
pub type Ctx = State<Arc<crate::app::App>>;

/// The form of an error.
#[derive(utoipa::ToSchema, serde::Serialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub message: String,
    /// The status once more.
    pub code: u16,
}

/// What any route may answer instead.
#[derive(utoipa::IntoResponses)]
pub enum Refused {
    /// The request is wrong; the header `Error-Detail` may say where.
    #[response(status = 400)]
    Bad(ErrorBody),
    /// No credentials, or wrong ones.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// Not with this role, or not any more.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// There is no such thing.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// There is such a thing already, or it changed meanwhile.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// Too many requests of this account or satellite: `{"error":…}`.
    #[response(status = 429)]
    TooMany(PlainError),
    /// Something broke here.
    #[response(status = 500)]
    Internal(ErrorBody),
    /// The database or central does not answer: try again.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// The other form of an error.
#[derive(utoipa::ToSchema, serde::Serialize)]
pub struct PlainError {
    /// What is wrong.
    pub error: String,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Nothing {}
