//! What stands round every route.

use std::{sync::Arc, time::Instant};

use async_io::Timer;
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_lite::future::or;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use satellite_core::net::message::Peer;

use super::{Error, origin::RequestId, text};
use crate::app::App;

/// The longest that a route may take; below the time that the server under it gives.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(27);

/// Marks an answer of no route: the reference gives it no request id.
#[derive(Clone, Copy)]
struct Unmatched;

/// Gives the request an id, bounds its time, counts and logs it.
pub async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().map(|p| p.address);
    let method = request.method().clone();
    let target = request.uri().clone();
    let path = if log::log_enabled!(target: "access", log::Level::Info) {
        shown(route.as_ref(), request.uri().path())
    } else {
        String::new()
    };
    let mut response = or(next.run(request), async {
        Timer::after(LONGEST).await;
        log::warn!(request:% = id.0; "no answer in time");
        let message = "Service Unavailable: the answer took too long, try again";
        Error::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
    })
    .await;
    if response.extensions().get::<Unmatched>().is_none()
        && let Ok(value) = HeaderValue::from_str(&id.0)
    {
        response.headers_mut().insert("x-request-id", value);
    }
    if let Some(link) =
        response.headers().get(header::LINK).and_then(|l| next_page(l.to_str().ok()?, &target))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    let status = response.status().as_u16();
    let took = begun.elapsed();
    app.metrics.request(&method, route.as_ref().map_or("none", MatchedPath::as_str), status, took);
    log::info!(
        target: "access",
        peer:% = peer.map(|p| p.to_string()).unwrap_or_default(), request:% = id.0, status, micros = took.as_micros() as u64;
        "{method} {path} {status}"
    );
    response
}

/// The next page's whole path, with everything that was asked for beside limit and cursor.
fn next_page(link: &str, target: &Uri) -> Option<HeaderValue> {
    let (cursor, rest) = link.strip_prefix("<?")?.split_once('>')?;
    let kept = target.query().unwrap_or_default().split('&');
    let kept = kept.filter(|p| !p.is_empty() && !["limit=", "after="].iter().any(|name| p.starts_with(name)));
    let others: String = kept.map(|p| format!("&{p}")).collect();
    HeaderValue::from_str(&format!("<{}?{cursor}{others}>{rest}", target.path())).ok()
}

/// Paths with secrets in them are logged as their route.
fn shown(route: Option<&MatchedPath>, path: &str) -> String {
    match route {
        Some(route) if route.as_str().contains("{token}") => route.as_str().to_string(),
        _ => path.to_string(),
    }
}

/// No such path: a text. Double slashes lead to the clean path.
pub async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    let mut response = if path.contains("//") {
        let mut clean = String::with_capacity(path.len());
        for c in path.chars() {
            if c != '/' || !clean.ends_with('/') {
                clean.push(c);
            }
        }
        if let Some(query) = request.uri().query() {
            clean.push('?');
            clean.push_str(query);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(value) = HeaderValue::from_str(&clean) {
            response.headers_mut().insert(header::LOCATION, value);
        }
        response
    } else {
        text(StatusCode::NOT_FOUND, "404 page not found\n")
    };
    response.extensions_mut().insert(Unmatched);
    response
}

/// The path is there, not with that method: an empty body.
pub async fn not_allowed(_: Method) -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    response.extensions_mut().insert(Unmatched);
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_next_page_is_of_the_same_question() {
        let target = "/api/satellites?q=a%20b&limit=2&after=7&selector=site%3Dx".parse().unwrap();
        let link = next_page("<?limit=2&after=9>; rel=\"next\"", &target).unwrap();
        assert_eq!(link, "</api/satellites?limit=2&after=9&q=a%20b&selector=site%3Dx>; rel=\"next\"");
    }
}
