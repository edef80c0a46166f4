//! How a satellite gets its robot account: by one-time token, by certificate, and a new secret later.
//!
//! A token is claimed before anything is done, by one statement, so that of any number who race for it one wins. The
//! answer may be lost on the way, and the reference's device is then stranded: its token is used up. Here the same token
//! may be exchanged once more while nobody has used the secret it gave: by whoever sends the same `Idempotency-Key` as the
//! first time, until the token expires; and without a key within a short window (two minutes by default), but not in its first seconds,
//! which belong to those who race. Each exchange gives a new secret and ends the one before.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, request::Parts};
use satellite_core::fleet::{StateKind, Ztr, ZtrAuth};
use serde_json::json;

use super::{Ctx, Refused, enroll, satellites};
use crate::{
    app::App,
    audit::Event,
    auth::{Satellite, equal, sha256_hex, uuid},
    central::{Error as CentralError, Robot},
    db::{self, configs, micros, now, publications, robots, tokens, tokens::Token},
    fleet::health::Standing,
    http::{Answer, Error, Origin, Path, json as reply},
    outbox::Kind,
    spiffe,
};

/// Without a key nothing is repeated so soon after: these are racers.
const RACE: i64 = 3_000_000;
/// How long the secret before is believed by this server after a new one was fetched and not used.
pub(super) const PREVIOUS: i64 = 24 * 3600 * 1_000_000;
/// The configuration of satellites that register themselves.
const DEFAULT_CONFIG: &str = "default";

/// Exchanges a one-time token for the robot account.
#[utoipa::path(get, path = "/satellites/ztr/{token}", tag = "satellite side", params(("token" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "Names this device's try, so that it may be repeated"), ("Satellite-Device-Key" = Option<String>, Header, description = "Base64 of the device's ed25519 public key, by which it may come back (`POST /satellites/enroll`)")), responses((status = 200, body = serde_json::Value), Refused), security(()))]
pub async fn exchange(
    State(app): Ctx,
    origin: Origin,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let key = headers.get("idempotency-key").map(|k| sha256_hex(&String::from_utf8_lossy(k.as_bytes())));
    let device = enroll::shown(&headers)?;
    let work = {
        let app = Arc::clone(&app);
        async move { by_token(&app, &origin, &token, key, device).await }
    };
    app.to_the_end(work).await.unwrap_or_else(|| Err(Error::internal()))
}

async fn by_token(
    app: &App,
    origin: &Origin,
    token: &str,
    key: Option<String>,
    device: Option<String>,
) -> Answer {
    let invalid = || Error::bad("Error: Invalid Token");
    let masked = mask(token);
    let masked = masked.as_str();
    let refuse = |reason: &'static str, error: Error| async move {
        let event = Event::failed_auth(origin, "", reason).details(json!({"masked_token": masked}));
        app.audit_failure(&format!("ztr/{masked}"), event).await;
        Err(error)
    };
    let found = tokens::by_hash(&mut *app.db.read().await?, &sha256_hex(token)).await?;
    let Some(found) = found else { return refuse("invalid_token", invalid()).await };
    if found.expires_at <= now() {
        let error = Error::new(StatusCode::UNAUTHORIZED, "Error: Token Expired");
        return refuse("token_expired", error).await;
    }
    if found
        .used_at
        .is_some_and(|used| !may_repeat(&found, used, key.as_deref(), micros(app.settings.token_retry)))
    {
        return refuse("invalid_token", invalid()).await;
    }
    match Standing::from_text(&found.standing) {
        Standing::Active => {}
        Standing::Suspended => return Err(Error::new(StatusCode::FORBIDDEN, "satellite is suspended")),
        Standing::Revoked => return refuse("invalid_token", invalid()).await,
    }
    let claim = uuid();
    let mut tx = app.db.begin().await?;
    let taken =
        tokens::claim(&mut tx, found.id, &claim, found.used_at, now() - micros(app.settings.token_claim))
            .await?;
    tx.commit().await?;
    if !taken {
        return refuse("invalid_token", invalid()).await;
    }
    let event = Event::done("satellite", "register", origin).by(&found.satellite, "satellite");
    let event =
        event.satellite(&found.satellite).details(json!({"flow": "ztr", "again": found.used_at.is_some()}));
    let used = Used { id: found.id, claim: &claim, key: key.as_deref(), device: device.as_deref() };
    let given = give(app, found.satellite_id, &found.satellite, None, Some(used), event).await;
    if given.is_err() {
        // As good as before; if that fails too, the claim lapses.
        let back = async {
            let mut tx = app.db.begin().await?;
            tokens::unclaim(&mut tx, found.id, &claim).await?;
            tx.commit().await
        };
        if let Err(e) = back.await {
            log::warn!("a token's claim could not be given back, it lapses by itself: {e}");
        }
    }
    given
}

