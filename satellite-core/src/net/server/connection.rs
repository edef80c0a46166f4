//! One connection from handshake to close, and each request on it.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpStream},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use async_io::{Async, Timer};
use futures_lite::future::or;
use http::{Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use smol::channel::Receiver;

use super::{
    Limits, Stats, TlsAcceptor,
    body::{Outgoing, outgoing},
    sendfile::Slot,
    socket::{Io, Socket},
    upload::incoming,
    watch::Watch,
};
use crate::net::message::{ClientCertificate, Handler, Peer, ResponseBody};

/// What all connections of a server share.
pub(super) struct Common {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) limits: Limits,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) stats: Arc<Stats>,
    pub(super) http: http1::Builder,
}

/// What the parts of one connection share.
pub(super) struct Shared {
    pub(super) file: Slot,
    pub(super) stats: Arc<Stats>,
    pub(super) tls: bool,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    /// When the handler was last given something to do; `None` while it waits for the client.
    turn: Mutex<Option<Instant>>,
    /// Requests whose head has come, and answers that have ended.
    requests: AtomicUsize,
    answers: AtomicUsize,
}

impl Shared {
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// The next step is the handler's, or the client's, who has limits of its own.
    pub(super) fn set_turn(&self, handler: bool) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = handler.then(Instant::now);
    }

    /// Which request's head is being waited for; `None` while one is being answered.
    pub(super) fn awaited(&self) -> Option<usize> {
        let requests = self.requests.load(Relaxed);
        (self.answers.load(Relaxed) == requests).then_some(requests)
    }

    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    fn since(&self) -> Instant {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Instant::now)
    }
}

/// hyper's settings for `limits`. Heads are timed by [`Io`], at one timer a connection instead of one a request.
pub(super) fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.buffer_bytes.max(8 << 10));
    if limits.headers != Limits::default().headers {
        http.max_headers(limits.headers);
    }
    http
}

/// Serves `stream` until it ends, or, once `stop` is closed, until its running request is answered.
pub(super) async fn serve(
    common: Arc<Common>,
    stream: Async<TcpStream>,
    address: SocketAddr,
    stop: Receiver<Infallible>,
) {
    let end = or(converse(&common, stream, address, &stop), async {
        let _ = stop.recv().await;
        Timer::after(common.limits.drain).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "still busy when the server had to stop").into())
    });
    if let Err(e) = end.await {
        log::debug!(peer:% = address; "connection ended: {e}{}", source(&*e));
    }
}

type End = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// hyper's errors name their cause only here.
fn source(e: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    e.source().map(|e| format!(": {e}")).unwrap_or_default()
}

async fn converse(
    common: &Arc<Common>,
    stream: Async<TcpStream>,
    address: SocketAddr,
    stop: &Receiver<Infallible>,
) -> End {
    stream.get_ref().set_nodelay(true)?;
    let (socket, certificate) = match &common.tls {
        None => (Socket::Plain(stream), None),
        Some(tls) => {
            let late = async {
                Timer::after(common.limits.header_time).await;
                Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))
            };
            let stream = or(tls.accept(stream), late).await?;
            let certificate = super::tls::client_certificate(&stream);
            (Socket::Tls(Box::new(stream)), certificate)
        }
    };
    let shared = Arc::new(Shared {
        file: Slot::default(),
        stats: Arc::clone(&common.stats),
        tls: common.tls.is_some(),
        unread: AtomicBool::new(false),
        turn: Mutex::new(None),
        requests: AtomicUsize::new(0),
        answers: AtomicUsize::new(0),
    });
    let io = Io::new(socket, Arc::clone(&shared), &common.limits);
    let service = service_fn(move |request| {
        let (common, shared, certificate) = (Arc::clone(common), Arc::clone(&shared), certificate.clone());
        async move { Ok::<_, Infallible>(answer(&common, &shared, address, certificate, request).await) }
    });
    let mut http = pin!(common.http.serve_connection(io, service));
    let ended = or(async { Some(http.as_mut().await) }, async {
        let _ = stop.recv().await;
        None
    });
    if let Some(end) = ended.await {
        return Ok(end?);
    }
    http.as_mut().graceful_shutdown();
    Ok(http.await?)
}

async fn answer(
    common: &Common,
    shared: &Arc<Shared>,
    address: SocketAddr,
    certificate: Option<ClientCertificate>,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    shared.requests.fetch_add(1, Relaxed);
    shared.set_turn(true);
    shared.set_unread(false);
    let stall = || Watch::new(common.limits.body_idle);
    let method = request.method().clone();
    let (mut head, body) = request.into_parts();
    head.extensions.insert(Peer { address, tls: shared.tls });
    if let Some(certificate) = certificate {
        head.extensions.insert(certificate);
    }
    let body = incoming(body, &head.headers, shared, stall());
    let answer = or(common.handler.handle(Request::from_parts(head, body)), async {
        silence(common, shared).await;
        log::warn!(peer:% = address, method:% = method; "no answer in time");
        unavailable()
    });
    outgoing(answer.await, &method, shared, stall())
}

/// Ends when the handler had its turn for too long.
async fn silence(common: &Common, shared: &Shared) {
    loop {
        let end = shared.since() + common.limits.first_byte;
        if Instant::now() >= end {
            return;
        }
        Timer::at(end).await;
    }
}

fn unavailable() -> Response<ResponseBody> {
    let text = r#"{"errors":[{"code":"UNAVAILABLE","message":"the answer took too long"}]}"#;
    let mut answer = Response::new(ResponseBody::Bytes(text.into()));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
