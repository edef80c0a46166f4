//! Users.

use axum::http::StatusCode;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Refused, rows::UserRow};
use crate::{
    audit::Event,
    auth::{self, ADMIN, SYSTEM_ADMIN, Session, SystemAdmin},
    db::{self, users},
    http::{self, Answer, Error, Json, PageQuery, Path, Query, json as reply},
};

fn absent() -> Error {
    Error::absent("User not found")
}

/// All users but the first, newest first.
#[utoipa::path(get, path = "/api/users", tag = "users", params(PageQuery), responses((status = 200, body = [UserRow]), Refused))]
pub async fn list(State(app): Ctx, _: Session, Query(query): Query<PageQuery>) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?;
    let read = move |before: String, rows| {
        let (app, q) = (app.clone(), query.q.clone());
        async move { users::page(&mut *app.db.read().await?, before.parse().ok(), q.as_deref(), rows).await }
    };
    let first = first.map(|n| n.to_string()).unwrap_or_default();
    http::stream(page, first, "[]", read, |u: &users::User| u.id.to_string(), UserRow::from).await
}

/// One of them.
#[utoipa::path(get, path = "/api/users/{username}", tag = "users", params(("username" = String, Path)), responses((status = 200, body = UserRow), Refused))]
pub async fn get(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let user = users::by_name(&mut *app.db.read().await?, &name).await?;
    let user = user.filter(|u| u.role != SYSTEM_ADMIN).ok_or_else(absent)?;
    reply(StatusCode::OK, &UserRow::from(user))
}

/// A new user.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewUser {
    username: Option<String>,
    password: Option<String>,
}

/// Makes a user of role `admin`.
#[utoipa::path(post, path = "/api/users", tag = "users", request_body = NewUser, responses((status = 201, body = UserRow), Refused))]
pub async fn create(State(app): Ctx, SystemAdmin(by): SystemAdmin, Json(body): Json<NewUser>) -> Answer {
    let name = body.username.unwrap_or_default();
    auth::check_username(&name).map_err(Error::bad)?;
    let password = body.password.unwrap_or_default();
    auth::check_password(&app.settings.policy, &password).map_err(Error::bad)?;
    let taken = || Error::new(StatusCode::CONFLICT, "User already exists");
    if users::by_name(&mut *app.db.read().await?, &name).await?.is_some() {
        return Err(taken());
    }
    let hash = app.passwords.hash(&password).await?;
    let mut tx = app.db.begin().await?;
    let user = match users::insert(&mut tx, &name, &hash, ADMIN).await {
        Err(db::Error::Conflict) => return Err(taken()),
        other => other?,
    };
    let event = Event::done("user", "create", &by.origin).by(&by.user.username, "user").on(&name);
    app.audit.record(&mut tx, event.details(json!({"role": ADMIN}))).await?;
    tx.commit().await?;
    reply(StatusCode::CREATED, &UserRow::from(user))
}

/// Removes a user and ends its sessions.
#[utoipa::path(delete, path = "/api/users/{username}", tag = "users", params(("username" = String, Path)), responses((status = 204), Refused))]
pub async fn delete(
    State(app): Ctx,
    SystemAdmin(by): SystemAdmin,
    Path(name): Path<String>,
) -> Result<Response, Error> {
    if name == by.user.username {
        return Err(Error::bad("Cannot delete yourself"));
    }
    let mut tx = app.db.begin().await?;
    let user = users::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    if user.role == SYSTEM_ADMIN {
        return Err(Error::bad("Cannot delete system admin"));
    }
    users::delete(&mut tx, user.id).await?;
    let event = Event::done("user", "delete", &by.origin).by(&by.user.username, "user").on(&name);
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A user's own change of its password.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct OwnPassword {
    current_password: Option<String>,
    new_password: Option<String>,
}

/// Changes one's own password, and ends all one's sessions.
#[utoipa::path(patch, path = "/api/users/password", tag = "users", request_body = OwnPassword, responses((status = 204), Refused))]
pub async fn own_password(
    State(app): Ctx,
    session: Session,
    Json(body): Json<OwnPassword>,
) -> Result<Response, Error> {
    let new = body.new_password.unwrap_or_default();
    auth::check_password(&app.settings.policy, &new).map_err(Error::bad)?;
    let current = body.current_password.unwrap_or_default();
    if !app.passwords.verify(&current, Some(&session.user.password_hash)).await? {
        return Err(Error::new(StatusCode::UNAUTHORIZED, "Current password is incorrect"));
    }
    set(&app, &session, &session.user, &new, "self_service").await
}

/// A new password.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewPassword {
    new_password: Option<String>,
}

/// Sets a user's password, and ends all its sessions.
#[utoipa::path(patch, path = "/api/users/{username}/password", tag = "users", params(("username" = String, Path)), request_body = NewPassword, responses((status = 204), Refused))]
pub async fn password(
    State(app): Ctx,
    SystemAdmin(by): SystemAdmin,
    Path(name): Path<String>,
    Json(body): Json<NewPassword>,
) -> Result<Response, Error> {
    let new = body.new_password.unwrap_or_default();
    auth::check_password(&app.settings.policy, &new).map_err(Error::bad)?;
    let user = users::by_name(&mut *app.db.read().await?, &name).await?.ok_or_else(absent)?;
    set(&app, &by, &user, &new, "admin_reset").await
}

async fn set(
    app: &crate::app::App,
    by: &Session,
    user: &users::User,
    password: &str,
    flow: &str,
) -> Result<Response, Error> {
    let hash = app.passwords.hash(password).await?;
    let mut tx = app.db.begin().await?;
    users::set_password(&mut tx, user.id, &hash).await?;
    db::attempts::succeeded(&mut tx, &user.username).await?;
    let event = Event::done("user", "password_change", &by.origin);
    let event = event.by(&by.user.username, "user").on(&user.username).details(json!({"flow": flow}));
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