/// Whether a token that was exchanged may be so once more: nobody has used what it gave, and it is the same device, or
/// soon enough.
fn may_repeat(token: &Token, used: i64, key: Option<&str>, window: i64) -> bool {
    if token.secret_used_at.is_some() {
        return false;
    }
    match (&token.retry_hash, key) {
        (Some(first), Some(key)) => equal(first, key),
        // Who named its first try is not somebody who does not.
        (Some(_), None) => false,
        (None, _) => (RACE..=window).contains(&(now() - used)),
    }
}

/// `abcd...wxyz`
fn mask(token: &str) -> String {
    let chars: Vec<char> = token.chars().take(64).collect();
    match chars.as_slice() {
        [a, b, c, d, .., w, x, y, z] if chars.len() >= 16 => format!("{a}{b}{c}{d}...{w}{x}{y}{z}"),
        _ => "****".into(),
    }
}

pub(super) struct Used<'a> {
    id: i64,
    claim: &'a str,
    key: Option<&'a str>,
    device: Option<&'a str>,
}

/// A new secret for a satellite's robot, written down with everything that goes with it.
pub(super) async fn give(
    app: &App,
    satellite: i64,
    name: &str,
    previous_until: Option<i64>,
    used: Option<Used<'_>>,
    event: Event,
) -> Answer {
    let state = StateKind::Satellite.url(app.central.url(), name).map_err(|_| Error::internal())?;
    let robot = fresh_secret(app, satellite, name).await?;
    let Some(secret) = robot.secret else {
        log::error!(satellite = name; "central gave no secret");
        return Err(refresh_failed());
    };
    let mut tx = app.db.begin().await?;
    let digest = app.keys.digest("robot", secret.expose());
    let expires_at = robot.expires_at.map(|s| s.saturating_mul(1_000_000));
    robots::set_secret(&mut tx, satellite, &digest, expires_at, previous_until).await?;
    if let Some(used) = used {
        if !tokens::mark_used(&mut tx, used.id, used.claim, used.key).await? {
            return Err(Error::bad("Error: Invalid Token").detail("the exchange took too long, try again"));
        }
        enroll::remember(&mut tx, satellite, used.device).await?;
    }
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    publish_if_absent(app, satellite, name).await?;
    let auth =
        ZtrAuth { url: app.central.url().into(), username: robot.login, password: secret.expose().into() };
    reply(StatusCode::OK, &Ztr { state, auth })
}

fn refresh_failed() -> Error {
    Error::new(StatusCode::INTERNAL_SERVER_ERROR, "Error: failed to refresh robot secret")
}

fn central_failed(e: &CentralError) -> Error {
    log::warn!(cause = e.code(); "a robot's secret could not be refreshed: {e}");
    if e.is_transient() {
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "Error: failed to refresh robot secret")
            .retry_after(std::time::Duration::from_secs(5))
            .detail(e)
    } else {
        refresh_failed().detail(e)
    }
}

