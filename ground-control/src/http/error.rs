//! Errors as the reference prints them: `{"message":"…","code":404}`, and `{"error":"…"}` where it does so.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{auth::Busy, db};

/// Longest detail that is told.
const MAX_DETAIL: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Message,
    Error,
}

/// An answer that says what is wrong.
#[derive(Clone, Debug)]
pub struct Error {
    status: StatusCode,
    message: Cow<'static, str>,
    shape: Shape,
    detail: Option<String>,
    retry_after: Option<Duration>,
}

impl Error {
    /// `{"message":…,"code":…}`
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), shape: Shape::Message, detail: None, retry_after: None }
    }

    /// 400.
    pub fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn absent(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500, as the reference says it.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// `{"error":…}` and a line end.
    pub fn plain(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { shape: Shape::Error, ..Self::new(status, message) }
    }

    /// 429.
    pub fn too_many() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(60)),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
        }
    }

    /// 503: too much of the same goes on.
    pub fn busy() -> Self {
        let message = "Service Unavailable: too many logins at once, try again";
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// 503: the database.
    pub fn away() -> Self {
        let message = "Service Unavailable: the database does not answer, try again";
        Self {
            retry_after: Some(Duration::from_secs(2)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// What exactly is wrong, for the header `Error-Detail`: the reference's messages often do not say.
    #[must_use]
    pub fn detail(mut self, detail: impl std::fmt::Display) -> Self {
        let text: String = detail.to_string();
        let plain = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
        self.detail = Some(plain.take(MAX_DETAIL).collect());
        self
    }

    /// When to come again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status.as_u16(), self.message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = match self.shape {
            Shape::Message => json!({"message": self.message, "code": self.status.as_u16()}).to_string(),
            Shape::Error => format!("{}\n", json!({"error": self.message})),
        };
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(detail) = self.detail.and_then(|d| HeaderValue::from_str(&d).ok()) {
            headers.insert("error-detail", detail);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}

impl From<db::Error> for Error {
    fn from(e: db::Error) -> Self {
        match e {
            db::Error::Away(_) => {
                log::warn!("{e}");
                Self::away()
            }
            _ => {
                log::error!("{e}");
                Self::internal()
            }
        }
    }
}

impl From<Busy> for Error {
    fn from(_: Busy) -> Self {
        Self::busy()
    }
}
