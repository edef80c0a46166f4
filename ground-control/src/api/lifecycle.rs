//! What happens to a satellite between its registration and its end: labels, new tokens, suspension, new secrets.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Refused, groups::answer, rows::SatelliteRow, satellites::thresholds};
use crate::{
    app::App,
    audit::Event,
    auth::{Session, random_hex, sha256_hex},
    db::{self, robots, satellites, tokens},
    fleet::{health::Standing, selector},
    http::{Answer, Error, Json, Path, json as reply, time},
    outbox::Kind,
};

pub(super) fn absent() -> Error {
    Error::absent("satellite not found")
}

async fn full(app: &App, rows: &[(Kind, String)], name: &str) -> Answer {
    let satellite = satellites::by_name(&mut *app.db.read().await?, name).await?.ok_or_else(absent)?;
    answer(app, rows, &SatelliteRow::full(satellite, db::now(), &thresholds(app))).await
}

fn rows(name: &str) -> [(Kind, String); 2] {
    [(Kind::Robot, name.to_string()), (Kind::Satellite, name.to_string())]
}

/// Changes labels: each name gets the value given, or is removed with `null`. Groups that labels choose follow.
#[utoipa::path(patch, path = "/api/satellites/{satellite}/labels", tag = "satellites", params(("satellite" = String, Path)), request_body(content = std::collections::BTreeMap<String, Option<String>>), responses((status = 200, body = SatelliteRow), Refused))]
pub async fn labels(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    Json(patch): Json<std::collections::BTreeMap<String, Option<String>>>,
) -> Answer {
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    let mut labels = satellite.labels.clone();
    for (label, value) in patch {
        match value {
            Some(value) => labels.insert(label, value),
            None => labels.remove(&label),
        };
    }
    selector::check_labels(&labels).map_err(|e| Error::bad(format!("labels: {e}")))?;
    satellites::set_labels(&mut tx, satellite.id, &labels).await?;
    let moved = satellites::reselect_satellite(&mut tx, satellite.id, &labels).await?;
    if moved {
        app.outbox.put(&mut tx, Kind::Robot, &name).await?;
        app.outbox.put(&mut tx, Kind::Satellite, &name).await?;
    }
    let event = Event::done("satellite", "label", &session.origin).by(&session.user.username, "user");
    let details = json!({"from": satellite.labels, "to": labels});
    app.audit.record(&mut tx, event.satellite(&name).details(details)).await?;
    tx.commit().await?;
    let rows = if moved { rows(&name).to_vec() } else { Vec::new() };
    full(&app, &rows, &name).await
}

/// A token.
#[derive(Serialize, ToSchema)]
pub struct Issued {
    /// To be exchanged once.
    token: String,
    /// RFC 3339.
    expires_at: String,
}

/// Issues a new token, for a device that was set up anew; those before are void. A revoked satellite is one again.
#[utoipa::path(post, path = "/api/satellites/{satellite}/token", tag = "satellites", params(("satellite" = String, Path)), responses((status = 200, body = Issued), Refused))]
pub async fn token(State(app): Ctx, session: Session, Path(name): Path<String>) -> Answer {
    let token = random_hex();
    let expires_at = db::now().saturating_add(db::micros(app.settings.token));
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    tokens::delete_of(&mut tx, satellite.id).await?;
    tokens::insert(&mut tx, satellite.id, &sha256_hex(&token), expires_at).await?;
    let revived = satellite.standing == Standing::Revoked;
    if revived {
        satellites::set_standing(&mut tx, satellite.id, Standing::Active).await?;
        // Whatever was revoked stays out: the token may be for another device.
        satellites::set_device_key(&mut tx, satellite.id, None).await?;
        app.outbox.put(&mut tx, Kind::Robot, &name).await?;
        app.outbox.put(&mut tx, Kind::Satellite, &name).await?;
    }
    let event = Event::done("satellite", "issue_token", &session.origin).by(&session.user.username, "user");
    app.audit.record(&mut tx, event.satellite(&name).details(json!({"unrevoked": revived}))).await?;
    tx.commit().await?;
    let issued = Issued { token, expires_at: time(expires_at) };
    let rows = if revived { rows(&name).to_vec() } else { Vec::new() };
    answer(&app, &rows, &issued).await
}

