//! Whether the server lives, and what it counts.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::Ctx;
use crate::{
    central::Health,
    http::{Answer, json as reply, text},
};

/// Whether it answers.
#[utoipa::path(get, path = "/ping", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn ping() -> Response {
    text(StatusCode::OK, "pong")
}

/// Whether the database answers.
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, description = "healthy", body = serde_json::Value),
    (status = 503, description = "the database does not answer", body = serde_json::Value)))]
pub async fn health(State(app): Ctx) -> Answer {
    match app.db.ping().await {
        Ok(()) => reply(StatusCode::OK, &json!({"status": "healthy"})),
        Err(e) => {
            log::warn!("unhealthy: {e}");
            reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "unhealthy"}))
        }
    }
}

/// Whether the process lives: nothing else is asked.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn healthz() -> Response {
    text(StatusCode::OK, "ok")
}

/// Whether requests can be answered: database and tables. Central is told too, and does not count: without it heartbeats
/// are taken and changes wait.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "ready", body = serde_json::Value),
    (status = 503, description = "not ready", body = serde_json::Value)))]
pub async fn readyz(State(app): Ctx) -> Answer {
    let version = app.db.version().await;
    let central = app.central.health().await;
    app.metrics.central_up.set(i64::from(central == Health::Well));
    let database = match &version {
        Ok((there, needed)) if there >= needed => "well".to_string(),
        Ok((there, needed)) => format!("tables are of version {there}, {needed} is needed: run migrate"),
        Err(e) => e.to_string(),
    };
    let ready = database == "well";
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply(status, &json!({"ready": ready, "database": database, "central": central.to_string()}))
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): Ctx) -> Response {
    let (open, idle) = app.db.connections();
    app.metrics.pool(open, idle);
    app.metrics.beats_waiting.set(i64::try_from(app.beats.waiting()).unwrap_or(i64::MAX));
    let mut response = app.metrics.text().into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
