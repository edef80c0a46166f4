//! The HTTP client: `surf` on top, hyper, smol and rustls below, joined by [`Pool`], our own
//! [`http_client::HttpClient`].
//!
//! What it does: keep-alive within bounds, proxies, private certification authorities, a limit on every phase of a
//! request except the whole, and bodies that stream both ways at the speed of the slower end. What it refuses to do:
//! cookies, redirects, retries of anything the other side may have seen, content decoding. Those belong to whoever
//! knows what the bytes mean ([`crate::remote`]).
//!
//! | file | does |
//! |---|---|
//! | `config` | what can be set |
//! | `proxy` | which proxy serves which target; pure |
//! | `dial` | name → address → socket → tunnel → TLS |
//! | `tls`, `uri` | whom it trusts, and what it shows |
//! | `io` | a socket as hyper wants it |
//! | `pool` | requests to connections |
//! | `convert` | `surf`'s messages to hyper's, and back |
//! | `body` | bodies, both ways |
//!
//! A `surf` body is an `AsyncBufRead` and lends its bytes, so whoever keeps them has to copy. Who moves gigabytes
//! puts [`SendStream`] into a request's extensions and [`ReceiveStream`] asks for the answer's body as it came from
//! hyper: no copy then, and lengths beyond 4 GiB on 32-bit machines.

mod body;
mod config;
mod convert;
mod dial;
mod error;
mod io;
mod pool;
mod proxy;
mod tls;
mod uri;

use std::{sync::Mutex, time::Duration};

pub use config::{CertificateClock, ClientConfig, ClientIdentity};
pub use error::{ClientError, Phase};
pub use pool::Pool;
pub use proxy::{Proxy, ProxySettings};

use super::{Executor, message::ByteStream};

/// What [`surf_client`] makes, so that callers need not name surf.
pub type SurfClient = surf::Client;

/// A `surf` client over a new [`Pool`]. Clone it; every call makes a pool of its own.
///
/// The connections' tasks run on `executor`. Certificate files are read here, the system's roots at the first
/// `https` request.
///
/// # Errors
/// [`ClientError::Config`] names the file that cannot be used.
pub fn surf_client(config: ClientConfig, executor: Executor) -> Result<surf::Client, ClientError> {
    Ok(surf::Client::with_http_client(Pool::new(config, executor)?))
}

/// Request extension: the body to send, in place of `surf`'s.
pub struct SendStream {
    stream: Mutex<Option<ByteStream>>,
    length: Option<u64>,
}

impl SendStream {
    /// `length` bytes, sent with `Content-Length`; without a length, chunked. A stream of another length breaks the
    /// connection and fails the request.
    pub fn new(stream: ByteStream, length: Option<u64>) -> Self {
        Self { stream: Mutex::new(Some(stream)), length }
    }
}

/// Request extension: wants the answer's body by [`take_stream`]; the `surf` body is empty then.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveStream;

/// Request extension: how long to wait for the head of the answer once the request was sent whole, in place of
/// [`ClientConfig::first_byte_timeout`].
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

/// The body of an answer to a request that carried [`ReceiveStream`]; `None` the second time.
/// Dropping it before its end closes the connection.
pub fn take_stream(response: &mut surf::http::Response) -> Option<ByteStream> {
    let slot = response.ext_mut().get_mut::<body::Slot>()?;
    slot.0.get_mut().ok()?.take()
}

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
