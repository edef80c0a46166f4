//! Token services (Docker Registry v2, "Token Authentication Specification" and "OAuth2").

use std::time::Duration;

use surf::http::Method;
use url::{Url, form_urlencoded};

use super::{
    Error, Result, Secret,
    credentials::Resolved,
    error::without,
    is_loopback,
    scope::Scopes,
    wire::{Outgoing, Wire, host_of},
};

/// Largest answer of a token service; Harbor's tokens have some kilobytes.
const MAX_TOKEN_BODY: usize = 1 << 20;
/// Life of a token whose answer does not say (Docker's "Token Authentication Specification").
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// A token service.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Realm {
    pub(super) url: Url,
    pub(super) service: Option<String>,
}

impl Realm {
    /// Asks the token service: GET with the password or without; POST, OAuth 2, with an identity token.
    pub(super) async fn fetch(
        &self,
        wire: &Wire,
        base: &Url,
        host: &str,
        who: &Resolved,
        scopes: &Scopes,
    ) -> Result<(Secret, Duration)> {
        if !who.is_anonymous() && !self.may_know_password(base) {
            return Err(Error::Realm { host: host.into(), realm: host_of(&self.url) });
        }
        let mut url = self.url.clone();
        let mut headers = vec![("accept", "application/json".to_string())];
        let outgoing = if let Resolved::Identity(token) = who {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose());
            form.append_pair("client_id", "satellite");
            form.extend_pairs(self.service.iter().map(|s| ("service", s)));
            form.append_pair("scope", &scopes.texts().collect::<Vec<_>>().join(" "));
            headers.push(("content-type", "application/x-www-form-urlencoded".into()));
            let form = bytes::Bytes::from(form.finish());
            let length = form.len() as u64;
            let body: crate::net::message::ByteStream = Box::pin(futures_lite::stream::once(Ok(form)));
            Outgoing { method: Method::Post, body: Some((body, Some(length))), ..get(&url, headers) }
        } else {
            {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(self.service.iter().map(|s| ("service", s)));
                query.extend_pairs(scopes.texts().map(|s| ("scope", s)));
            }
            if url.query() == Some("") {
                url.set_query(None);
            }
            headers.extend(who.basic().map(|h| ("authorization", h.expose().to_string())));
            get(&url, headers)
        };
        let fail = |cause: String, status, retry_after| Error::Token {
            host: host.into(),
            realm: host_of(&self.url),
            cause: without(&cause, who.secret()),
            status,
            retry_after,
        };
        let mut reply = wire.send(outgoing).await?;
        if reply.status != 200 {
            let status = reply.status;
            let retry_after = reply.retry_after();
            let cause = match reply.refusal().await {
                Error::Status { message, .. } | Error::Unauthorized { message, .. } => message,
                other => other.to_string(),
            };
            return Err(fail(format!("status {status} {cause}"), Some(status), retry_after));
        }
        let body = reply.read(MAX_TOKEN_BODY).await?;
        // Not the parser's own text: it would quote the token.
        let (value, life) =
            parse_token(&body).ok_or_else(|| fail("no token in its answer".into(), Some(200), None))?;
        log::debug!(registry = host, life_s = life.as_secs(); "got a token");
        Ok((value, life))
    }

    /// Whether our password may be shown to it.
    fn may_know_password(&self, base: &Url) -> bool {
        self.url.scheme() == "https"
            || is_loopback(&self.url)
            || (base.scheme() == "http" && self.url.host_str() == base.host_str())
    }
}

/// A GET of this client's own.
pub(super) fn get<'a>(url: &'a Url, headers: Vec<(&'static str, String)>) -> Outgoing<'a> {
    Outgoing { method: Method::Get, url, object: "token service", headers, body: None, patience: None }
}

/// Harbor sends both names, one of them empty.
fn parse_token(body: &[u8]) -> Option<(Secret, Duration)> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body.get(name)?.as_str().filter(|t| !t.is_empty() && t.is_ascii());
    let value = text("token").or_else(|| text("access_token"))?;
    let seconds = body.get("expires_in").and_then(serde_json::Value::as_f64).filter(|s| *s > 0.0 && *s < 1e9);
    Some((Secret::from(value), seconds.map_or(DEFAULT_LIFE, Duration::from_secs_f64)))
}
