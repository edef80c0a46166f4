//! The extractor for the satellites' routes: a certificate that names one, else a robot's login and secret.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

use super::{basic, equal};
use crate::{
    app::App,
    audit::Event,
    db::{
        now,
        robots::{self, Caller},
    },
    fleet::health::Standing,
    http::{Error, Origin},
    spiffe,
};

/// A satellite that said who it is.
#[derive(Clone, Debug)]
pub struct Satellite {
    who: Who,
    /// Where the request came from.
    pub origin: Origin,
}

#[derive(Clone, Debug)]
enum Who {
    /// Verified.
    Known(Box<Caller>),
    /// It has the secret that all satellites share, because the registry has no robots.
    Sharing(String),
}

impl FromRequestParts<Arc<App>> for Satellite {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let origin = Origin::of(parts, app);
        let named = match spiffe::name(parts, app)? {
            Some(name) => robots::caller_by_name(&mut *app.db.read().await?, &name).await?,
            None => None,
        };
        let who = match named {
            Some(caller) => Who::Known(Box::new(admit(app, caller)?)),
            None => by_secret(parts, app, &origin).await?,
        };
        Ok(Self { who, origin })
    }
}

impl Satellite {
    /// Which it is. `name` is what it says itself, and counts only among those who share one secret.
    ///
    /// # Errors
    /// 401 if there is none of that name, 403 if it may not call.
    pub async fn caller(self, app: &App, name: &str) -> Result<Caller, Error> {
        let digest = match self.who {
            Who::Known(caller) => return Ok(*caller),
            Who::Sharing(digest) => digest,
        };
        let caller = robots::caller_by_name(&mut *app.db.read().await?, name).await?;
        match caller.filter(|c| c.secret_digest.as_ref().is_some_and(|kept| equal(kept, &digest))) {
            Some(caller) => admit(app, caller),
            None => Err(Error::new(StatusCode::UNAUTHORIZED, "Invalid credentials").detail(
                "name: this registry's satellites share one account, and none of them has this name",
            )),
        }
    }
}

/// Whether it may call at all, and now.
fn admit(app: &App, caller: Caller) -> Result<Caller, Error> {
    if let Err(wait) = app.limits.take(caller.satellite_id) {
        return Err(Error::too_many().retry_after(wait));
    }
    match Standing::from_text(&caller.standing) {
        Standing::Active => Ok(caller),
        standing => Err(Error::new(StatusCode::FORBIDDEN, format!("satellite is {}", standing.as_str()))),
    }
}

async fn by_secret(parts: &Parts, app: &Arc<App>, origin: &Origin) -> Result<Who, Error> {
    let refuse = |message: &'static str| Error::new(StatusCode::UNAUTHORIZED, message);
    let Some((login, secret)) = basic(&parts.headers) else {
        app.audit_failure("-", Event::failed_auth(origin, "", "missing_credentials")).await;
        return Err(refuse("Unauthorized"));
    };
    let digest = app.keys.digest("robot", &secret);
    let callers = match &app.directory {
        Some(directory) => {
            directory.caller(login.clone()).await.map_err(|_| Error::away())?.into_iter().collect()
        }
        None => robots::callers(&mut *app.db.read().await?, &login).await?,
    };
    let same = |kept: Option<&String>| kept.is_some_and(|kept| equal(kept, &digest));
    let valid = |c: &Caller| {
        same(c.secret_digest.as_ref())
            || same(c.previous_digest.as_ref()) && c.previous_until.is_some_and(|until| until > now())
    };
    let mut callers = callers.into_iter();
    let (first, sharing) = (callers.next(), callers.next().is_some());
    let Some(caller) = first.filter(valid) else {
        app.audit_failure(&login, Event::failed_auth(origin, &login, "invalid_credentials")).await;
        return Err(refuse("Invalid credentials"));
    };
    if sharing {
        return Ok(Who::Sharing(digest));
    }
    if caller.expires_at.is_some_and(|at| at <= now()) {
        app.audit_failure(&login, Event::failed_auth(origin, &login, "token_expired")).await;
        return Err(refuse("Unauthorized"));
    }
    let caller = admit(app, caller)?;
    if caller.used_at.is_none() && same(caller.secret_digest.as_ref()) {
        let mut tx = app.db.begin().await?;
        robots::mark_used(&mut tx, caller.satellite_id, &digest).await?;
        tx.commit().await?;
    }
    Ok(Who::Known(Box::new(caller)))
}
