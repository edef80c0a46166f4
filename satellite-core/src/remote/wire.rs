//! One request, one answer, over `surf`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_io::Timer;
use bytes::Bytes;
use futures_lite::{Stream, StreamExt};
use surf::http::{Method, Request, Response};
use url::Url;

use super::{Error, Result, error, retry};
use crate::net::{
    client::{ClientError, Patience, ReceiveStream, SendStream, take_stream},
    message::ByteStream,
};

/// Most bytes of a refusal's body that are read, for its message and so that the connection can be used again.
const MAX_REFUSAL: usize = 64 << 10;

pub(super) struct Wire {
    client: surf::Client,
    user_agent: String,
    stall: Duration,
}

/// A request for one hop.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    /// For errors.
    pub(super) object: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The bytes and, where known, how many.
    pub(super) body: Option<(ByteStream, Option<u64>)>,
    pub(super) patience: Option<Duration>,
}

/// Its answer.
pub(super) struct Reply {
    pub(super) status: u16,
    /// Who answered.
    pub(super) host: String,
    pub(super) object: String,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    response: Response,
    /// The body. It ends with an error when it makes no progress.
    pub(super) body: ByteStream,
}

/// `host` or `host:port`, all of a URL that may be shown.
pub(super) fn host_of(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_string()
}

impl Wire {
    pub(super) fn new(client: surf::Client, user_agent: String, stall: Duration) -> Self {
        Self { client, user_agent, stall }
    }

    /// The only place that sends anything.
    ///
    /// # Errors
    /// [`Error::Transport`], and [`Error::Encoded`] for a body in a coding that was not asked for.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Reply> {
        let (host, object) = (host_of(outgoing.url), outgoing.object.to_string());
        let request = self.request(outgoing).map_err(|what| Error::protocol(&host, &object, what))?;
        let url = request.url().clone();
        let mut response: Response = match self.client.send(request).await {
            Ok(response) => response.into(),
            Err(error) => {
                return Err(match error.downcast::<ClientError>() {
                    Ok(cause) => Error::Transport { host, object, cause: Box::new(cause) },
                    Err(other) => Error::protocol(&host, &object, other.to_string()),
                });
            }
        };
        let inner = take_stream(&mut response).unwrap_or_else(|| {
            let body = response.take_body();
            Box::pin(Copied(body))
        });
        let body = Box::pin(Stalling { inner, timer: Timer::never(), armed: false, limit: self.stall });
        let mut reply = Reply { status: response.status().into(), host, object, url, response, body };
        match reply.header("content-encoding").map(str::trim) {
            None | Some("" | "identity") => Ok(reply),
            // A refusal's status counts, whatever its words are wrapped in.
            Some(_) if reply.status >= 300 => {
                reply.body = Box::pin(futures_lite::stream::empty());
                Ok(reply)
            }
            Some(encoding) => Err(Error::Encoded {
                encoding: error::tidy(encoding, 40),
                host: reply.host,
                object: reply.object,
            }),
        }
    }

    fn request(&self, outgoing: Outgoing<'_>) -> std::result::Result<Request, String> {
        let mut request = Request::new(outgoing.method, outgoing.url.clone());
        let common = [("user-agent", self.user_agent.clone()), ("accept-encoding", "identity".to_string())];
        for (name, value) in common.into_iter().chain(outgoing.headers) {
            // http-types panics on what is not ASCII.
            if !value.is_ascii() {
                return Err(format!("{name} cannot be sent: not ASCII"));
            }
            request.insert_header(name, value);
        }
        if let Some((stream, length)) = outgoing.body {
            request.ext_mut().insert(SendStream::new(stream, length));
        }
        if let Some(patience) = outgoing.patience {
            request.ext_mut().insert(Patience(patience));
        }
        request.ext_mut().insert(ReceiveStream);
        Ok(request)
    }
}

impl Reply {
    /// First value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name)?.get(0).map(|v| v.as_str())
    }

    /// All its values.
    pub(super) fn headers(&self, name: &str) -> Vec<&str> {
        self.response.header(name).map(|all| all.iter().map(|v| v.as_str()).collect()).unwrap_or_default()
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry::parse_retry_after(self.header("retry-after")?, self.header("date"), SystemTime::now())
    }

    pub(super) fn protocol(&self, what: impl Into<String>) -> Error {
        Error::protocol(&self.host, &self.object, what)
    }

    /// The body whole.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit`, [`Error::Body`].
    pub(super) async fn read(&mut self, limit: usize) -> Result<Bytes> {
        let too_large =
            || Error::TooLarge { host: self.host.clone(), object: self.object.clone(), limit, unit: "bytes" };
        if self.length().is_some_and(|n| n > limit as u64) {
            return Err(too_large());
        }
        let mut first: Option<Bytes> = None;
        let mut all = Vec::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece.map_err(|cause| Error::Body {
                host: self.host.clone(),
                object: self.object.clone(),
                cause,
            })?;
            if all.len() + first.as_ref().map_or(0, Bytes::len) + piece.len() > limit {
                return Err(too_large());
            }
            match first.take() {
                // Most bodies come in one piece, which needs no copy.
                None if all.is_empty() => first = Some(piece),
                None => all.extend_from_slice(&piece),
                Some(begin) => {
                    all.reserve(begin.len() + piece.len());
                    all.extend_from_slice(&begin);
                    all.extend_from_slice(&piece);
                }
            }
        }
        Ok(first.unwrap_or_else(|| all.into()))
    }

    /// Reads to the end what is small, so that the connection can serve the next request.
    pub(super) async fn drain(mut self) {
        let _ = self.read(MAX_REFUSAL).await;
    }

    /// The answer as an error, with what the registry said.
    pub(super) async fn refusal(mut self) -> Error {
        let body = self.read(MAX_REFUSAL).await.unwrap_or_default();
        let (code, message) = error::parse_message(&body);
        let retry_after = self.retry_after();
        let Self { status, host, object, .. } = self;
        match status {
            401 => Error::Unauthorized { host, object, message },
            _ => Error::Status { host, object, status, code, message, retry_after },
        }
    }
}

/// A `surf` body of some other backend, copied piece by piece.
struct Copied(surf::Body);

impl Stream for Copied {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use futures_lite::AsyncBufRead as _;
        let mut body = Pin::new(&mut self.0);
        let bytes = match std::task::ready!(body.as_mut().poll_fill_buf(cx)) {
            Ok(bytes) => Bytes::copy_from_slice(bytes),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        body.consume(bytes.len());
        Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
    }
}

/// Fails when nothing comes for `limit`. How long the whole takes does not matter, and the timer costs nothing while
/// bytes are there.
struct Stalling {
    inner: ByteStream,
    timer: Timer,
    armed: bool,
    limit: Duration,
}

impl Stream for Stalling {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(item) = this.inner.as_mut().poll_next(cx) {
            this.armed = false;
            return Poll::Ready(item);
        }
        if !this.armed {
            this.timer.set_after(this.limit);
            this.armed = true;
        }
        if Pin::new(&mut this.timer).poll_next(cx).is_ready() {
            let text = format!("no byte for {} s", this.limit.as_secs_f32());
            // Drops the connection: whatever comes late is not wanted.
            this.inner = Box::pin(futures_lite::stream::empty());
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, text))));
        }
        Poll::Pending
    }
}
