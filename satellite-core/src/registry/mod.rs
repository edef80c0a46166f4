//! The OCI Distribution server: a request in, an answer out that names store objects. No sockets here.
//!
//! `route` reads the path, `access` decides who may, and `pull`, `push`, `list` and `delete` do it. [`Registry`] is a
//! [`Handler`], so the HTTP server can serve it and a test can call it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    net::message::{Handler, Peer, Request, RequestBody, Response, ResponseBody},
    oci::{Digest, Reference, Repository},
    store::Store,
};

mod access;
mod delete;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gate;
mod list;
mod metrics;
mod names;
mod pull;
mod push;
mod range;
mod route;
#[cfg(test)]
mod tests;
mod upstream;

pub use access::{Access, Htpasswd, HtpasswdError};
pub use gate::{Gate, Login, Verdict, Wish};
pub use metrics::{Gauge, Metrics};
pub use names::{MAX_RULES, Names, NamesCell, NamesError, Rule};
pub use upstream::{Found, Upstream};

use access::Right;
use error::{Code, Failure};
use route::{Route, Target};

/// How the registry behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing can be pushed or deleted.
    pub read_only: bool,
    /// Manifests may be pushed although content they name is not here.
    pub sparse: bool,
    /// Entries of a page of tags, repositories or referrers, where the client asks for none or for more. Default 1,000.
    pub page: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { read_only: false, sparse: false, page: 1000 }
    }
}

/// The registry of one store.
pub struct Registry {
    store: Store,
    access: Access,
    settings: Settings,
    metrics: Arc<Metrics>,
    upstream: Option<Arc<dyn Upstream>>,
    gate: Option<Arc<dyn Gate>>,
    names: Arc<NamesCell>,
}

/// What the handlers get of a request.
struct Call<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    query: Query,
    repository: Repository,
    /// The host whose repository is meant, if the request says so.
    host: Option<String>,
}

type Answer = Result<Response, Failure>;

impl Registry {
    /// A registry over `store`.
    pub fn new(store: Store, access: Access, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { store, access, settings, metrics, upstream: None, gate: None, names: Arc::default() }
    }

    /// Lets `gate` decide who may do what, in place of [`Access`].
    #[must_use]
    pub fn with_gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Asks `upstream` for what clients want to pull and the store lacks.
    #[must_use]
    pub fn with_upstream(mut self, upstream: Arc<dyn Upstream>) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// Finds images by their origin's name too, by these rules.
    #[must_use]
    pub fn with_names(mut self, names: Arc<NamesCell>) -> Self {
        self.names = names;
        self
    }

    /// Answers one request. Never fails: what goes wrong is an answer in the error form of the specification.
    pub async fn answer(&self, request: Request) -> Response {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().copied();
        let target = route::parse(parts.uri.path(), parts.uri.query());
        let kind = target.as_ref().map_or("unknown", |t| t.route.kind());
        let mut response = match target {
            Ok(target) => {
                self.dispatch(&parts, peer, target, body).await.unwrap_or_else(Failure::into_response)
            }
            Err(failure) => failure.into_response(),
        };
        if parts.method == Method::HEAD {
            drop_body(&mut response);
        }
        let headers = response.headers_mut();
        headers.insert(
            HeaderName::from_static("docker-distribution-api-version"),
            HeaderValue::from_static("registry/2.0"),
        );
        let status = response.status().as_u16();
        let bytes = body_length(&response);
        self.metrics.request(kind, &parts.method, status, bytes);
        log::info!(
            target: "access",
            "{} {} {} {status} {bytes} {:?} {:?}",
            peer.map_or_else(|| "-".into(), |p| p.address.to_string()),
            parts.method,
            parts.uri,
            begun.elapsed(),
            parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("-"),
        );
        response
    }

