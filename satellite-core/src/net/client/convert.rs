//! `surf`'s messages to hyper's, and back.

use std::sync::Mutex;

use http_client::http_types;
use hyper::{
    Method, Request,
    body::Incoming,
    header::{
        AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
        SET_COOKIE, TRANSFER_ENCODING,
    },
};
use surf::Url;
use url::Position;

use super::{
    ClientError, Proxy, SendStream,
    body::{Outgoing, Received, Slot},
    dial::Target,
    pool::Lease,
};

/// Where a URL leads.
pub(super) fn target(url: &Url) -> Result<Target, ClientError> {
    let host = url.host_str().unwrap_or_default();
    let https = match url.scheme() {
        "https" => true,
        "http" => false,
        other => {
            return Err(ClientError::Request {
                host: host.into(),
                cause: format!("no scheme of HTTP: {other}"),
            });
        }
    };
    let port = url.port_or_known_default().unwrap_or(if https { 443 } else { 80 });
    Ok(Target { https, host: host.trim_start_matches('[').trim_end_matches(']').to_string(), port })
}

/// The request as it goes out: in absolute form to a proxy, else in origin form (RFC 9112 §3.2).
pub(super) fn translate(
    from: &mut http_types::Request,
    target: &Target,
    proxy: Option<&Proxy>,
) -> Result<Request<Outgoing>, ClientError> {
    let bad = |cause: String| ClientError::Request { host: target.authority(), cause };
    let body = match from.ext_mut().remove::<SendStream>() {
        Some(stream) => {
            Outgoing::from_stream(stream).ok_or_else(|| bad("its body was sent before".into()))?
        }
        None => Outgoing::from_surf(from.take_body()),
    };
    let method = from.method().as_ref().parse::<Method>().map_err(|e| bad(e.to_string()))?;
    let url = from.url();
    // Taken as written: `sha256:…` and `%3A` must arrive as the caller put them.
    let uri = match proxy {
        Some(_) if !target.https => {
            let path = &url[Position::BeforePath..Position::AfterQuery];
            format!("http://{}{path}", &url[Position::BeforeHost..Position::AfterPort])
        }
        _ => url[Position::BeforePath..Position::AfterQuery].to_string(),
    };
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort])
        .map_err(|e| bad(e.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host);
    for (name, values) in from.iter() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|e| bad(e.to_string()))?;
        // Framing is hyper's business, cookies are nobody's.
        if matches!(name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING | COOKIE) {
            continue;
        }
        for value in values {
            let mut value =
                HeaderValue::from_str(value.as_str()).map_err(|_| bad(format!("bad value of {name}")))?;
            value.set_sensitive(name == AUTHORIZATION);
            headers.append(name.clone(), value);
        }
    }
    if let Some(authorization) = proxy.filter(|_| !target.https).and_then(|p| p.authorization.as_deref()) {
        let value = HeaderValue::from_str(authorization).map_err(|e| bad(e.to_string()))?;
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    if body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().map_err(|_| bad("bad path".into()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The same request, of one without a body.
pub(super) fn copy(request: &Request<Outgoing>) -> Request<Outgoing> {
    let mut copy = Request::new(Outgoing::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// The answer as `surf` knows it; the lease goes with its body.
pub(super) fn answer(from: hyper::Response<Incoming>, lease: Lease, streamed: bool) -> http_types::Response {
    let (head, incoming) = from.into_parts();
    let mut answer = http_types::Response::new(status(head.status.as_u16()));
    for (name, value) in &head.headers {
        // http-types takes only ASCII; what is not says nothing that we read.
        let Ok(value) = value.to_str() else { continue };
        if *name != SET_COOKIE {
            answer.append_header(name.as_str(), value);
        }
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let received = Received::new(incoming, lease);
    if streamed {
        answer.ext_mut().insert(Slot(Mutex::new(Some(Box::pin(received)))));
    } else {
        answer.set_body(http_types::Body::from_reader(received, length));
    }
    answer
}

/// http-types knows only registered codes; any other counts as its class (RFC 9110 §15).
fn status(code: u16) -> http_types::StatusCode {
    use http_types::StatusCode as S;
    S::try_from(code).unwrap_or(match code {
        200..=299 => S::Ok,
        300..=399 => S::MultipleChoice,
        400..=499 => S::BadRequest,
        _ => S::InternalServerError,
    })
}
