//! Configurations.

use axum::http::StatusCode;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use satellite_core::fleet::{
    Name, StateKind,
    config::{Severity, printed, problems},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Ctx, Nothing, Refused, groups::answer, pending::marked, rows::ConfigRow};
use crate::{
    audit::{Event, changes},
    auth::Session,
    db::{self, configs, satellites},
    http::{self, Answer, Error, Json, PageQuery, Path, Query},
    outbox::Kind,
};

/// What a configuration is made of; the reference drops anything else.
const SECTIONS: [&str; 3] = ["state_config", "app_config", "zot_config"];

/// All configurations, by number.
#[utoipa::path(get, path = "/api/configs", tag = "configs", params(PageQuery), responses((status = 200, body = Option<Vec<ConfigRow>>), Refused))]
pub async fn list(State(app): Ctx, _: Session, Query(query): Query<PageQuery>) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let read = move |after, rows| {
        let (app, q) = (app.clone(), query.q.clone());
        async move { configs::page(&mut *app.db.read().await?, after, q.as_deref(), rows).await }
    };
    http::stream(page, first, "null", read, |c: &configs::Config| c.id, ConfigRow::from).await
}

/// One configuration.
#[utoipa::path(get, path = "/api/configs/{config}", tag = "configs", params(("config" = String, Path)), responses((status = 200, body = ConfigRow), Refused))]
pub async fn get(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let config = configs::by_name(&mut *app.db.read().await?, &name).await?;
    let config = config.ok_or_else(|| Error::absent("Config not found: sql: no rows in result set"))?;
    http::json(StatusCode::OK, &ConfigRow::from(config))
}

/// A new configuration.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewConfig {
    config_name: Option<String>,
    /// `state_config`, `app_config`, `zot_config`.
    #[schema(value_type = Option<Object>)]
    config: Value,
}

/// The form in which it is kept, if it may be.
fn checked(config: &Value) -> Result<Value, Error> {
    let found = problems(config);
    if let Some(bad) = found.iter().find(|p| p.severity == Severity::Type) {
        return Err(Error::bad("Invalid request body").detail(bad));
    }
    if let Some(bad) = found.iter().max_by_key(|p| p.severity) {
        return Err(Error::bad(format!("invalid config: {bad}")).detail(bad));
    }
    let mut config = printed(config);
    if let Some(map) = config.as_object_mut() {
        map.retain(|key, _| SECTIONS.contains(&key.as_str()));
    }
    Ok(config)
}

/// Makes a configuration.
#[utoipa::path(post, path = "/api/configs", tag = "configs", request_body = NewConfig, responses((status = 201, description = "made"), Refused))]
pub async fn create(
    State(app): Ctx,
    session: Session,
    Json(body): Json<NewConfig>,
) -> Result<Response, Error> {
    // The reference reads the whole body before it looks at the name.
    if problems(&body.config).iter().any(|p| p.severity == Severity::Type) {
        return checked(&body.config).map(|_| StatusCode::BAD_REQUEST.into_response());
    }
    let name = body.config_name.unwrap_or_default();
    let invalid = || Error::bad("invalid or empty config_name");
    name.parse::<Name>().map_err(|e| invalid().detail(e))?;
    StateKind::Config.repository(&name).map_err(|e| invalid().detail(e))?;
    let config = checked(&body.config)?;
    let mut tx = app.db.begin().await?;
    match configs::insert(&mut tx, &name, app.central.url(), &config).await {
        Err(db::Error::Conflict) => {
            return Err(Error::new(StatusCode::CONFLICT, "error: config already exists"));
        }
        other => other?,
    };
    app.outbox.put(&mut tx, Kind::Config, &name).await?;
    let event = Event::done("config", "create", &session.origin).by(&session.user.username, "user").on(&name);
    app.audit.record(&mut tx, event.details(json!({"to": config}))).await?;
    tx.commit().await?;
    let outcomes = app.outbox.run_now(&[(Kind::Config, &name)]).await;
    Ok(marked(StatusCode::CREATED.into_response(), &outcomes))
}