    async fn dispatch(
        &self,
        parts: &http::request::Parts,
        peer: Option<Peer>,
        target: Target,
        body: RequestBody,
    ) -> Answer {
        let address: Option<SocketAddr> = peer.map(|p| p.address);
        let method = &parts.method;
        match &target.route {
            Route::Health => return Ok(text("ok\n")),
            Route::Metrics => return Ok(text(&self.metrics.render(&self.store).await)),
            _ => {}
        }
        let right = if matches!(*method, Method::GET | Method::HEAD) { Right::Pull } else { Right::Write };
        if right == Right::Write && self.settings.read_only {
            return Err(Failure::new(Code::Unsupported, "this registry is read-only"));
        }
        match &self.gate {
            None => self.access.check(right, &parts.headers, address).await?,
            Some(gate) => gate::check(&**gate, right, &target, parts).await?,
        }
        self.refuse_loop(&parts.headers)?;
        let read = matches!(*method, Method::GET | Method::HEAD);
        let (name, upstream) = match &target.route {
            Route::Base if read => {
                let mut response = json("{}");
                // Clients of the containers/image family send a password only where they were challenged here.
                if let Some(challenge) = self.access.challenge().filter(|_| self.gate.is_none()) {
                    set(&mut response, header::WWW_AUTHENTICATE, challenge);
                }
                return Ok(response);
            }
            Route::Base => return Err(not_allowed("GET, HEAD")),
            Route::Catalog => {
                let query = Query::parse(parts.uri.query());
                return if read { self.catalog(&query) } else { Err(not_allowed("GET, HEAD")) };
            }
            _ => (target.repository, target.upstream),
        };
        let Some(name) = name else { return Err(Failure::not_found()) };
        let asked = name.clone();
        let (mut repository, host) = self.resolve(name, upstream, right, &target.route)?;
        if host.is_none()
            && right == Right::Pull
            && let Some(own) = self.dockers_name(&repository, &target.route, &parts.headers)?
        {
            repository = own;
        }
        if let Some(gate) = self.gate.as_ref().filter(|_| repository != asked) {
            gate::check_repository(&**gate, right, &repository, &parts.headers).await?;
        }
        let query = Query::parse(parts.uri.query());
        let call = Call { method, headers: &parts.headers, query, repository, host };
        match (target.route, method) {
            (Route::Manifest(reference), &Method::GET | &Method::HEAD) => {
                self.get_manifest(&call, &reference).await
            }
            (Route::Manifest(reference), &Method::PUT) => self.put_manifest(&call, &reference, body).await,
            (Route::Manifest(reference), &Method::DELETE) => self.delete_manifest(&call, &reference).await,
            (Route::Manifest(_), _) => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            (Route::Blob(digest), &Method::GET | &Method::HEAD) => self.get_blob(&call, &digest).await,
            (Route::Blob(digest), &Method::DELETE) => self.delete_blob(&call, &digest).await,
            (Route::Blob(_), _) => Err(not_allowed("GET, HEAD, DELETE")),
            (Route::Uploads, &Method::POST) => self.begin_upload(&call, body).await,
            (Route::Uploads, _) => Err(not_allowed("POST")),
            (Route::Upload(id), &Method::GET) => self.upload_status(&call, &id).await,
            (Route::Upload(id), &Method::PATCH) => self.patch_upload(&call, &id, body).await,
            (Route::Upload(id), &Method::PUT) => self.finish_upload(&call, &id, body).await,
            (Route::Upload(id), &Method::DELETE) => self.cancel_upload(&call, &id).await,
            (Route::Upload(_), _) => Err(not_allowed("GET, PATCH, PUT, DELETE")),
            (Route::Tags, &Method::GET | &Method::HEAD) => self.tags(&call),
            (Route::Referrers(digest), &Method::GET | &Method::HEAD) => self.referrers(&call, &digest),
            (Route::Tags | Route::Referrers(_), _) => Err(not_allowed("GET, HEAD")),
            (Route::Base | Route::Catalog | Route::Health | Route::Metrics, _) => Err(Failure::not_found()),
        }
    }

    /// The store's repository for a name as the client spelled it, and the host it is of where one is named. Content
    /// replicated from one host is never given out as another's; writes are only to the registry's own names.
    fn resolve(
        &self,
        name: Repository,
        upstream: Option<String>,
        right: Right,
        route: &Route,
    ) -> Result<(Repository, Option<String>), Failure> {
        let origins = |r: &Repository| self.store.origins(r).map_err(Failure::from);
        if let Some(host) = upstream {
            if right == Right::Pull
                && let Some(own) = self.own_name(&host, &name, route)?
            {
                return Ok((own, None));
            }
            let known = origins(&name)?;
            let foreign = !known.is_empty() && !known.contains(&host);
            if right == Right::Pull
                && !self.asks(&host)
                && (foreign || self.is_tag_of_others(&name, route, &host)?)
            {
                return Err(Failure::new(Code::NameUnknown, "that upstream's repository is not here")
                    .detail(serde_json::json!({"upstream": host, "repository": name.as_str()})));
            }
            return Ok((name, Some(host)));
        }
        // `/v2/HOST/REPO`: only a host that something was or may be fetched from is one; a project may be called
        // `docker.io`.
        if let Some((host, rest)) = name.as_str().split_once('/')
            && host.contains('.')
            && !self.store.has_repository(&name)?
            && let Ok(rest) = rest.parse::<Repository>()
        {
            if right == Right::Pull
                && let Some(own) = self.own_name(host, &rest, route)?
            {
                return Ok((own, None));
            }
            if self.asks(host)
                || origins(&rest)?.iter().any(|h| h == host) && !self.is_tag_of_others(&rest, route, host)?
            {
                return Ok((rest, Some(host.to_string())));
            }
        }
        Ok((name, None))
    }

