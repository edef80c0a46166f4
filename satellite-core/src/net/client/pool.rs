//! Requests to connections, and connections kept for the next request.

use std::{
    collections::VecDeque,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::future;
use http_client::{HttpClient, http_types};
use hyper::{
    Request,
    body::Incoming,
    client::conn::{TrySendError, http1},
};

use super::{
    ClientConfig, ClientError, Executor, Patience, Phase, Proxy, ReceiveStream,
    body::Outgoing,
    convert::{answer, copy, target, translate},
    dial::{Dialer, Target},
    io::{Activity, Io},
};

/// Most header lines in an answer, and most bytes of its head.
const MAX_HEADERS: usize = 128;
const MAX_HEAD: usize = 64 << 10;
/// How long a connection from the pool may take to be ready. It is at once, unless it is going down.
const READY: Duration = Duration::from_millis(100);

/// The client under `surf`. Connections are made as needed; how many at once is up to the caller.
pub struct Pool(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    dialer: Dialer,
    executor: Executor,
    idle: Mutex<VecDeque<Idle>>,
    /// Closes idle connections in time; there while there are any.
    reaper: Mutex<Option<smol::Task<()>>>,
}

/// What connections are interchangeable for.
#[derive(Clone, PartialEq, Eq)]
enum Key {
    Target(Target),
    Proxy(String, u16),
}

struct Idle {
    key: Key,
    since: Instant,
    connection: Connection,
}

/// Dropping it ends its task and closes its socket.
struct Connection {
    sender: http1::SendRequest<Outgoing>,
    activity: Activity,
    _driver: smol::Task<()>,
}

/// Longest silence before the answer's head, while the request goes out and after.
#[derive(Clone, Copy)]
struct Limits {
    sending: Duration,
    sent: Duration,
}

/// A connection that is serving a request.
pub(super) struct Lease {
    connection: Connection,
    key: Key,
    pool: Weak<Shared>,
    sent: Arc<AtomicBool>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} idle)", self.0.idle().len())
    }
}

impl Pool {
    /// An empty pool; see [`super::surf_client`].
    ///
    /// # Errors
    /// [`ClientError::Config`] names the file that cannot be used.
    pub fn new(config: ClientConfig, executor: Executor) -> Result<Self, ClientError> {
        let dialer = Dialer::new(&config)?;
        Ok(Self(Arc::new(Shared {
            config,
            dialer,
            executor,
            idle: Mutex::default(),
            reaper: Mutex::default(),
        })))
    }
}

#[async_trait::async_trait]
impl HttpClient for Pool {
    async fn send(&self, request: http_types::Request) -> Result<http_types::Response, http_types::Error> {
        self.0.send(request).await.map_err(|e| http_types::Error::new(http_types::StatusCode::BadGateway, e))
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        self: &Arc<Self>,
        mut from: http_types::Request,
    ) -> Result<http_types::Response, ClientError> {
        let target = target(from.url())?;
        let proxy = self.config.proxy.select(target.https, &target.host, target.port);
        let key = match proxy {
            Some(p) if !target.https => Key::Proxy(p.host.clone(), p.port),
            _ => Key::Target(target.clone()),
        };
        let quiet = self.config.first_byte_timeout;
        let limits = Limits { sending: quiet, sent: from.ext().get::<Patience>().map_or(quiet, |p| p.0) };
        let streamed = from.ext().get::<ReceiveStream>().is_some();
        let mut request = translate(&mut from, &target, proxy)?;
        let (lease, response) = loop {
            let (mut connection, reused) = match self.checkout(&key).await {
                Some(connection) => (connection, true),
                None => (self.connect(&target, proxy).await?, false),
            };
            let sent = request.body().done();
            // A reused connection may die under the request. If nothing was written hyper gives it back; if it was,
            // only a request that changes nothing may go out again (RFC 9110 §9.2.2).
            let replay =
                (reused && request.body().is_empty() && request.method().is_safe()).then(|| copy(&request));
            match exchange(&mut connection, request, &target, limits).await? {
                Ok(response) => {
                    let lease = Lease { connection, key, pool: Arc::downgrade(self), sent };
                    break (lease, response);
                }
                Err(mut error) => match error.take_message().filter(|_| reused).or(replay) {
                    Some(again) => request = again,
                    None => {
                        return Err(ClientError::Http {
                            host: target.authority(),
                            cause: error.into_error(),
                        });
                    }
                },
            }
        };
        Ok(answer(response, lease, streamed))
    }

