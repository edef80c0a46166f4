//! Where a request came from, for the audit log and for limits.

use std::{convert::Infallible, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use satellite_core::net::message::Peer;

use crate::{app::App, auth::uuid};

/// Longest user agent that is kept.
const MAX_AGENT: usize = 200;

/// Where a request came from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The other end's address, without its port.
    pub address: String,
    /// What it says it is.
    pub user_agent: String,
    /// The request's id.
    pub request_id: String,
}

/// A request's id, found in its extensions.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

impl RequestId {
    /// The client's, if it is one: 1–128 characters of `[A-Za-z0-9._-]`; else a new UUID.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let good = |id: &&str| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let given = headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(str::trim).filter(good);
        Self(given.map_or_else(uuid, String::from))
    }
}

impl Origin {
    /// Of a request.
    pub fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<Peer>().map(|p| p.address.ip().to_string()).unwrap_or_default();
        let text = |name: header::HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let forwarded = app.settings.audit.trust_forwarded.then(|| {
            let first = parts.headers.get("x-forwarded-for")?.to_str().ok()?.split(',').next()?.trim();
            first.parse::<std::net::IpAddr>().ok().map(|a| a.to_string())
        });
        Self {
            address: forwarded.flatten().unwrap_or(peer),
            user_agent: text(header::USER_AGENT).unwrap_or_default().chars().take(MAX_AGENT).collect(),
            request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        }
    }
}

impl FromRequestParts<Arc<App>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self::of(parts, app))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_request_keeps_an_id_that_is_one() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", text.parse().unwrap());
            RequestId::of(&headers).0
        };
        assert_eq!(of("abc-1.2_3"), "abc-1.2_3");
        assert_eq!(of(" x "), "x");
        for bad in ["", "a b", "<script>", &"x".repeat(129)] {
            assert_eq!(of(bad).len(), 36, "{bad}");
        }
    }
}