/// Why.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Reason {
    /// For the audit log.
    reason: Option<String>,
}

async fn stand(
    app: &App,
    session: &Session,
    name: &str,
    standing: Standing,
    operation: &'static str,
    reason: Option<String>,
) -> Answer {
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, name).await?.ok_or_else(absent)?;
    let allowed = match standing {
        Standing::Active => satellite.standing == Standing::Suspended,
        Standing::Suspended => satellite.standing == Standing::Active,
        Standing::Revoked => true,
    };
    if satellite.standing != standing {
        if !allowed {
            let message =
                format!("satellite is {}: issue a new token to bring it back", satellite.standing.as_str());
            return Err(Error::new(StatusCode::CONFLICT, message));
        }
        satellites::set_standing(&mut tx, satellite.id, standing).await?;
        if standing == Standing::Revoked {
            tokens::delete_of(&mut tx, satellite.id).await?;
            let robot = robots::of_satellite(&mut tx, satellite.id).await?;
            app.outbox.put_gone_robot(&mut tx, name, robot.as_ref().map(|r| r.robot_id.as_str())).await?;
        } else {
            app.outbox.put(&mut tx, Kind::Robot, name).await?;
        }
        app.outbox.put(&mut tx, Kind::Satellite, name).await?;
        let reason: Option<String> = reason.map(|r| r.chars().take(1000).collect());
        let event = Event::done("satellite", operation, &session.origin).by(&session.user.username, "user");
        app.audit.record(&mut tx, event.satellite(name).details(json!({"reason": reason}))).await?;
        tx.commit().await?;
        return full(app, &rows(name), name).await;
    }
    tx.commit().await?;
    full(app, &[], name).await
}

/// Suspends a satellite: its heartbeats are refused, and its robot may pull no images, until it is resumed.
#[utoipa::path(post, path = "/api/satellites/{satellite}/suspend", tag = "satellites", params(("satellite" = String, Path)), request_body(content = Option<Reason>), responses((status = 200, body = SatelliteRow), Refused))]
pub async fn suspend(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    stand(&app, &session, &name, Standing::Suspended, "suspend", reason(&body)?).await
}

/// Ends a suspension.
#[utoipa::path(post, path = "/api/satellites/{satellite}/resume", tag = "satellites", params(("satellite" = String, Path)), request_body(content = Option<Reason>), responses((status = 200, body = SatelliteRow), Refused))]
pub async fn resume(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    stand(&app, &session, &name, Standing::Active, "resume", reason(&body)?).await
}

/// Revokes a satellite: its robot account and its tokens are deleted. A new token brings it back.
#[utoipa::path(post, path = "/api/satellites/{satellite}/revoke", tag = "satellites", params(("satellite" = String, Path)), request_body(content = Option<Reason>), responses((status = 200, body = SatelliteRow), Refused))]
pub async fn revoke(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    stand(&app, &session, &name, Standing::Revoked, "revoke", reason(&body)?).await
}

/// The reason in a body that may be missing.
fn reason(body: &[u8]) -> Result<Option<String>, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let parsed: Option<Reason> =
        serde_json::from_slice(body).map_err(|e| Error::bad("Invalid request body").detail(e))?;
    Ok(parsed.and_then(|r| r.reason))
}

/// Asks a satellite, with its next heartbeat, to fetch a new secret for its robot account.
#[utoipa::path(post, path = "/api/satellites/{satellite}/rotate", tag = "satellites", params(("satellite" = String, Path)), responses((status = 202, body = serde_json::Value), Refused))]
pub async fn rotate(State(app): Ctx, session: Session, Path(name): Path<String>) -> Answer {
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    if satellite.standing == Standing::Revoked || !robots::want_refresh(&mut tx, satellite.id).await? {
        return Err(Error::new(StatusCode::CONFLICT, "satellite has no robot account: issue a new token"));
    }
    let event = Event::done("satellite", "rotate_credentials", &session.origin);
    app.audit.record(&mut tx, event.by(&session.user.username, "user").satellite(&name)).await?;
    tx.commit().await?;
    let message = "the satellite is asked to fetch a new secret with its next heartbeat";
    reply(StatusCode::ACCEPTED, &json!({"message": message}))
}
