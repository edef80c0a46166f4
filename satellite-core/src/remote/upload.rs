//! Pushing blobs (OCI Distribution 1.1, "Pushing blobs"), and mounting them from another repository.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    sync::Mutex,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_lite::Stream;
use surf::http::Method;
use url::Url;

use super::{Error, Registry, Result, call::Call, scope::Scopes, wire::Reply};
use crate::{
    net::message::ByteStream,
    oci::{Digest, Repository},
};

/// How a blob is pushed.
#[derive(Debug, Default)]
pub struct UploadOptions {
    /// Bytes per request. `None`: all in one, which is what Harbor does best; a proxy with a limit on bodies may want
    /// less.
    pub chunk_size: Option<u64>,
    /// A session that [`Registry::mount`] left open; used for the first try.
    pub session: Option<UploadSession>,
}

/// A push that the registry has begun. Its address is as good as a password for it, so it does not show.
pub struct UploadSession {
    location: Url,
    /// `OCI-Chunk-Min-Length`.
    min_chunk: u64,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadSession")
    }
}

/// What came of a mount.
#[derive(Debug)]
pub enum Mounted {
    /// The blob is in the repository now.
    Done,
    /// It has to be pushed, for example with this session.
    Session(UploadSession),
}

/// Where the registry stands after a chunk.
struct Progress {
    location: Url,
    offset: u64,
}

