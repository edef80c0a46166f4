//! Bodies of answers: the reference's JSON.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use super::{Answer, Error};

/// A JSON body without a line end.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|e| {
        log::error!("an answer cannot be printed: {e}");
        Error::internal()
    })?;
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A text.
pub fn text(status: StatusCode, body: &'static str) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// RFC 3339 in UTC, from microseconds.
pub fn time(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| GO_ZERO.into(), |t| t.to_string())
}

/// Go's zero time.
const GO_ZERO: &str = "0001-01-01T00:00:00Z";

/// A nullable text as Go prints it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NullString {
    /// Empty if not valid.
    #[serde(rename = "String")]
    pub string: String,
    /// Whether there is one.
    #[serde(rename = "Valid")]
    pub valid: bool,
}

impl NullString {
    /// From what there may be.
    pub fn new(value: Option<String>) -> Self {
        Self { valid: value.is_some(), string: value.unwrap_or_default() }
    }
}

/// A nullable time as Go prints it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NullTime {
    /// RFC 3339; year 1 if not valid.
    #[serde(rename = "Time")]
    pub time: String,
    /// Whether there is one.
    #[serde(rename = "Valid")]
    pub valid: bool,
}

impl NullTime {
    /// From microseconds.
    pub fn new(value: Option<i64>) -> Self {
        Self { valid: value.is_some(), time: value.map_or_else(|| GO_ZERO.into(), time) }
    }
}

/// A nullable number as Go prints it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NullInt64 {
    /// 0 if not valid.
    #[serde(rename = "Int64")]
    pub int64: i64,
    /// Whether there is one.
    #[serde(rename = "Valid")]
    pub valid: bool,
}

/// A nullable smaller number as Go prints it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NullInt32 {
    /// 0 if not valid.
    #[serde(rename = "Int32")]
    pub int32: i64,
    /// Whether there is one.
    #[serde(rename = "Valid")]
    pub valid: bool,
}

impl From<i64> for NullInt64 {
    fn from(int64: i64) -> Self {
        Self { int64, valid: true }
    }
}

impl From<i64> for NullInt32 {
    fn from(int32: i64) -> Self {
        Self { int32, valid: true }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn times_and_absences_are_printed_as_go_does() {
        assert_eq!(time(1_764_000_000_123_456), "2025-11-24T16:00:00.123456Z");
        let text = |v: &dyn erased::Print| v.print();
        assert_eq!(text(&NullTime::new(None)), r#"{"Time":"0001-01-01T00:00:00Z","Valid":false}"#);
        assert_eq!(text(&NullString::new(None)), r#"{"String":"","Valid":false}"#);
        assert_eq!(text(&NullInt64::from(7)), r#"{"Int64":7,"Valid":true}"#);
    }

    mod erased {
        pub(super) trait Print {
            fn print(&self) -> String;
        }
        impl<T: serde::Serialize> Print for T {
            fn print(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }
}
