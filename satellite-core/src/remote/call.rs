//! A request of ours through redirects, authorisation and retries.

use std::time::Duration;

use bytes::Bytes;
use futures_lite::stream;
use surf::http::Method;
use url::Url;

use super::{
    Error, Registry, Result, auth,
    retry::{self, Attempts},
    scope::Scopes,
    wire::{Outgoing, Reply, host_of},
};
use crate::{net::message::ByteStream, oci::Digest};

/// Most redirects followed for one request.
const MAX_REDIRECTS: usize = 5;

/// A request that can be sent any number of times.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    /// For errors: `edge/app:v1`.
    pub(super) object: String,
    pub(super) scopes: Scopes,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Bytes>,
    /// Sends `If-Range` to whoever has given a strong validator for this blob.
    pub(super) if_range: Option<Digest>,
    /// Whether a 401 may be Harbor's login freeze, worth a pause.
    pub(super) believe_late: bool,
    pub(super) patience: Option<Duration>,
    /// The bytes are checked against a digest that we know: they may come from anywhere.
    pub(super) verified: bool,
}

impl Call {
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Registry {
    /// A request for `/v2/<path>`.
    pub(super) fn call(&self, method: Method, path: &str, object: &str, scopes: Scopes) -> Call {
        // Names and digests hold nothing that would need escaping; queries are the callers'.
        let mut url = self.0.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        url.set_path(&format!("/v2/{path}"));
        url.set_query(query);
        self.call_url(method, url, object, scopes)
    }

    /// A request for a URL that the registry gave.
    pub(super) fn call_url(&self, method: Method, url: Url, object: &str, scopes: Scopes) -> Call {
        let scopes = match &self.0.options.token_repository {
            Some(one) if scopes.names_repositories() => Scopes::push(one).union(&Scopes::delete(one)),
            _ => scopes,
        };
        Call {
            method,
            url,
            object: object.into(),
            scopes,
            headers: Vec::new(),
            body: None,
            if_range: None,
            believe_late: true,
            patience: None,
            verified: false,
        }
    }

    /// With retries, until an answer has one of these statuses.
    pub(super) async fn run_for(&self, call: &Call, wanted: &[u16]) -> Result<Reply> {
        let mut attempts = self.attempts();
        loop {
            match self.try_for(call, wanted).await {
                Ok(reply) => return Ok(reply),
                Err(error) => attempts.wait(error).await?,
            }
        }
    }

    /// Without retries, but authorised.
    pub(super) async fn try_for(&self, call: &Call, wanted: &[u16]) -> Result<Reply> {
        let reply = self.authorized(call).await?;
        if wanted.contains(&reply.status) { Ok(reply) } else { Err(reply.refusal().await) }
    }

    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts::new(&self.0.options.retry)
    }

    async fn authorized(&self, call: &Call) -> Result<Reply> {
        let mut login = self.login(call).await?;
        loop {
            let body = call.body.clone().map(|bytes| -> (ByteStream, Option<u64>) {
                let length = bytes.len() as u64;
                (Box::pin(stream::once(Ok(bytes))), Some(length))
            });
            let reply = self.once(call, login.header(), body).await?;
            match self.refused(call, &mut login, reply).await? {
                Some(reply) => return Ok(reply),
                None => continue,
            }
        }
    }

    /// The first `Authorization` for a call.
    pub(super) async fn login(&self, call: &Call) -> Result<auth::Login> {
        self.0.auth.begin(&self.0.wire, &call.scopes).await
    }

    /// `None`: it was a 401, and there is another `Authorization` to try.
    pub(super) async fn refused(
        &self,
        call: &Call,
        login: &mut auth::Login,
        reply: Reply,
    ) -> Result<Option<Reply>> {
        // What another host says about its own credentials is not about ours.
        if reply.status != 401 || reply.url.origin() != self.0.base.origin() {
            return Ok(Some(reply));
        }
        let challenges: Vec<_> =
            reply.headers("www-authenticate").into_iter().flat_map(super::challenge::parse).collect();
        // Read to its end first, so that the token is fetched over the same connection.
        let refusal = reply.refusal().await;
        let again =
            self.0.auth.again(&self.0.wire, &call.scopes, login, &challenges, call.believe_late).await?;
        if again { Ok(None) } else { Err(refusal) }
    }

    /// One request and its redirects (RFC 9110 §15.4). `Authorization` goes to this registry's scheme, host and port,
    /// and no more once a redirect has left them: object storage refuses requests with two kinds of authorisation,
    /// and has no business with ours.
    pub(super) async fn once(
        &self,
        call: &Call,
        authorization: Option<&str>,
        mut body: Option<(ByteStream, Option<u64>)>,
    ) -> Result<Reply> {
        let mut url = call.url.clone();
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            at_home &= url.origin() == self.0.base.origin();
            let mut headers = call.headers.clone();
            if let Some(value) = authorization.filter(|_| at_home) {
                headers.push(("authorization", value.to_string()));
            }
            if let Some(name) = self.0.options.via.as_ref().filter(|_| at_home) {
                headers.push(("via", format!("1.1 {name}")));
            }
            if let Some(etag) = call.if_range.as_ref().and_then(|digest| self.0.etags.get(&url, digest)) {
                headers.push(("if-range", etag));
            }
            let outgoing = Outgoing {
                method: call.method,
                url: &url,
                object: &call.object,
                headers,
                body: body.take(),
                patience: call.patience,
            };
            let reply = self.0.wire.send(outgoing).await?;
            let follow = matches!(call.method, Method::Get | Method::Head)
                && matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            if !follow {
                return if retry::is_retryable(reply.status) {
                    Err(reply.refusal().await)
                } else {
                    Ok(reply)
                };
            }
            let next = reply.header("location").and_then(|l| url.join(l).ok());
            let next = next.filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
            let Some(next) = next else { return Err(reply.protocol("a redirect without a usable Location")) };
            let next = super::keep_tls(&self.0.base, next);
            // Whoever sits on the way could answer for the registry.
            let downgrade = url.scheme() == "https" && next.scheme() == "http" && !super::is_loopback(&next);
            if downgrade && !call.verified {
                return Err(reply.protocol("a redirect from HTTPS to plain HTTP"));
            }
            log::debug!(from = host_of(&url).as_str(), to = host_of(&next).as_str(); "redirected");
            reply.drain().await;
            url = next;
        }
        Err(Error::protocol(&self.0.host, &call.object, format!("more than {MAX_REDIRECTS} redirects")))
    }
}