    /// The name by the rules under which what is asked for is here. Who made the rule said that it is the same, whichever
    /// host it came from.
    fn own_name(&self, host: &str, name: &Repository, route: &Route) -> Result<Option<Repository>, Failure> {
        let Some(own) = self.names.get().lookup(host, name) else { return Ok(None) };
        let here = match route {
            Route::Manifest(reference) => self.store.manifest(&own, reference)?.is_some(),
            Route::Blob(digest) => self.store.linked(&own, digest)?.is_some(),
            _ => self.store.has_repository(&own)?,
        };
        Ok(here.then_some(own))
    }

    /// The same for Docker before 26, which cannot be told to say that it means docker.io, and means nothing else where
    /// the registry has no such repository of its own.
    fn dockers_name(
        &self,
        name: &Repository,
        route: &Route,
        headers: &HeaderMap,
    ) -> Result<Option<Repository>, Failure> {
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !agent.starts_with("docker/") || self.store.has_repository(name)? {
            return Ok(None);
        }
        self.own_name("docker.io", name, route)
    }

    /// Whether what is missing may be had from this host.
    fn asks(&self, host: &str) -> bool {
        self.upstream.as_ref().is_some_and(|u| u.knows(host))
    }

    /// A request of our own that came back: some upstream is this registry, perhaps by another name.
    fn refuse_loop(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(upstream) = &self.upstream else { return Ok(()) };
        let mut lines = headers.get_all(header::VIA).iter().filter_map(|v| v.to_str().ok());
        if lines.any(|line| line.split([',', ' ']).any(|word| word == upstream.name())) {
            let text =
                "this registry is its own upstream: take it out of the list of what may be pulled through";
            log::error!("{text}");
            return Err(Failure::new(Code::Unsupported, text).status(StatusCode::LOOP_DETECTED));
        }
        Ok(())
    }

    /// Whether a tag is asked for that, as it is now, came from other hosts than this one: repositories of two hosts may
    /// have the same name. What is asked for by digest is what it is, whoever has it.
    fn is_tag_of_others(&self, name: &Repository, route: &Route, host: &str) -> Result<bool, Failure> {
        let Route::Manifest(Reference::Tag(tag)) = route else { return Ok(false) };
        let known = self.store.tag(name, tag)?.map(|t| t.origins).unwrap_or_default();
        Ok(!known.is_empty() && !known.iter().any(|h| h == host))
    }
}

#[async_trait::async_trait]
impl Handler for Registry {
    async fn handle(&self, request: Request) -> Response {
        self.answer(request).await
    }
}

/// The parameters of a query string, decoded; what is not UTF-8 is left out.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(&text.replace('+', " "))
                .decode_utf8()
                .ok()
                .map(|t| t.into_owned())
        };
        let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty()).take(64);
        Self(
            pairs
                .filter_map(|p| p.split_once('=').or(Some((p, ""))))
                .filter_map(|(k, v)| Some((decode(k)?, decode(v)?)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn digest(&self, name: &str) -> Result<Option<Digest>, Failure> {
        self.get(name)
            .map(|text| text.parse().map_err(|e| Failure::new(Code::DigestInvalid, &format!("{e}"))))
            .transpose()
    }
}

fn not_allowed(allowed: &'static str) -> Failure {
    Failure::new(Code::Unsupported, "that method is not supported here").header(header::ALLOW, allowed)
}

fn respond(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    response
}

fn text(content: &str) -> Response {
    with_bytes("text/plain; charset=utf-8", content.to_string().into())
}

fn json(content: &str) -> Response {
    with_bytes("application/json", content.to_string().into())
}

fn with_bytes(content_type: &str, content: bytes::Bytes) -> Response {
    let mut response = Response::new(ResponseBody::Bytes(content));
    set(&mut response, header::CONTENT_TYPE, content_type);
    response
}

/// Sets a header from text that may hold what a client sent; what cannot be a header value is left out.
fn set(response: &mut Response, name: impl Into<HeaderName>, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(name.into(), value);
    }
}

fn body_length(response: &Response) -> u64 {
    match response.body() {
        ResponseBody::Empty => 0,
        ResponseBody::Bytes(bytes) => bytes.len() as u64,
        ResponseBody::File { len, .. } => *len,
        ResponseBody::Stream { len, .. } => len.unwrap_or_default(),
    }
}

/// For HEAD: the length stays, the body goes (RFC 9110 §9.3.2).
fn drop_body(response: &mut Response) {
    let length = body_length(response);
    if !matches!(response.body(), ResponseBody::Empty) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *response.body_mut() = ResponseBody::Empty;
    }
}
