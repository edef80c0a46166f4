//! Extractors for the API's routes.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode, header, request::Parts};

use super::{Refusal, SYSTEM_ADMIN, check, sha256_hex};
use crate::{
    app::App,
    db::users::{self, User},
    http::{Error, Origin},
};

/// A user who showed a session's token, or a name and password.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who.
    pub user: User,
    /// Hash of the session's token; none with Basic.
    pub token_hash: Option<String>,
    /// Where the request came from.
    pub origin: Origin,
}

/// One whose role is `system_admin`.
#[derive(Clone, Debug)]
pub struct SystemAdmin(pub Session);

/// The scheme, in lower case, and the rest of `Authorization`.
fn authorization(headers: &HeaderMap) -> Option<(String, &str)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    Some((scheme.to_ascii_lowercase(), rest.trim()))
}

/// Name and password of `Basic`, in any case.
pub fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = authorization(headers)?;
    if scheme != "basic" {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    decoded.split_once(':').map(|(name, password)| (name.to_string(), password.to_string()))
}

impl FromRequestParts<Arc<App>> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let unauthorized = || Error::new(StatusCode::UNAUTHORIZED, "Unauthorized");
        let origin = Origin::of(parts, app);
        if let Some((scheme, token)) = authorization(&parts.headers)
            && scheme == "bearer"
        {
            let hash = sha256_hex(token);
            let user =
                users::by_session(&mut *app.db.read().await?, &hash).await?.ok_or_else(unauthorized)?;
            return Ok(Self { user, token_hash: Some(hash), origin });
        }
        let (name, password) = basic(&parts.headers).ok_or_else(unauthorized)?;
        match check(app, &name, &password, &origin.address, true).await {
            Ok(user) => Ok(Self { user, token_hash: None, origin }),
            Err(Refusal::Limited) => Err(Error::too_many()),
            Err(Refusal::Busy) => Err(Error::busy()),
            Err(Refusal::Database(e)) => Err(e.into()),
            Err(_) => Err(unauthorized()),
        }
    }
}

impl FromRequestParts<Arc<App>> for SystemAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let session = Session::from_request_parts(parts, app).await?;
        if session.user.role == SYSTEM_ADMIN {
            Ok(Self(session))
        } else {
            Err(Error::new(StatusCode::FORBIDDEN, "Forbidden"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn basic_is_read_in_any_case_and_may_have_colons_in_the_password() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "bAsIc b3BzOmE6Yg==".parse().unwrap());
        assert_eq!(basic(&headers), Some(("ops".into(), "a:b".into())));
        for bad in ["Basic", "Basic !!!", "Bearer b3BzOmE6Yg==", "Basic b3Bz"] {
            headers.insert(header::AUTHORIZATION, bad.parse().unwrap());
            assert_eq!(basic(&headers), None, "{bad}");
        }
    }
}
