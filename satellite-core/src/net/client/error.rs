//! Why there is no answer.

use std::{fmt, io, path::PathBuf, time::Duration};

/// A request that got no answer. Found in the `surf` error by `downcast_ref::<ClientError>()`.
/// Hosts are named, paths and queries are not: a query may carry a signature that is as good as a password.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the configuration cannot be used.
    #[error("{what} {}: {cause}", path.display())]
    Config {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No address for the name.
    #[error("cannot look up {host}: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// None of the addresses took the connection.
    #[error("cannot connect to {host}: {cause}")]
    Connect {
        /// Host and port; the proxy's if there is one.
        host: String,
        /// The last address' refusal.
        cause: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {cause}")]
    Tls {
        /// Host and port.
        host: String,
        /// What rustls or the socket said.
        cause: io::Error,
    },
    /// The proxy refused to make a tunnel.
    #[error("proxy {proxy} makes no tunnel to {host}: {cause}")]
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// Where to.
        host: String,
        /// Its status line, or what is wrong with it.
        cause: String,
        /// Whether another try may help (the proxy's 5xx, a cut connection).
        transient: bool,
    },
    /// A phase took too long.
    #[error("{host}: {phase} took longer than {} s", after.as_secs_f32())]
    Timeout {
        /// Host and port.
        host: String,
        /// Which.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The exchange broke off, or was no HTTP.
    #[error("{host}: {}", Chain(cause))]
    Http {
        /// Host and port.
        host: String,
        /// What hyper said.
        cause: hyper::Error,
    },
    /// The request cannot be sent at all.
    #[error("{host}: {cause}")]
    Request {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// A step of a request with its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Looking up the name.
    Resolve,
    /// TCP.
    Connect,
    /// The proxy's CONNECT.
    Tunnel,
    /// TLS.
    Handshake,
    /// Waiting for the answer's head.
    FirstByte,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the name",
            Self::Connect => "connecting",
            Self::Tunnel => "the proxy's tunnel",
            Self::Handshake => "the TLS handshake",
            Self::FirstByte => "waiting for the answer",
        })
    }
}

impl ClientError {
    /// Whether the same request may succeed a little later. A certificate that does not verify will not; nor will a
    /// request that is malformed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::Proxy { transient, .. } => *transient,
            // rustls reports its own verdicts as InvalidData; anything else is the socket's.
            Self::Tls { cause, .. } => cause.kind() != io::ErrorKind::InvalidData,
            Self::Http { cause, .. } => !cause.is_parse_too_large() && !cause.is_user(),
            Self::Config { .. } | Self::Request { .. } => false,
        }
    }
}

/// hyper says "error reading a body" and hides why in its source.
struct Chain<'a>(&'a hyper::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
