//! The way back in for a device whose account ran out while nobody was there: it signs with the key that it showed when
//! its token was exchanged.
//!
//! Nothing is kept between the two requests, so any replica answers either. What is signed is bound to the name, to the
//! time and to the secret that was valid then: once it was used there is another secret, and it is of no use again.

use std::sync::Arc;

use axum::extract::State;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use ring::signature::{ED25519, UnparsedPublicKey};
use satellite_core::fleet;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Refused, satellites::bad_name, ztr};
use crate::{
    app::App,
    audit::Event,
    auth::{Keys, equal, random_hex},
    db::{self, now, robots, robots::Caller, satellites},
    fleet::health::Standing,
    http::{Answer, Error, Json, Origin, json as reply},
};

/// How long a challenge may be answered.
const PATIENCE: i64 = 120_000_000;
/// How far the clocks of two replicas may be apart.
const SKEW: i64 = 60_000_000;

/// Who wants back in.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Name {
    /// The satellite's name.
    pub name: String,
}

/// The answer to a challenge.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Signed {
    /// The satellite's name.
    pub name: String,
    /// The challenge.
    pub nonce: String,
    /// Base64 of the ed25519 signature over `satellite-enroll\nNAME\nNONCE`.
    pub signature: String,
}

/// The device's public key, if it shows one.
///
/// # Errors
/// 400 for what is no key.
pub(super) fn shown(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("satellite-device-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|text| BASE64_STANDARD.decode(text).is_ok_and(|k| k.len() == 32));
    let bad = || Error::bad("Satellite-Device-Key: must be the base64 of an ed25519 public key (32 bytes)");
    key.map(|text| Some(text.into())).ok_or_else(bad)
}

/// Gives something to sign. The answer does not tell whether there is such a satellite.
#[utoipa::path(post, path = "/satellites/enroll/challenge", tag = "satellite side", request_body(content = Name), responses((status = 200, body = serde_json::Value), Refused), security(()))]
pub async fn challenge(State(app): Ctx, Json(body): Json<Name>) -> Answer {
    body.name.parse::<fleet::Name>().map_err(|_| bad_name())?;
    let caller = robots::caller_by_name(&mut *app.db.read().await?, &body.name).await?;
    let nonce = nonce(&app.keys, &body.name, caller.as_ref(), now(), &random_hex());
    reply(StatusCode::OK, &json!({"nonce": nonce}))
}

/// A new secret for the robot account of the satellite that a device with this key was registered as.
#[utoipa::path(post, path = "/satellites/enroll", tag = "satellite side", request_body(content = Signed), responses((status = 200, body = serde_json::Value), Refused), security(()))]
pub async fn enroll(State(app): Ctx, origin: Origin, Json(body): Json<Signed>) -> Answer {
    let work = {
        let app = Arc::clone(&app);
        async move { by_key(&app, &origin, &body).await }
    };
    app.to_the_end(work).await.unwrap_or_else(|| Err(Error::internal()))
}

async fn by_key(app: &App, origin: &Origin, body: &Signed) -> Answer {
    let mut c = app.db.read().await?;
    let caller = robots::caller_by_name(&mut c, &body.name).await?;
    let key = match &caller {
        Some(caller) => satellites::device_key(&mut c, caller.satellite_id).await?,
        None => None,
    };
    drop(c);
    let (Some(caller), Some(key)) = (caller, key) else { return refuse(app, origin, &body.name).await };
    if !is_fresh(&app.keys, body, &caller, now()) || !is_signed(&key, body) {
        return refuse(app, origin, &body.name).await;
    }
    let standing = Standing::from_text(&caller.standing);
    if standing != Standing::Active {
        return Err(Error::new(StatusCode::FORBIDDEN, format!("satellite is {}", standing.as_str())));
    }
    if let Err(wait) = app.limits.take(caller.satellite_id) {
        return Err(Error::too_many().retry_after(wait));
    }
    let event = Event::done("satellite", "register", origin).by(&caller.name, "satellite");
    let event = event.satellite(&caller.name).details(json!({"flow": "device_key"}));
    let until = Some(now().saturating_add(ztr::PREVIOUS));
    ztr::give(app, caller.satellite_id, &caller.name, until, None, event).await
}

async fn refuse(app: &App, origin: &Origin, name: &str) -> Answer {
    let name: String = name.chars().take(64).collect();
    let event = Event::failed_auth(origin, &name, "device_key");
    app.audit_failure(&format!("enroll/{name}"), event).await;
    Err(Error::new(StatusCode::UNAUTHORIZED, "unknown device key, or a signature that is not of it"))
}

fn nonce(keys: &Keys, name: &str, caller: Option<&Caller>, at: i64, random: &str) -> String {
    let secret = caller.and_then(|c| c.secret_digest.as_deref()).unwrap_or_default();
    let at = format!("{at:x}");
    let seal = keys.digest("enroll", &[name, &at, random, secret].join("\n"));
    format!("{at}.{random}.{seal}")
}

fn is_fresh(keys: &Keys, body: &Signed, caller: &Caller, now: i64) -> bool {
    let mut parts = body.nonce.split('.');
    let (Some(at), Some(random)) = (parts.next(), parts.next()) else { return false };
    let Ok(at) = i64::from_str_radix(at, 16) else { return false };
    let age = now.saturating_sub(at);
    (-SKEW..=PATIENCE).contains(&age)
        && equal(&body.nonce, &nonce(keys, &body.name, Some(caller), at, random))
}

fn is_signed(key: &str, body: &Signed) -> bool {
    let (Ok(key), Ok(signature)) = (BASE64_STANDARD.decode(key), BASE64_STANDARD.decode(&body.signature))
    else {
        return false;
    };
    let text = format!("satellite-enroll\n{}\n{}", body.name, body.nonce);
    UnparsedPublicKey::new(&ED25519, key).verify(text.as_bytes(), &signature).is_ok()
}

/// Remembers which key a device showed with its token.
///
/// # Errors
/// The database's.
pub(super) async fn remember(c: &mut db::Conn, satellite: i64, key: Option<&str>) -> db::Result<()> {
    match key {
        Some(key) => satellites::set_device_key(c, satellite, Some(key)).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(secret: &str) -> Caller {
        Caller { secret_digest: Some(secret.into()), ..Caller::unknown(1, "gate") }
    }

    #[test]
    fn a_challenge_is_good_for_its_name_its_secret_and_two_minutes() {
        let keys = Keys::new("k");
        let (at, old) = (now(), caller("old"));
        let body = |name: &str| Signed {
            name: name.into(),
            nonce: nonce(&keys, "gate", Some(&old), at, "r"),
            signature: String::new(),
        };
        assert!(is_fresh(&keys, &body("gate"), &old, at));
        assert!(is_fresh(&keys, &body("gate"), &old, at + PATIENCE));
        assert!(!is_fresh(&keys, &body("gate"), &old, at + PATIENCE + 1));
        assert!(!is_fresh(&keys, &body("gate"), &old, at - SKEW - 1));
        assert!(!is_fresh(&keys, &body("other"), &old, at), "another's name");
        assert!(!is_fresh(&keys, &body("gate"), &caller("new"), at), "used already");
        assert!(!is_fresh(&Keys::new("l"), &body("gate"), &old, at), "another server's");
        for nonce in ["", ".", "zz.r.s", "-1.r.s"] {
            let forged = Signed { nonce: nonce.into(), ..body("gate") };
            assert!(!is_fresh(&keys, &forged, &old, at), "{nonce}");
        }
    }
}
