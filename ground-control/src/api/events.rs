//! What satellites say of their replications.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Ctx, Refused, lifecycle::absent};
use crate::{
    auth::Session,
    db::{events, satellites},
    http::{self, Answer, PageQuery, Path, Query, time},
};

/// A step of a replication.
#[derive(Serialize, ToSchema)]
pub struct EventRow {
    /// Number.
    pub id: i64,
    /// RFC 3339, by the satellite's clock.
    pub at: String,
    /// `started`, `progress`, `completed`, `failed`, `removed`.
    pub event: String,
    /// Which image, where it is about one.
    pub image: String,
    /// Bytes that are there, of `total`.
    pub bytes: i64,
    /// Bytes there are.
    pub total: i64,
    /// Why it failed: a stable code.
    pub cause: String,
}

/// What happened, newest first: replications that began, went on, were completed or failed, and images removed.
#[utoipa::path(get, path = "/api/satellites/{satellite}/events", tag = "health of satellites", params(("satellite" = String, Path), PageQuery), responses((status = 200, body = [EventRow]), Refused))]
pub async fn list(
    State(app): Ctx,
    _: Session,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(i64::MAX);
    let satellite = satellites::by_name(&mut *app.db.read().await?, &name).await?.ok_or_else(absent)?.id;
    let read = move |before, rows| {
        let app = app.clone();
        async move { events::of_satellite(&mut *app.db.read().await?, satellite, before, rows).await }
    };
    let print = |e: events::Event| EventRow {
        id: e.id,
        at: time(e.at),
        event: e.event,
        image: e.image,
        bytes: e.bytes,
        total: e.total,
        cause: e.cause,
    };
    http::stream(page, first, "[]", read, |e: &events::Event| e.id, print).await
}