/// Makes the robot first where it is not there yet, or not any more.
async fn fresh_secret(app: &App, satellite: i64, name: &str) -> Result<Robot, Error> {
    for last in [false, true] {
        let known = robots::of_satellite(&mut *app.db.read().await?, satellite).await?;
        if let Some(known) = known {
            match app.central.rotate_robot(&known.robot_id).await {
                Ok(robot) => return Ok(robot),
                Err(e) if last || e.code() != "not_found" => return Err(central_failed(&e)),
                Err(_) => {}
            }
        } else if last {
            break;
        }
        let mut tx = app.db.begin().await?;
        app.outbox.put(&mut tx, Kind::Robot, name).await?;
        tx.commit().await?;
        let outcomes = app.outbox.run_now(&[(Kind::Robot, name)]).await;
        if let Some(crate::outbox::Outcome::Failed(e)) = outcomes.into_iter().next() {
            return Err(central_failed(&e));
        }
    }
    Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "Error: failed to refresh robot secret")
        .retry_after(std::time::Duration::from_secs(5)))
}

/// The satellite looks for its state at once.
async fn publish_if_absent(app: &App, satellite: i64, name: &str) -> Result<(), Error> {
    let mut c = app.db.read().await?;
    let mut rows = Vec::new();
    let config = configs::of_satellite(&mut c, satellite).await?;
    for (kind, state, name) in [
        (Kind::Satellite, StateKind::Satellite, Some(name.to_string())),
        (Kind::Config, StateKind::Config, config),
    ] {
        let Some(name) = name else { continue };
        let Ok(repository) = state.repository(&name) else { continue };
        if publications::digest(&mut c, repository.as_str()).await?.is_none() {
            rows.push((kind, name));
        }
    }
    drop(c);
    if !rows.is_empty() {
        let mut tx = app.db.begin().await?;
        for (kind, name) in &rows {
            app.outbox.put(&mut tx, *kind, name).await?;
        }
        tx.commit().await?;
        let rows: Vec<(Kind, &str)> = rows.iter().map(|(k, n)| (*k, n.as_str())).collect();
        app.outbox.run_now(&rows).await;
    }
    Ok(())
}

/// The robot account by certificate; a satellite that is not known is registered, without groups.
#[utoipa::path(get, path = "/satellites/spiffe-ztr", tag = "satellite side", responses((status = 200, body = serde_json::Value), Refused), security(()))]
pub async fn by_certificate(State(app): Ctx, origin: Origin, request: axum::extract::Request) -> Response {
    let (parts, _) = request.into_parts();
    let work = {
        let app = Arc::clone(&app);
        async move { by_svid(&app, &origin, &parts).await }
    };
    let answer = app.to_the_end(work).await.unwrap_or_else(|| Err(Error::internal()));
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn by_svid(app: &App, origin: &Origin, parts: &Parts) -> Answer {
    let Some(name) = spiffe::name(parts, app)? else {
        app.audit_failure("svid", Event::failed_auth(origin, "", "missing_spiffe_identity")).await;
        return Err(Error::plain(StatusCode::UNAUTHORIZED, "SPIFFE authentication required"));
    };
    let known = db::satellites::by_name(&mut *app.db.read().await?, &name).await?;
    let satellite = match known {
        Some(satellite) => satellite,
        None => {
            welcome(app, origin, &name, "spiffe_ztr").await?;
            let found = db::satellites::by_name(&mut *app.db.read().await?, &name).await?;
            found.ok_or_else(Error::internal)?
        }
    };
    if satellite.standing != Standing::Active {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            format!("satellite is {}", satellite.standing.as_str()),
        ));
    }
    if let Err(wait) = app.limits.take(satellite.id) {
        return Err(Error::too_many().retry_after(wait));
    }
    let event = Event::done("satellite", "register", origin).by(&name, "satellite").satellite(&name);
    let until = Some(now().saturating_add(PREVIOUS));
    give(app, satellite.id, &name, until, None, event.details(json!({"flow": "spiffe_ztr"}))).await
}

