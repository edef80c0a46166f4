//! Uploads and PUT of manifests (distribution-spec, "Push").

use futures_lite::StreamExt;
use http::{HeaderName, StatusCode, header};

use super::{
    Answer, Call, Registry, RequestBody, Response,
    error::{Code, Failure},
    pull::DIGEST_HEADER,
    range, respond, set,
};
use crate::{
    oci::{Algorithm, Digest, MAX_MANIFEST_BYTES, Manifest, Reference, Tag},
    store::{Put, Sparse, Writer},
};

/// Tags that one request may set.
const MAX_TAGS: usize = 32;

impl Registry {
    /// POST: a mount, a whole blob, or a session.
    pub(super) async fn begin_upload(&self, call: &Call<'_>, body: RequestBody) -> Answer {
        if let Some(digest) = call.query.digest("mount")? {
            // From a repository that is named, or from wherever it is (the specification's anonymous mount).
            let from = call.query.get("from").map(str::parse).transpose();
            let from = from.map_err(|e| Failure::new(Code::NameInvalid, &format!("{e}")))?;
            let there = from.map_or(Ok(true), |repository| self.store.is_linked(&repository, &digest))?;
            if there && self.store.mount(&call.repository, &digest).await? {
                return Ok(self.created(call, &digest));
            }
        }
        let whole = call.query.digest("digest")?;
        let algorithm = match (&whole, call.query.get("digest-algorithm")) {
            (Some(digest), _) => digest.algorithm(),
            (None, Some(name)) => Algorithm::from_name(name)
                .ok_or_else(|| Failure::new(Code::DigestInvalid, "that digest algorithm is not supported"))?,
            (None, None) => Algorithm::Sha256,
        };
        let mut writer = self.store.begin_upload(&call.repository, algorithm).await?;
        let Some(digest) = whole else {
            return Ok(session(StatusCode::ACCEPTED, call, writer.id(), 0));
        };
        match self.receive(&mut writer, body, None).await {
            Ok(()) => self.commit(call, writer, &digest).await,
            Err(failure) => {
                writer.discard("the request was cut");
                Err(failure)
            }
        }
    }

    /// GET: how far it is.
    pub(super) async fn upload_status(&self, call: &Call<'_>, id: &str) -> Answer {
        let writer = self.store.resume_upload(&call.repository, id).await?;
        Ok(session(StatusCode::NO_CONTENT, call, id, writer.offset()))
    }

    /// PATCH: a chunk that says where it goes, or a stream that goes on where the last ended.
    pub(super) async fn patch_upload(&self, call: &Call<'_>, id: &str, body: RequestBody) -> Answer {
        let mut writer = self.store.resume_upload(&call.repository, id).await?;
        let chunk = chunk_length(call, &writer, &body)?;
        let received = self.receive(&mut writer, body, chunk).await;
        // Also of a request that was cut: what came is kept, and the client can ask how far it is.
        let offset = writer.checkpoint().await?;
        received?;
        Ok(session(StatusCode::ACCEPTED, call, id, offset))
    }

    /// PUT: the rest, if any, and the digest of the whole.
    pub(super) async fn finish_upload(&self, call: &Call<'_>, id: &str, body: RequestBody) -> Answer {
        let Some(digest) = call.query.digest("digest")? else {
            return Err(Failure::new(Code::DigestInvalid, "the parameter digest is missing"));
        };
        let mut writer = self.store.resume_upload(&call.repository, id).await?;
        let chunk = chunk_length(call, &writer, &body)?;
        if let Err(failure) = self.receive(&mut writer, body, chunk).await {
            writer.checkpoint().await?;
            return Err(failure);
        }
        self.commit(call, writer, &digest).await
    }

    /// DELETE: thrown away.
    pub(super) async fn cancel_upload(&self, call: &Call<'_>, id: &str) -> Answer {
        self.store.resume_upload(&call.repository, id).await?.discard("cancelled");
        Ok(respond(StatusCode::NO_CONTENT))
    }

    async fn receive(
        &self,
        writer: &mut Writer,
        mut body: RequestBody,
        chunk: Option<u64>,
    ) -> Result<(), Failure> {
        if let Some(length) = body.length {
            writer.reserve(length).await?;
        }
        let before = writer.offset();
        while let Some(piece) = body.stream.next().await {
            let piece = piece.map_err(|e| {
                Failure::new(Code::BlobUploadInvalid, &format!("the request's body was cut: {e}"))
            })?;
            self.metrics.received(piece.len() as u64);
            if chunk.is_some_and(|n| writer.offset() - before + piece.len() as u64 > n) {
                return Err(Failure::new(Code::SizeInvalid, "the body is longer than its Content-Range"));
            }
            writer.append(piece).await?;
        }
        match chunk.is_some_and(|n| writer.offset() - before != n) {
            true => Err(Failure::new(Code::SizeInvalid, "the body is shorter than its Content-Range")),
            false => Ok(()),
        }
    }

