//! A small blocking HTTP/1.1 client over plain sockets.
//!
//! It does what a good client does, and what a bad one does: bodies cut short, endless or slow ones, requests
//! that are no requests. Bodies are kept in memory; every read and write has a bound.

mod connection;
pub(crate) mod wire;

pub use connection::Connection;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What goes after a request's head.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Nothing, and no length said.
    #[default]
    None,
    /// Bytes with their length.
    Bytes(Vec<u8>),
    /// Pieces with chunked encoding.
    Chunked(Vec<Vec<u8>>),
    /// A length, fewer bytes than that, and then the end of the connection.
    Cut {
        /// The length that is said.
        announced: u64,
        /// What is really sent.
        sent: Vec<u8>,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET and so on.
    pub method: String,
    /// Path and query, sent as they are.
    pub target: String,
    /// Further header lines; `Host` and the body's own are added.
    pub headers: Vec<(String, String)>,
    /// What follows.
    pub body: Body,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Body::None }
    }

    /// With one more header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// With bytes as body.
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body(Body::Bytes(bytes.into()))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// Header lines in their order.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// False if the connection ended before the body did.
    pub whole: bool,
}

impl Response {
    /// The first header line of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}) in {} {}", self.status, self.text()))
    }

    /// The first error code of the Distribution specification's error body.
    pub fn code(&self) -> String {
        let json = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
        json["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Panics with the body unless the status is this.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let text: String = self.text().chars().take(2000).collect();
        assert_eq!(self.status, status, "the answer was {} {:?} {text}", self.status, self.headers);
        self
    }

    /// The path and query of `Location`, whatever host it names.
    #[track_caller]
    pub fn location(&self) -> String {
        let location = self.header("location").expect("an answer with Location");
        match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or_else(|| "/".into(), |at| rest[at..].to_owned()),
            None => location.to_owned(),
        }
    }
}

/// Sends requests to one server, each on a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    authorization: Option<String>,
    bound: Duration,
}

impl Client {
    /// A client of the server at `address`; no read or write may take longer than 20 s.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, authorization: None, bound: Duration::from_secs(20) }
    }

    /// The same with a name and password on every request.
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {pair}"));
        self
    }

    /// The same with another bound on every read and write.
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A connection, for several requests or for mischief.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address, self.bound)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Those of the socket; a body that ends early is no error but a [`Response`] that is not `whole`.
    pub fn try_send(&self, request: &Request) -> io::Result<Response> {
        let mut request = request.clone().header("Connection", "close");
        if let (Some(value), None) = (&self.authorization, wire::find(&request.headers, "authorization")) {
            request = request.header("Authorization", value);
        }
        self.connect()?.exchange(&request)
    }

    /// As [`Self::try_send`], where an I/O error fails the test.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        match self.try_send(request) {
            Ok(response) => response,
            Err(error) => panic!("{} {} at {}: {error}", request.method, request.target, self.address),
        }
    }

    /// GET, accepting every manifest type.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(
            &Request::new("GET", target).header("Accept", crate::oci::ANY_MANIFEST).header("Accept", "*/*"),
        )
    }

    /// HEAD, accepting every manifest type.
    #[track_caller]
    pub fn head(&self, target: &str) -> Response {
        self.send(
            &Request::new("HEAD", target).header("Accept", crate::oci::ANY_MANIFEST).header("Accept", "*/*"),
        )
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, target: &str) -> Response {
        self.send(&Request::new("DELETE", target))
    }

    /// PUT with a content type.
    #[track_caller]
    pub fn put(&self, target: &str, media_type: &str, bytes: &[u8]) -> Response {
        self.send(&Request::new("PUT", target).header("Content-Type", media_type).bytes(bytes))
    }

    /// POST without a body.
    #[track_caller]
    pub fn post(&self, target: &str) -> Response {
        self.send(&Request::new("POST", target).header("Content-Length", "0"))
    }
}
