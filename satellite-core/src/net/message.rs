//! What travels between the HTTP binding and the code above it: plain values that need no socket.

use std::{fs::File, io, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_lite::{Stream, StreamExt};

/// Pieces of a body in order. It ends with `None`, or with the first error.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of an incoming request.
pub struct RequestBody {
    /// `Content-Length`, where the client sent one.
    pub length: Option<u64>,
    /// The bytes, pulled from the socket as they are read.
    pub stream: ByteStream,
}

impl RequestBody {
    /// A body that is already here, as tests need it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes: Bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        Self { length, stream: Box::pin(futures_lite::stream::once(Ok(bytes))) }
    }

    /// Reads it whole, up to `limit` bytes. `Ok(None)`: it is longer.
    pub async fn read_to_limit(mut self, limit: usize) -> io::Result<Option<Bytes>> {
        if self.length.is_some_and(|n| n > limit as u64) {
            return Ok(None);
        }
        let mut all = Vec::new();
        while let Some(piece) = self.stream.next().await {
            let piece = piece?;
            if all.len() + piece.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&piece);
        }
        Ok(Some(all.into()))
    }
}

/// The body of an answer. Only `Stream` is copied through user space in pieces; a `File` goes out by `sendfile`
/// where the connection allows it.
pub enum ResponseBody {
    /// Nothing. For an answer to HEAD set `content-length` by hand.
    Empty,
    /// Small, in memory.
    Bytes(Bytes),
    /// `len` bytes of `file` from `offset`; the caller has checked that they are there.
    File {
        /// Open for reading; its cursor is not used.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Bytes that are still arriving. With a length it goes out framed by `Content-Length`, otherwise chunked.
    Stream {
        /// Total number of bytes, where known.
        len: Option<u64>,
        /// The bytes; an error ends the connection, so that the client sees a cut and not an end.
        stream: ByteStream,
    },
}

/// A request: method, URI and headers as sent, and who sent it as the extension [`Peer`].
pub type Request = http::Request<RequestBody>;
/// An answer.
pub type Response = http::Response<ResponseBody>;

/// The other end of a connection, found in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// Who the other end of a TLS connection is by its verified certificate, found in a request's extensions if it showed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    uris: Arc<[String]>,
}

impl ClientCertificate {
    /// With these URI names.
    pub fn new(uris: impl IntoIterator<Item = String>) -> Self {
        Self { uris: uris.into_iter().collect() }
    }

    /// Its subject's alternative names of the kind URI, as SPIFFE ids are.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }
}

/// Answers requests. One value serves all connections.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Never fails: an error is an answer too.
    async fn handle(&self, request: Request) -> Response;
}
