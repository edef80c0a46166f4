//! GET and HEAD of manifests and blobs (distribution-spec, "Pull").

use futures_lite::{StreamExt, stream};
use http::{StatusCode, header};

use super::{
    Answer, Call, Found, Registry, Response, ResponseBody,
    error::{Code, Failure},
    range::{self, Wanted},
    respond, set, with_bytes,
};
use crate::{
    net::message::ByteStream,
    oci::{Digest, Reference, media_type},
    store::ManifestInfo,
};

pub(super) const DIGEST_HEADER: http::HeaderName = http::HeaderName::from_static("docker-content-digest");

impl Registry {
    pub(super) async fn get_manifest(&self, call: &Call<'_>, reference: &Reference) -> Answer {
        let unknown = || {
            Failure::new(Code::ManifestUnknown, &format!("{} has no manifest {reference}", call.repository))
                .detail(
                    serde_json::json!({"name": call.repository.as_str(), "reference": reference.to_string()}),
                )
        };
        let mut local = self.local(call, reference)?;
        if let Some(info) = local.as_ref().filter(|info| not_modified(call, &info.digest)) {
            return Ok(unchanged(&info.digest));
        }
        // A client that starts on an image and misses a blob fails, where one that misses the manifest falls back.
        if let Some(info) = &local
            && !self.settings.sparse
            && let Some(missing) = self.missing_of(info).await?
        {
            if self.upstream.is_none() {
                log::warn!(
                    "{}@{} is not served: {missing} is missing or damaged",
                    call.repository,
                    info.digest
                );
            }
            local = None;
        }
        if local.is_none()
            && let Some(upstream) = &self.upstream
        {
            let whole = call.method == http::Method::GET && !self.settings.sparse;
            local = upstream.manifest(call.host.as_deref(), &call.repository, reference, whole).await;
            if let Some(info) = local.as_ref().filter(|info| not_modified(call, &info.digest)) {
                return Ok(unchanged(&info.digest));
            }
        }
        let info = local.ok_or_else(unknown)?;
        let known = self.store.known_manifest(&info).await?.ok_or_else(unknown)?;
        // What was just asked for is not collected while it is being pulled, should its tag move meanwhile.
        self.store.touch(&info.digest);
        self.store.used(&call.repository, &info.digest)?;
        let mut response = with_bytes(&info.media_type, known.raw.clone());
        set(&mut response, DIGEST_HEADER, info.digest.as_str());
        set(&mut response, header::ETAG, format!("\"{}\"", info.digest));
        if let Reference::Digest(_) = reference {
            set(&mut response, header::CACHE_CONTROL, "max-age=31536000, immutable");
        }
        Ok(response)
    }

    /// The store's own manifest for a reference. Tags that an upstream has to be asked for are not among them.
    fn local(&self, call: &Call<'_>, reference: &Reference) -> Result<Option<ManifestInfo>, Failure> {
        if let (Reference::Tag(tag), Some(host)) = (reference, &call.host) {
            let origins = self.store.tag(&call.repository, tag)?.map(|t| t.origins).unwrap_or_default();
            if !origins.is_empty() && !origins.contains(host) {
                return Ok(None);
            }
        }
        Ok(self.store.manifest(&call.repository, reference)?)
    }

    /// A blob that a manifest names and the store does not have whole; the manifest itself if that is so of it.
    async fn missing_of(&self, info: &ManifestInfo) -> Result<Option<Digest>, Failure> {
        let Some(known) = self.store.known_manifest(info).await? else {
            return Ok(Some(info.digest.clone()));
        };
        Ok(self.store.missing_of(&known)?)
    }

    pub(super) async fn get_blob(&self, call: &Call<'_>, digest: &Digest) -> Answer {
        let unknown = || {
            Failure::new(Code::BlobUnknown, &format!("{} has no blob {digest}", call.repository))
                .detail(serde_json::json!({"digest": digest.as_str()}))
        };
        let mut found = None;
        if let Some(size) = self.store.linked(&call.repository, digest)? {
            if call.method == http::Method::HEAD {
                // A pusher that is told that the blob is here will build on it. First: a collection that has not
                // removed it yet then keeps it.
                self.store.touch(digest);
            }
            found = match self.store.open_blob(digest)? {
                // Said before it is seen, a length cannot be taken back.
                Some(blob) if size.is_some_and(|size| size != blob.size) => {
                    self.store.set_aside(&blob, digest).await?;
                    None
                }
                other => other.map(Found::Here),
            };
        }
        if found.is_none()
            && let Some(upstream) = &self.upstream
        {
            let body = call.method == http::Method::GET;
            found = upstream.blob(call.host.as_deref(), &call.repository, digest, body).await;
        }
        let found = found.ok_or_else(unknown)?;
        if not_modified(call, digest) {
            return Ok(unchanged(digest));
        }
        let size = match &found {
            Found::Here(blob) => blob.size,
            Found::Coming { size, .. } | Found::There(size) => *size,
        };
        let etag = format!("\"{digest}\"");
        let header_text = |name| call.headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
        // If-Range with another name than this one's means: the whole (RFC 9110 §13.1.5).
        let same = header_text(header::IF_RANGE).is_none_or(|v| v == etag);
        let wanted = match header_text(header::RANGE).filter(|_| same) {
            Some(header) => range::wanted(header, size),
            None => Wanted::Whole,
        };
        let (status, offset, len) = match wanted {
            Wanted::Whole => (StatusCode::OK, 0, size),
            Wanted::Part(offset, len) => (StatusCode::PARTIAL_CONTENT, offset, len),
            Wanted::Outside => {
                return Err(Failure::new(Code::SizeInvalid, "the range is not within the blob")
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(header::CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        let mut response = respond(status);
        *response.body_mut() = match found {
            Found::Here(blob) => ResponseBody::File { file: blob.file, offset, len },
            Found::Coming { arrival, .. } => {
                ResponseBody::Stream { len: Some(len), stream: first_of(arrival.follow(offset), len) }
            }
            // Only HEAD is answered so, and gets no body.
            Found::There(_) => ResponseBody::Empty,
        };
        if let ResponseBody::Empty = response.body() {
            response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
        }
        if status == StatusCode::PARTIAL_CONTENT {
            set(&mut response, header::CONTENT_RANGE, format!("bytes {offset}-{}/{size}", offset + len - 1));
        }
        set(&mut response, header::CONTENT_TYPE, media_type::OCTET_STREAM);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::CACHE_CONTROL, "max-age=31536000, immutable");
        set(&mut response, header::ETAG, etag);
        set(&mut response, DIGEST_HEADER, digest.as_str());
        Ok(response)
    }
}

/// 304 for what has this name.
fn unchanged(digest: &Digest) -> Response {
    let mut response = respond(StatusCode::NOT_MODIFIED);
    set(&mut response, header::ETAG, format!("\"{digest}\""));
    set(&mut response, DIGEST_HEADER, digest.as_str());
    response
}

/// The first `len` bytes of a stream.
fn first_of(stream: ByteStream, len: u64) -> ByteStream {
    Box::pin(stream::try_unfold((stream, len), |(mut stream, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut piece) = stream.try_next().await? else { return Ok(None) };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (stream, left))))
    }))
}

/// Whether `If-None-Match` has the digest, in any of the forms that clients send.
fn not_modified(call: &Call<'_>, digest: &Digest) -> bool {
    let lines = call.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest.as_str()
    })
}