    async fn commit(&self, call: &Call<'_>, writer: Writer, digest: &Digest) -> Answer {
        writer.commit(digest).await?;
        Ok(self.created(call, digest))
    }

    fn created(&self, call: &Call<'_>, digest: &Digest) -> Response {
        let mut response = respond(StatusCode::CREATED);
        set(&mut response, header::LOCATION, format!("/v2/{}/blobs/{digest}", call.repository));
        set(&mut response, DIGEST_HEADER, digest.as_str());
        response
    }

    /// PUT of a manifest by tag, or by digest with tags as parameters.
    pub(super) async fn put_manifest(
        &self,
        call: &Call<'_>,
        reference: &Reference,
        body: RequestBody,
    ) -> Answer {
        let raw = body
            .read_to_limit(MAX_MANIFEST_BYTES)
            .await
            .map_err(|e| Failure::new(Code::ManifestInvalid, &format!("the request's body was cut: {e}")))?
            .ok_or_else(|| {
                Failure::new(Code::ManifestInvalid, "a manifest has 4 MiB at most")
                    .status(StatusCode::PAYLOAD_TOO_LARGE)
            })?;
        let declared = call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(_) => Digest::sha256(&raw),
        };
        let actual = Digest::of(digest.algorithm(), &raw);
        if actual != digest {
            return Err(crate::store::Error::DigestMismatch { expected: digest, actual }.into());
        }
        let manifest = Manifest::parse(raw, declared).map_err(crate::store::Error::from)?;
        let mut tags: Vec<Tag> = Vec::new();
        if let Reference::Tag(tag) = reference {
            tags.push(tag.clone());
        }
        for text in call.query.all("tag") {
            tags.push(text.parse().map_err(|e| Failure::new(Code::ManifestInvalid, &format!("{e}")))?);
        }
        if tags.len() > MAX_TAGS {
            return Err(Failure::new(Code::ManifestInvalid, "more than 32 tags in one request"));
        }
        let subject = manifest.subject.as_ref().map(|s| s.digest.clone());
        let missing = manifest.children.len();
        let put = Put {
            tags: tags.clone(),
            sparse: if self.settings.sparse { Sparse::Anything } else { Sparse::Nothing },
            ..Put::default()
        };
        self.store.put_manifest(&call.repository, &digest, manifest, put).await?;
        let mut response = respond(StatusCode::CREATED);
        set(&mut response, header::LOCATION, format!("/v2/{}/manifests/{digest}", call.repository));
        set(&mut response, DIGEST_HEADER, digest.as_str());
        if let Some(subject) = subject {
            set(&mut response, HeaderName::from_static("oci-subject"), subject.as_str());
        }
        if self.settings.sparse && missing > 0 {
            // RFC 9111 §5.5 and distribution-spec, "Warnings".
            set(
                &mut response,
                header::WARNING,
                "299 - \"this registry accepts indexes whose manifests are not all here\"",
            );
        }
        for tag in tags.iter().filter(|_| matches!(reference, Reference::Digest(_))) {
            if let Ok(value) = http::HeaderValue::from_str(tag.as_str()) {
                response.headers_mut().append(HeaderName::from_static("oci-tag"), value);
            }
        }
        Ok(response)
    }
}

/// Checks where a chunk goes, and gives its length. Without `Content-Range` it is a stream and goes on at the end.
fn chunk_length(call: &Call<'_>, writer: &Writer, body: &RequestBody) -> Result<Option<u64>, Failure> {
    let Some(header) = call.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let (first, last) = header
        .to_str()
        .ok()
        .and_then(range::chunk)
        .ok_or_else(|| Failure::new(Code::BlobUploadInvalid, "Content-Range is not FIRST-LAST"))?;
    let at = writer.offset();
    if first != at {
        let failure =
            Failure::from(crate::store::Error::UploadOffset { id: writer.id().into(), at, given: first });
        return Err(failure
            .header(header::LOCATION, location(call, writer.id()))
            .header(header::RANGE, held(at)));
    }
    let length = last - first + 1;
    if body.length.is_some_and(|n| n != length) {
        return Err(Failure::new(Code::SizeInvalid, "Content-Length is not that of Content-Range"));
    }
    Ok(Some(length))
}

fn location(call: &Call<'_>, id: &str) -> String {
    format!("/v2/{}/blobs/uploads/{id}", call.repository)
}

/// The `Range` header of a session; the specification has no form for nothing, and everybody says `0-0`.
fn held(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn session(status: StatusCode, call: &Call<'_>, id: &str, offset: u64) -> Response {
    let mut response = respond(status);
    set(&mut response, header::LOCATION, location(call, id));
    set(&mut response, header::RANGE, held(offset));
    set(&mut response, HeaderName::from_static("docker-upload-uuid"), id);
    response
}