impl Registry {
    /// Takes over a blob that the registry has in another repository, without moving bytes ("Mounting a blob from
    /// another repository"). Where that is refused a push is begun, so that the caller need not care.
    pub async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mounted> {
        let path = format!("{repository}/blobs/uploads/?mount={digest}&from={from}");
        let scopes = Scopes::push(repository).and(from, &["pull"]);
        let mut call = self.call(Method::Post, &path, &format!("{repository}@{digest}"), scopes);
        call.believe_late = false;
        match self.run_for(&call, &[201, 202]).await {
            Ok(reply) if reply.status == 201 => {
                reply.drain().await;
                Ok(Mounted::Done)
            }
            Ok(reply) => self.session(reply).await.map(Mounted::Session),
            // Harbor says 401 where the source may not be read, others 403, 404 or 405.
            Err(error) if matches!(error.status(), Some(400..=405)) => {
                self.begin_upload(repository, digest).await.map(Mounted::Session)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a push.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] also where the repository's project does not exist (Harbor).
    pub async fn begin_upload(&self, repository: &Repository, digest: &Digest) -> Result<UploadSession> {
        let path = format!("{repository}/blobs/uploads/");
        let object = format!("{repository}@{digest}");
        let call = self.call(Method::Post, &path, &object, Scopes::push(repository));
        let reply = self.run_for(&call, &[202]).await?;
        self.session(reply).await
    }

    /// Gives a session up, so that the registry need not keep what it holds.
    pub async fn cancel_upload(&self, repository: &Repository, session: UploadSession) -> Result<()> {
        let call =
            self.call_url(Method::Delete, session.location, repository.as_str(), Scopes::push(repository));
        self.delete(call).await.map(drop)
    }

    /// Pushes the `size` bytes of a blob. `source` gives them from an offset on; it is asked again for every try and
    /// every chunk. Whether the blob is there already is not asked first: see [`head_blob`](Self::head_blob).
    ///
    /// A push that broke off goes on where the registry says it stands, or starts anew where it has forgotten
    /// (Harbor forgets whatever was cut).
    ///
    /// # Errors
    /// [`Error::Source`] if the bytes cannot be read; [`Error::Status`] 400 `DIGEST_INVALID` if they are others than
    /// the digest's, 403 `DENIED` for a quota.
    pub async fn upload_blob<S, F>(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        mut source: S,
        options: UploadOptions,
    ) -> Result<()>
    where
        S: FnMut(u64) -> F + Send,
        F: Future<Output = io::Result<ByteStream>> + Send,
    {
        let UploadOptions { chunk_size, mut session } = options;
        let blob = Blob { repository, digest, size, object: format!("{repository}@{digest}") };
        let mut attempts = self.attempts();
        loop {
            match self.try_upload(&blob, &mut source, chunk_size, session.take()).await {
                Ok(()) => return Ok(()),
                // A session that is gone, or stands elsewhere than we thought.
                Err(error) if matches!(error.status(), Some(404 | 416)) => {
                    let restart = Error::Status {
                        host: self.host().into(),
                        object: blob.object.clone(),
                        status: 503,
                        code: None,
                        message: format!("the upload was lost: {error}"),
                        retry_after: None,
                    };
                    attempts.wait(restart).await.map_err(|_| error)?;
                }
                Err(error) => attempts.wait(error).await?,
            }
            // The bytes may have arrived and only the answer not: sending gigabytes again would be a pity.
            if matches!(self.head_blob(repository, digest).await, Ok(Some(there)) if there == size) {
                return Ok(());
            }
        }
    }

    async fn try_upload<S, F>(
        &self,
        blob: &Blob<'_>,
        source: &mut S,
        chunk_size: Option<u64>,
        session: Option<UploadSession>,
    ) -> Result<()>
    where
        S: FnMut(u64) -> F + Send,
        F: Future<Output = io::Result<ByteStream>> + Send,
    {
        let session = match session {
            Some(session) => session,
            None => self.begin_upload(blob.repository, blob.digest).await?,
        };
        let Some(chunk) = chunk_size.map(|c| c.max(session.min_chunk).max(1)).filter(|c| *c < blob.size)
        else {
            let call = self.closing(blob, session.location);
            let reply = self.send_stream(&call, blob, 0, blob.size, source).await?;
            return closed(reply).await;
        };
        let mut at = Progress { location: session.location, offset: 0 };
        let mut attempts = self.attempts();
        while at.offset < blob.size {
            let length = chunk.min(blob.size - at.offset);
            at = match self.send_chunk(blob, &at, length, source).await {
                Ok(next) => next,
                Err(error) if error.is_retryable() => {
                    attempts.wait(error).await?;
                    self.progress(blob, &at).await?
                }
                Err(error) => return Err(error),
            };
        }
        let reply = self.try_for(&self.closing(blob, at.location), &[200, 201, 204]).await?;
        closed(reply).await
    }

    fn closing(&self, blob: &Blob<'_>, mut location: Url) -> Call {
        // Written by hand: the query that is there may be signed and must stay as it is.
        let query = location.query().filter(|q| !q.is_empty()).map(|q| format!("{q}&")).unwrap_or_default();
        location.set_query(Some(&format!("{query}digest={}", blob.digest)));
        let mut call = self.call_url(Method::Put, location, &blob.object, Scopes::push(blob.repository));
        call.patience = Some(self.0.options.commit_timeout);
        call.header("content-type", "application/octet-stream")
    }

    async fn send_chunk<S, F>(
        &self,
        blob: &Blob<'_>,
        at: &Progress,
        length: u64,
        source: &mut S,
    ) -> Result<Progress>
    where
        S: FnMut(u64) -> F + Send,
        F: Future<Output = io::Result<ByteStream>> + Send,
    {
        let end = at.offset + length;
        let call = self
            .call_url(Method::Patch, at.location.clone(), &blob.object, Scopes::push(blob.repository))
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{}-{}", at.offset, end - 1));
        let reply = self.send_stream(&call, blob, at.offset, length, source).await?;
        if !matches!(reply.status, 201 | 202 | 204) {
            return Err(reply.refusal().await);
        }
        let offset = received(&reply).unwrap_or(end);
        if offset > end || offset <= at.offset {
            return Err(reply.protocol(format!("sent bytes {}-{}, it has {offset}", at.offset, end - 1)));
        }
        let location = self.location(&reply)?;
        reply.drain().await;
        Ok(Progress { location, offset })
    }

    /// Asks where a push stands ("Getting the upload status").
    async fn progress(&self, blob: &Blob<'_>, at: &Progress) -> Result<Progress> {
        let scopes = Scopes::push(blob.repository);
        let call = self.call_url(Method::Get, at.location.clone(), &blob.object, scopes);
        let reply = self.run_for(&call, &[200, 202, 204]).await?;
        let offset = match received(&reply) {
            // `0-0` is what registries say for nothing as well as for one byte.
            None | Some(1) => 0,
            Some(offset) if offset <= blob.size => offset,
            Some(offset) => return Err(reply.protocol(format!("it has {offset} bytes of {}", blob.size))),
        };
        let location = self.location(&reply).unwrap_or_else(|_| at.location.clone());
        reply.drain().await;
        Ok(Progress { location, offset })
    }

    /// Sends bytes of the source as a request's body, again from the source if the registry wants to know first who
    /// we are.
    async fn send_stream<S, F>(
        &self,
        call: &Call,
        blob: &Blob<'_>,
        offset: u64,
        length: u64,
        source: &mut S,
    ) -> Result<Reply>
    where
        S: FnMut(u64) -> F + Send,
        F: Future<Output = io::Result<ByteStream>> + Send,
    {
        let unreadable = |cause| Error::Source { object: blob.object.clone(), cause };
        let mut login = self.login(call).await?;
        loop {
            let failed = Arc::new(Mutex::new(None));
            let inner = source(offset).await.map_err(unreadable)?;
            let part: ByteStream = Box::pin(Part { inner, left: length, failed: failed.clone() });
            let result = self.once(call, login.header(), Some((part, Some(length)))).await;
            // The connection's error would only say that the body failed.
            if let Some(cause) = failed.lock().ok().and_then(|mut f| f.take()) {
                return Err(unreadable(cause));
            }
            if let Some(reply) = self.refused(call, &mut login, result?).await? {
                return Ok(reply);
            }
        }
    }

    async fn session(&self, reply: Reply) -> Result<UploadSession> {
        let location = self.location(&reply)?;
        let min_chunk = reply.header("oci-chunk-min-length").and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        reply.drain().await;
        Ok(UploadSession { location, min_chunk })
    }

    /// `Location`, relative or absolute, its query kept as it is.
    fn location(&self, reply: &Reply) -> Result<Url> {
        let url = reply.header("location").and_then(|l| reply.url.join(l).ok());
        let url = url.filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        url.map(|u| super::keep_tls(&self.0.base, u))
            .ok_or_else(|| reply.protocol("no usable Location for an upload"))
    }
}

struct Blob<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    size: u64,
    object: String,
}

async fn closed(reply: Reply) -> Result<()> {
    if !matches!(reply.status, 200 | 201 | 204) {
        return Err(reply.refusal().await);
    }
    reply.drain().await;
    Ok(())
}

/// Bytes that the registry has, from `Range: 0-<last>`; some write `bytes=0-<last>`.
fn received(reply: &Reply) -> Option<u64> {
    let range = reply.header("range")?.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    (first == "0").then(|| last.parse::<u64>().ok()?.checked_add(1)).flatten()
}

/// The next `left` bytes of a stream. Keeps the error that ended it, and makes one of an early end.
struct Part {
    inner: ByteStream,
    left: u64,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Stream for Part {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let early = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early");
        let cause = match std::task::ready!(self.inner.as_mut().poll_next(cx)) {
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(bytes)));
            }
            Some(Err(cause)) => cause,
            None => early(),
        };
        let kind = cause.kind();
        if let Ok(mut failed) = self.failed.lock() {
            *failed = Some(cause);
        }
        Poll::Ready(Some(Err(io::Error::new(kind, "the source failed"))))
    }
}
