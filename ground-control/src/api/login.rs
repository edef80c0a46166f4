//! Sessions.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ctx, Refused};
use crate::{
    audit::Event,
    auth::{self, Refusal, Session, random_token, sha256_hex},
    db::{self, users},
    http::{Answer, Error, Json, Origin, json, time},
};

/// Name and password.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Login {
    username: Option<String>,
    password: Option<String>,
}

/// A session.
#[derive(Serialize, ToSchema)]
pub struct Token {
    /// For `Authorization: Bearer`.
    token: String,
    /// RFC 3339.
    expires_at: String,
}

/// Begins a session.
#[utoipa::path(post, path = "/login", tag = "users", request_body = Login, responses((status = 200, body = Token), Refused), security(()))]
pub async fn login(State(app): Ctx, origin: Origin, Json(body): Json<Login>) -> Answer {
    let (name, password) = (body.username.unwrap_or_default(), body.password.unwrap_or_default());
    let user = match auth::check(&app, &name, &password, &origin.address, false).await {
        Ok(user) => user,
        Err(refusal) => {
            if let Some(reason) = refusal.reason() {
                let name: String = name.chars().take(255).collect();
                let event = Event::failed("session", "login", &origin, reason).by(&name, "user");
                app.audit_failure(&format!("login/{name}/{reason}"), event).await;
            }
            return Err(match refusal {
                Refusal::Limited => Error::too_many(),
                Refusal::Busy => Error::busy(),
                Refusal::Database(e) => e.into(),
                _ => Error::new(StatusCode::UNAUTHORIZED, "Invalid credentials"),
            });
        }
    };
    let token = random_token();
    let expires_at = db::now().saturating_add(db::micros(app.settings.session));
    let mut tx = app.db.begin().await?;
    users::insert_session(&mut tx, user.id, &sha256_hex(&token), expires_at).await?;
    app.audit.record(&mut tx, Event::done("session", "login", &origin).by(&user.username, "user")).await?;
    tx.commit().await?;
    json(StatusCode::OK, &Token { token, expires_at: time(expires_at) })
}

/// Ends the session whose token is shown.
#[utoipa::path(post, path = "/api/logout", tag = "users", responses((status = 204), Refused))]
pub async fn logout(State(app): Ctx, session: Session) -> Result<Response, Error> {
    let hash = session.token_hash.ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
    let mut tx = app.db.begin().await?;
    users::delete_session(&mut tx, &hash).await?;
    let event = Event::done("session", "logout", &session.origin).by(&session.user.username, "user");
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
