//! From a name to a connection that HTTP can be spoken on.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use futures_rustls::pki_types::ServerName;

use super::{ClientConfig, ClientError, Phase, Proxy, io::Stream, tls::Material};

/// How long an address may keep the next one waiting (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// Longest head of a proxy's answer to CONNECT.
const MAX_TUNNEL_HEAD: usize = 8 << 10;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(super) struct Dialer {
    tls: std::sync::Arc<Material>,
    connector: async_lock::OnceCell<futures_rustls::TlsConnector>,
    timeout: Duration,
}

impl Dialer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            tls: std::sync::Arc::new(Material::read(config)?),
            connector: async_lock::OnceCell::new(),
            timeout: config.connect_timeout,
        })
    }

    /// A connection to `target`: for `https` through the proxy's tunnel, for `http` to the proxy itself.
    pub(super) async fn dial(&self, target: &Target, proxy: Option<&Proxy>) -> Result<Stream, ClientError> {
        let (host, port) = proxy.map_or((target.host.as_str(), target.port), |p| (p.host.as_str(), p.port));
        let mut tcp = self.tcp(host, port).await?;
        if !target.https {
            return Ok(Stream::Plain(tcp));
        }
        if let Some(proxy) = proxy {
            self.limit(&target.authority(), Phase::Tunnel, tunnel(&mut tcp, target, proxy)).await?;
        }
        self.handshake(target, tcp).await
    }

    async fn limit<T>(
        &self,
        host: &str,
        phase: Phase,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        future::or(work, async {
            Timer::after(self.timeout).await;
            Err(ClientError::Timeout { host: host.to_string(), phase, after: self.timeout })
        })
        .await
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<Async<TcpStream>, ClientError> {
        let name = authority(host, port);
        let resolve = async {
            let addresses = resolve(host.to_string(), port).await;
            addresses.map_err(|cause| ClientError::Resolve { host: host.to_string(), cause })
        };
        let addresses = self.limit(&name, Phase::Resolve, resolve).await?;
        let connect = async {
            let stream = first(&mut interleave(addresses)).await;
            stream.map_err(|cause| ClientError::Connect { host: name.clone(), cause })
        };
        let stream = self.limit(&name, Phase::Connect, connect).await?;
        // Requests are written whole; waiting for a fuller packet only delays them.
        let _ = stream.get_ref().set_nodelay(true);
        Ok(stream)
    }

    async fn handshake(&self, target: &Target, tcp: Async<TcpStream>) -> Result<Stream, ClientError> {
        let host = target.authority();
        let tls = |cause| ClientError::Tls { host: host.clone(), cause };
        let material = self.tls.clone();
        let connector = self
            .connector
            .get_or_try_init(|| smol::unblock(move || material.connector()))
            .await
            .map_err(|e| tls(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|e| tls(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        let work = async { connector.connect(name, tcp).await.map_err(tls) };
        let stream = self.limit(&host, Phase::Handshake, work).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found: Vec<_> =
        smol::unblock(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await?;
    if found.is_empty() {
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    } else {
        Ok(found)
    }
}

/// The families in turn, the resolver's first choice first: a machine whose IPv6 leads nowhere loses 250 ms, not all.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let six_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == six_first);
    let mut all = VecDeque::new();
    while let Some(next) = a.pop_front().or_else(|| b.pop_front()) {
        all.push_back(next);
        all.extend(b.pop_front());
    }
    all
}

type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Async<TcpStream>>> + Send + 'a>>;

/// The first address that answers; each next one starts when the one before failed or was slow.
fn first(addresses: &mut VecDeque<SocketAddr>) -> Connecting<'_> {
    Box::pin(async move {
        let Some(address) = addresses.pop_front() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no address to connect to"));
        };
        let mut this = pin!(Async::<TcpStream>::connect(address));
        if addresses.is_empty() {
            return this.await;
        }
        let slow = async {
            Timer::after(STAGGER).await;
            None
        };
        match future::or(async { Some(this.as_mut().await) }, slow).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(_)) => first(addresses).await,
            None => either(this, first(addresses)).await,
        }
    })
}

/// Whichever succeeds first; the later error if neither does.
async fn either<T>(
    mut a: impl Future<Output = io::Result<T>> + Unpin,
    mut b: impl Future<Output = io::Result<T>> + Unpin,
) -> io::Result<T> {
    let (mut a_failed, mut b_failed) = (false, false);
    future::poll_fn(|cx| {
        if !a_failed && let Poll::Ready(result) = Pin::new(&mut a).poll(cx) {
            a_failed = true;
            if result.is_ok() || b_failed {
                return Poll::Ready(result);
            }
        }
        if !b_failed && let Poll::Ready(result) = Pin::new(&mut b).poll(cx) {
            b_failed = true;
            if result.is_ok() || a_failed {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

/// CONNECT (RFC 9110 §9.3.6). The proxy has nothing to say after its head until TLS starts, so nothing is over-read.
async fn tunnel(tcp: &mut Async<TcpStream>, target: &Target, proxy: &Proxy) -> Result<(), ClientError> {
    let fail = |cause: String, transient| ClientError::Proxy {
        proxy: authority(&proxy.host, proxy.port),
        host: target.authority(),
        cause,
        transient,
    };
    let host = target.authority();
    let mut request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    request += "\r\n";
    tcp.write_all(request.as_bytes()).await.map_err(|e| fail(e.to_string(), true))?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let read = tcp.read(&mut piece).await.map_err(|e| fail(e.to_string(), true))?;
        if read == 0 {
            return Err(fail("it closed the connection".into(), true));
        }
        head.extend_from_slice(&piece[..read]);
        if head.len() > MAX_TUNNEL_HEAD {
            return Err(fail("its answer is too long".into(), false));
        }
    }
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    let status = line.strip_prefix("HTTP/1.").and_then(|l| l.split(' ').nth(1)?.parse::<u16>().ok());
    match status {
        Some(200..=299) if head.ends_with(b"\r\n\r\n") => Ok(()),
        Some(200..=299) => Err(fail("it speaks before TLS does".into(), false)),
        Some(status) => Err(fail(line.chars().take(120).collect(), status >= 500 || status == 429)),
        None => Err(fail("its answer is not HTTP".into(), false)),
    }
}