/// Changes a configuration by a JSON merge patch (RFC 7396).
#[utoipa::path(patch, path = "/api/configs/{config}", tag = "configs", params(("config" = String, Path)), request_body(content = serde_json::Value), responses((status = 200, body = ConfigRow), Refused))]
pub async fn patch(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    Json(patch): Json<Value>,
) -> Answer {
    if !patch.is_object() && !patch.is_null() {
        return Err(Error::bad("Invalid request body").detail("a patch must be an object"));
    }
    if let Some(bad) = problems(&patch).iter().find(|p| p.severity == Severity::Type) {
        return Err(Error::bad("Invalid request body").detail(bad));
    }
    let absent = || Error::absent("error: config not found");
    let mut tx = app.db.begin().await?;
    let before = configs::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    let mut merged = before.config.clone();
    merge(&mut merged, &patch);
    let config = checked(&merged)?;
    if !configs::update(&mut tx, &before, app.central.url(), &config).await? {
        return Err(Error::new(StatusCode::CONFLICT, "error: config changed meanwhile, try again"));
    }
    app.outbox.put(&mut tx, Kind::Config, &name).await?;
    let event = Event::done("config", "update", &session.origin).by(&session.user.username, "user").on(&name);
    let changed = changes(&before.config, &config);
    app.audit.record(&mut tx, event.details(json!({"changed": changed}))).await?;
    let after = configs::by_name(&mut tx, &name).await?.ok_or_else(absent)?;
    tx.commit().await?;
    answer(&app, &[(Kind::Config, name)], &ConfigRow::from(after)).await
}

/// RFC 7396: `null` removes, objects merge, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Removes a configuration that no satellite has.
#[utoipa::path(delete, path = "/api/configs/{config}", tag = "configs", params(("config" = String, Path)), responses((status = 200, body = Nothing), Refused))]
pub async fn delete(State(app): Ctx, session: Session, Path(name): Path<String>) -> Answer {
    let in_use = || Error::bad("Cannot delete config that is in use");
    let mut tx = app.db.begin().await?;
    let config = configs::by_name(&mut tx, &name).await?;
    let config = config.ok_or_else(|| Error::absent("error: config not found"))?;
    if configs::users(&mut tx, config.id).await? > 0 {
        return Err(in_use());
    }
    match configs::delete(&mut tx, config.id).await {
        Err(db::Error::Reference) => return Err(in_use()),
        other => other?,
    }
    app.outbox.put(&mut tx, Kind::Config, &name).await?;
    let event = Event::done("config", "delete", &session.origin).by(&session.user.username, "user").on(&name);
    app.audit.record(&mut tx, event.details(json!({"from": config.config}))).await?;
    tx.commit().await?;
    answer(&app, &[(Kind::Config, name)], &Nothing {}).await
}

/// A satellite and a configuration.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Assignment {
    satellite: Option<String>,
    config_name: Option<String>,
}

/// Gives a satellite its configuration.
#[utoipa::path(post, path = "/api/configs/satellite", tag = "configs", request_body = Assignment, responses((status = 200, body = Nothing), Refused))]
pub async fn assign(State(app): Ctx, session: Session, Json(body): Json<Assignment>) -> Answer {
    let name = body.config_name.unwrap_or_default();
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &body.satellite.unwrap_or_default()).await?;
    let satellite = satellite.ok_or_else(|| Error::bad("Error: Satellite Not Found"))?;
    let config = configs::by_name(&mut tx, &name).await?;
    let config = config.ok_or_else(|| Error::bad("Error: Config Not Found"))?;
    configs::assign(&mut tx, satellite.id, config.id).await?;
    app.outbox.put(&mut tx, Kind::Satellite, &satellite.name).await?;
    let event = Event::done("config", "assign", &session.origin).by(&session.user.username, "user").on(&name);
    app.audit.record(&mut tx, event.satellite(&satellite.name)).await?;
    tx.commit().await?;
    answer(&app, &[(Kind::Satellite, satellite.name)], &Nothing {}).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The examples of RFC 7396, appendix A, that have an object as the patch.
    #[test]
    fn a_merge_patch_does_what_the_rfc_says() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut got = target.clone();
            merge(&mut got, &patch);
            assert_eq!(got, result, "{target} + {patch}");
        }
    }

    #[test]
    fn a_bad_value_is_named_and_unknown_sections_go() {
        let bad = checked(&json!({"app_config": {"heartbeat_interval": "10s"}})).unwrap_err().to_string();
        assert!(bad.contains("app_config.heartbeat_interval"), "{bad}");
        let kept = checked(&json!({"surprise": 1, "app_config": {"log_level": "info"}})).unwrap();
        assert!(kept.get("surprise").is_none() && kept["app_config"]["log_level"] == "info");
    }
}