    async fn connect(&self, target: &Target, proxy: Option<&Proxy>) -> Result<Connection, ClientError> {
        let io = Io::new(self.dialer.dial(target, proxy).await?);
        let activity = io.activity();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.config.max_buffer.max(8 << 10))
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD)
            .handshake(io)
            .await
            .map_err(|cause| ClientError::Http { host: target.authority(), cause })?;
        let host = target.authority();
        let driver = self.executor.spawn(async move {
            if let Err(error) = connection.await {
                // Whoever waits for the answer gets the error too; here it may be an idle connection's end.
                log::debug!(host = host.as_str(), error:% = error; "connection ended");
            }
        });
        Ok(Connection { sender, activity, _driver: driver })
    }

    fn drop_old(&self, idle: &mut VecDeque<Idle>) {
        let limit = self.config.idle_timeout;
        idle.retain(|i| i.since.elapsed() < limit && !i.connection.sender.is_closed());
    }

    /// A gateway that pulls once an hour shall not hold buffers and its registry's sockets in between.
    fn reap(self: &Arc<Self>) {
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if reaper.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (weak, pause) = (Arc::downgrade(self), self.config.idle_timeout);
        *reaper = Some(self.executor.spawn(async move {
            loop {
                Timer::after(pause).await;
                let Some(pool) = weak.upgrade() else { return };
                let mut idle = pool.idle();
                pool.drop_old(&mut idle);
                if idle.is_empty() {
                    return;
                }
            }
        }));
    }

    async fn checkout(&self, key: &Key) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.idle();
                self.drop_old(&mut idle);
                // The youngest is the likeliest to be alive.
                let at = idle.iter().rposition(|i| i.key == *key)?;
                idle.remove(at)?.connection
            };
            let ready = async { connection.sender.ready().await.is_ok() };
            let late = async {
                Timer::after(READY).await;
                false
            };
            if future::or(ready, late).await {
                return Some(connection);
            }
        }
    }
}

impl Lease {
    /// The answer was read to its end.
    pub(super) fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        // Answered before the request was sent whole: the rest of it is still in the way.
        if !self.sent.load(Ordering::Acquire)
            || self.connection.sender.is_closed()
            || pool.config.max_idle == 0
        {
            return;
        }
        let mut idle = pool.idle();
        while idle.len() >= pool.config.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle { key: self.key, since: Instant::now(), connection: self.connection });
        drop(idle);
        pool.reap();
    }
}

/// Sends, and waits for the head. The outer error ends the request, the inner one may give it back.
async fn exchange(
    connection: &mut Connection,
    request: Request<Outgoing>,
    target: &Target,
    limits: Limits,
) -> Result<Result<hyper::Response<Incoming>, TrySendError<Request<Outgoing>>>, ClientError> {
    connection.activity.touch();
    let activity = connection.activity.clone();
    let sent = request.body().done();
    let limit = || if sent.load(Ordering::Acquire) { limits.sent } else { limits.sending };
    activity.await_answer(true);
    let mut answer = pin!(connection.sender.try_send_request(request));
    loop {
        let quiet = async {
            Timer::at(activity.last() + limit()).await;
            None
        };
        if let Some(result) = future::or(async { Some(answer.as_mut().await) }, quiet).await {
            activity.await_answer(false);
            return Ok(result);
        }
        let after = limit();
        if activity.last() + after <= Instant::now() {
            return Err(ClientError::Timeout { host: target.authority(), phase: Phase::FirstByte, after });
        }
    }
}
