//! Which satellites are in which group.

use axum::extract::State;
use axum::http::StatusCode;
use satellite_core::fleet::Name;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Nothing, Refused, groups::answer, rows::MemberRow, satellites::bad_name};
use crate::{
    audit::Event,
    auth::Session,
    db::{groups, satellites},
    http::{self, Answer, Error, Json, PageQuery, Path, Query, json as reply},
    outbox::Kind,
};

/// A group's satellites.
#[utoipa::path(get, path = "/api/groups/{group}/satellites", tag = "groups", params(("group" = String, Path), PageQuery), responses((status = 200, body = [MemberRow]), Refused))]
pub async fn list(
    State(app): Ctx,
    _: Session,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let group = groups::by_name(&mut *app.db.read().await?, &name).await?;
    let group = group.ok_or_else(|| Error::absent("error: group not found"))?.id;
    let read = move |after, rows| {
        let app = app.clone();
        async move { satellites::of_group(&mut *app.db.read().await?, group, after, rows).await }
    };
    http::stream(page, first, "[]", read, |s: &satellites::Satellite| s.id, MemberRow::from).await
}

/// A satellite and a group.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Membership {
    satellite: Option<String>,
    group: Option<String>,
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub struct Message {
    message: &'static str,
}

/// Puts a satellite into a group.
#[utoipa::path(post, path = "/api/groups/satellite", tag = "groups", request_body = Membership, responses((status = 200, body = Message), Refused))]
pub async fn add(State(app): Ctx, session: Session, Json(body): Json<Membership>) -> Answer {
    let satellite = body.satellite.unwrap_or_default();
    satellite.parse::<Name>().map_err(|_| bad_name())?;
    let name = body.group.unwrap_or_default();
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &satellite).await?;
    let satellite = satellite.ok_or_else(|| Error::bad("Error: Satellite Not Found"))?;
    let group = groups::by_name(&mut tx, &name).await?;
    let group = group.ok_or_else(|| Error::bad("Error: Group Not Found"))?;
    if !groups::add_member(&mut tx, group.id, satellite.id, false).await? {
        tx.commit().await?;
        return reply(StatusCode::OK, &Message { message: "Satellite is already in the group" });
    }
    app.outbox.put(&mut tx, Kind::Robot, &satellite.name).await?;
    app.outbox.put(&mut tx, Kind::Satellite, &satellite.name).await?;
    let event = Event::done("group", "add_satellite", &session.origin).by(&session.user.username, "user");
    let event = event.on(&name).satellite(&satellite.name);
    app.audit.record(&mut tx, event.details(json!({"satellite": satellite.name}))).await?;
    tx.commit().await?;
    let rows = [(Kind::Robot, satellite.name.clone()), (Kind::Satellite, satellite.name)];
    answer(&app, &rows, &Message { message: "Satellite successfully added to group" }).await
}

/// Takes a satellite out of a group.
#[utoipa::path(delete, path = "/api/groups/satellite", tag = "groups", request_body = Membership, responses((status = 200, body = Nothing), Refused))]
pub async fn remove(State(app): Ctx, session: Session, Json(body): Json<Membership>) -> Answer {
    let name = body.group.unwrap_or_default();
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &body.satellite.unwrap_or_default()).await?;
    let satellite = satellite.ok_or_else(|| Error::bad("Error: Satellite Not Found"))?;
    let group = groups::by_name(&mut tx, &name).await?;
    let group = group.ok_or_else(|| Error::bad("Error: Group Not Found"))?;
    if !groups::remove_member(&mut tx, group.id, satellite.id).await? {
        return Err(Error::bad("Error: Satellite is not in the group"));
    }
    app.outbox.put(&mut tx, Kind::Satellite, &satellite.name).await?;
    app.outbox.put(&mut tx, Kind::Robot, &satellite.name).await?;
    let event = Event::done("group", "remove_satellite", &session.origin).by(&session.user.username, "user");
    let event = event.on(&name).satellite(&satellite.name);
    app.audit.record(&mut tx, event.details(json!({"satellite": satellite.name}))).await?;
    tx.commit().await?;
    let rows = [(Kind::Satellite, satellite.name.clone()), (Kind::Robot, satellite.name)];
    answer(&app, &rows, &Nothing {}).await
}
