//! Requests as they came, and answers in Harbor's form.

use crate::http::wire::find;
use serde_json::{Value, json};

/// A request with its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// As sent.
    pub(super) target: String,
    /// Decoded once, as Harbor's front does.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// False if the connection ended before the body did.
    pub(super) whole: bool,
}

impl Request {
    pub(super) fn new(method: &str, target: &str, headers: Vec<(String, String)>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
            .collect();
        Self {
            method: method.into(),
            target: target.into(),
            path: decode(path),
            query,
            headers,
            body: Vec::new(),
            whole: true,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// All header lines of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie")?.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }

    pub(super) fn writes(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// `HOST:PORT` as the client knows it.
    pub(super) fn host(&self) -> &str {
        self.header("host").unwrap_or("localhost")
    }
}

/// Undoes percent-encoding, once.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, pair.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether `sid` is set by it; most answers do.
    pub(super) cookie: bool,
    /// From the front: without any of Harbor's own headers.
    pub(super) front: bool,
}

/// What every part of the registry says.
pub(super) const VERSION: (&str, &str) = ("Docker-Distribution-Api-Version", "registry/2.0");
const JSON: &str = "application/json";
const JSON_UTF8: &str = "application/json; charset=utf-8";

impl Reply {
    /// No body, no content type.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cookie: true, front: false }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::empty(200).header("Content-Type", JSON).bytes(format!("{body}\n").into_bytes())
    }

    /// As the token service and the registry write it.
    pub(super) fn json_utf8(body: &Value) -> Self {
        Self::empty(200).header("Content-Type", JSON_UTF8).bytes(body.to_string().into_bytes())
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]});
        Self::empty(status).header("Content-Type", JSON_UTF8).bytes(format!("{body}\n").into_bytes())
    }

    /// An error of the registry behind, with its detail.
    pub(super) fn registry_error(status: u16, code: &str, message: &str, detail: &Value) -> Self {
        let body = json!({"errors": [{"code": code, "message": message, "detail": detail}]});
        let reply = Self::empty(status).header("Content-Type", JSON_UTF8);
        reply.header(VERSION.0, VERSION.1).bytes(body.to_string().into_bytes())
    }

    pub(super) fn text(status: u16, text: &str) -> Self {
        let reply = Self::empty(status).header("Content-Type", "text/plain; charset=utf-8");
        reply.bytes(text.as_bytes().to_vec())
    }

    /// A page of the front.
    pub(super) fn html(status: u16, reason: &str) -> Self {
        let text = format!(
            "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1></center>\r\n\
             <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        let reply = Self::empty(status).header("Content-Type", "text/html").bytes(text.into_bytes());
        Self { front: true, cookie: false, ..reply }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With the registry's version header.
    pub(super) fn versioned(self) -> Self {
        self.header(VERSION.0, VERSION.1)
    }

    pub(super) fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.body = bytes;
        self
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn without_cookie(mut self) -> Self {
        self.cookie = false;
        self
    }
}
