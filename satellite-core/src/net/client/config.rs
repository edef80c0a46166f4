//! What can be set.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::ProxySettings;

/// Settings of a client. [`Default`] is right for an edge gateway that reaches a registry over a bad link, without
/// a proxy; [`from_env`](Self::from_env) adds the proxy that the environment names.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// PEM files of certification authorities trusted in addition to the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Whether the system's certification authorities are trusted (`SSL_CERT_FILE` and `SSL_CERT_DIR` move them).
    pub native_roots: bool,
    /// Certificate that this client shows to servers which ask for one.
    pub identity: Option<ClientIdentity>,
    /// URI that the server's certificate must be of, in place of its host's name: a SPIFFE ID.
    pub server_uri: Option<String>,
    /// Longest time for each step of connecting: looking the name up, TCP, the proxy's tunnel, TLS.
    pub connect_timeout: Duration,
    /// Longest silence until the head of an answer is there. It starts anew with every byte that moves, so a slow
    /// upload may take as long as it likes.
    pub first_byte_timeout: Duration,
    /// Most connections kept open without a request, over all hosts.
    pub max_idle: usize,
    /// Longest time that one of them is kept; shorter than what servers and NAT boxes usually allow.
    pub idle_timeout: Duration,
    /// Largest buffer of a connection, in bytes; grows only when used. 8 KiB at least.
    pub max_buffer: usize,
    /// Proxies.
    pub proxy: ProxySettings,
    /// By which time certificates are judged; the machine's clock, if nothing is said.
    pub clock: Option<CertificateClock>,
}

/// A clock for certificates, where something better is known than the machine's: a gateway without a battery starts in
/// 1970, when no certificate was valid yet.
#[derive(Clone)]
pub struct CertificateClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl CertificateClock {
    /// Asked at each handshake.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for CertificateClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateClock")
    }
}

/// A client certificate, in PEM. To change it make a new client.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// File of the certificate and its intermediates.
    pub certificate: PathBuf,
    /// File of the private key.
    pub key: PathBuf,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            extra_roots: Vec::new(),
            native_roots: true,
            identity: None,
            server_uri: None,
            connect_timeout: Duration::from_secs(15),
            first_byte_timeout: Duration::from_secs(60),
            max_idle: 8,
            idle_timeout: Duration::from_secs(30),
            // Measured: 64 KiB cost twice the CPU per GiB received, 1 MiB no less than this.
            max_buffer: 400 << 10,
            proxy: ProxySettings::default(),
            clock: None,
        }
    }
}

impl ClientConfig {
    /// The defaults, with the proxies named by the environment.
    pub fn from_env() -> Self {
        Self { proxy: ProxySettings::from_env(), ..Self::default() }
    }
}