/// Registers a satellite without groups, with the configuration `default`, which is made if there is none.
pub(super) async fn welcome(app: &App, origin: &Origin, name: &str, flow: &str) -> Result<(), Error> {
    let absent = configs::by_name(&mut *app.db.read().await?, DEFAULT_CONFIG).await?.is_none();
    if absent {
        let every = "@every 00h00m30s";
        let config = satellite_core::fleet::config::printed(&json!({"app_config": {
            "log_level": "info", "state_replication_interval": every, "register_satellite_interval": every,
            "heartbeat_interval": every}}));
        let mut tx = app.db.begin().await?;
        match configs::insert(&mut tx, DEFAULT_CONFIG, app.central.url(), &config).await {
            Ok(_) => {
                app.outbox.put(&mut tx, Kind::Config, DEFAULT_CONFIG).await?;
                tx.commit().await?;
            }
            // Another replica was faster.
            Err(db::Error::Conflict) => drop(tx),
            Err(e) => return Err(e.into()),
        }
    }
    let labels = db::satellites::Labels::new();
    let new = satellites::New { name, groups: &[], config: DEFAULT_CONFIG, labels: &labels };
    let event = Event::done("satellite", "register", origin).by(name, "satellite").satellite(name);
    satellites::insert(app, &new, None, event.details(json!({"flow": flow}))).await?;
    app.outbox.run_now(&[(Kind::Robot, name), (Kind::Satellite, name), (Kind::Config, DEFAULT_CONFIG)]).await;
    Ok(())
}

/// A new secret for the robot account of whoever calls. The one before is believed here for a day, or until the new one
/// is used: an answer that was lost may be asked for again.
#[utoipa::path(post, path = "/satellites/credentials", tag = "satellite side", responses((status = 200, body = serde_json::Value), Refused), security(("basic" = [])))]
pub async fn credentials(State(app): Ctx, satellite: Satellite) -> Answer {
    let origin = satellite.origin.clone();
    let caller = satellite.caller(&app, "").await?;
    let work = {
        let app = Arc::clone(&app);
        async move {
            let event =
                Event::done("satellite", "refresh_credentials", &origin).by(&caller.name, "satellite");
            let until = Some(now().saturating_add(PREVIOUS));
            give(&app, caller.satellite_id, &caller.name, until, None, event.satellite(&caller.name)).await
        }
    };
    app.to_the_end(work).await.unwrap_or_else(|| Err(Error::internal()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(used_ago: i64, retry: Option<&str>, secret_used: bool) -> (Token, i64) {
        let used = now() - used_ago * 1_000_000;
        let token = Token {
            id: 1,
            satellite_id: 1,
            satellite: "s".into(),
            expires_at: i64::MAX,
            used_at: Some(used),
            retry_hash: retry.map(Into::into),
            secret_used_at: secret_used.then_some(used),
            standing: "active".into(),
        };
        (token, used)
    }

    #[test]
    fn a_used_token_is_good_once_more_for_a_device_that_got_no_answer() {
        let may = |ago, first: Option<&str>, key: Option<&str>, secret_used| {
            let (token, used) = token(ago, first, secret_used);
            may_repeat(&token, used, key, 120_000_000)
        };
        assert!(may(10, None, None, false));
        assert!(!may(1, None, None, false), "a racer");
        assert!(!may(121, None, None, false), "too late");
        assert!(!may(10, None, None, true), "the secret was used");
        assert!(may(1, Some("k"), Some("k"), false) && may(5000, Some("k"), Some("k"), false));
        assert!(!may(10, Some("k"), None, false) && !may(10, Some("k"), Some("l"), false));
        assert!(!may(10, Some("k"), Some("k"), true));
    }

    #[test]
    fn a_masked_token_tells_eight_digits() {
        assert_eq!(mask("0123456789abcdef0123456789abcdef"), "0123...cdef");
        assert_eq!(mask("short"), "****");
    }
}
