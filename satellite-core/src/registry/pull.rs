//! GET and HEAD of manifests and blobs (distribution-spec, "Pull").

use http::{StatusCode, header};

use super::{
    Answer, Call, Registry, ResponseBody,
    error::{Code, Failure},
    range::{self, Wanted},
    respond, set, with_bytes,
};
use crate::oci::{Digest, Manifest, Reference, media_type};

pub(super) const DIGEST_HEADER: http::HeaderName = http::HeaderName::from_static("docker-content-digest");

impl Registry {
    pub(super) fn get_manifest(&self, call: &Call<'_>, reference: &Reference) -> Answer {
        let unknown = || {
            Failure::new(Code::ManifestUnknown, &format!("{} has no manifest {reference}", call.repository))
                .detail(
                    serde_json::json!({"name": call.repository.as_str(), "reference": reference.to_string()}),
                )
        };
        let info = self.store.manifest(&call.repository, reference)?.ok_or_else(unknown)?;
        if not_modified(call, &info.digest) {
            let mut response = respond(StatusCode::NOT_MODIFIED);
            set(&mut response, header::ETAG, format!("\"{}\"", info.digest));
            set(&mut response, DIGEST_HEADER, info.digest.as_str());
            return Ok(response);
        }
        let raw = self.store.manifest_bytes(&info)?.ok_or_else(unknown)?;
        // A client that starts on an image and misses a blob fails, where one that misses the manifest falls back.
        if !self.settings.sparse {
            let manifest =
                Manifest::parse(raw.clone(), Some(&info.media_type)).map_err(crate::store::Error::from)?;
            for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
                if self.store.blob_size(&blob.digest)? != Some(blob.size) {
                    log::warn!(
                        "{}@{} is not served: {} is missing or damaged",
                        call.repository,
                        info.digest,
                        blob.digest
                    );
                    return Err(unknown());
                }
            }
        }
        // What was just asked for is not collected while it is being pulled, should its tag move meanwhile.
        self.store.touch(&info.digest);
        let mut response = with_bytes(&info.media_type, raw);
        set(&mut response, DIGEST_HEADER, info.digest.as_str());
        set(&mut response, header::ETAG, format!("\"{}\"", info.digest));
        if let Reference::Digest(_) = reference {
            set(&mut response, header::CACHE_CONTROL, "max-age=31536000, immutable");
        }
        Ok(response)
    }

    pub(super) fn get_blob(&self, call: &Call<'_>, digest: &Digest) -> Answer {
        let unknown = || {
            Failure::new(Code::BlobUnknown, &format!("{} has no blob {digest}", call.repository))
                .detail(serde_json::json!({"digest": digest.as_str()}))
        };
        if !self.store.is_linked(&call.repository, digest)? {
            return Err(unknown());
        }
        if call.method == http::Method::HEAD {
            // A pusher that is told that the blob is here will build on it. First: a collection that has not removed
            // it yet then keeps it.
            self.store.touch(digest);
        }
        let blob = self.store.open_blob(digest)?.ok_or_else(unknown)?;
        let etag = format!("\"{digest}\"");
        if not_modified(call, digest) {
            let mut response = respond(StatusCode::NOT_MODIFIED);
            set(&mut response, header::ETAG, etag);
            return Ok(response);
        }
        let header_text = |name| call.headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
        // If-Range with another name than this one's means: the whole (RFC 9110 §13.1.5).
        let same = header_text(header::IF_RANGE).is_none_or(|v| v == etag);
        let wanted = match header_text(header::RANGE).filter(|_| same) {
            Some(header) => range::wanted(header, blob.size),
            None => Wanted::Whole,
        };
        let (status, offset, len) = match wanted {
            Wanted::Whole => (StatusCode::OK, 0, blob.size),
            Wanted::Part(offset, len) => (StatusCode::PARTIAL_CONTENT, offset, len),
            Wanted::Outside => {
                return Err(Failure::new(Code::SizeInvalid, "the range is not within the blob")
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(header::CONTENT_RANGE, format!("bytes */{}", blob.size)));
            }
        };
        let mut response = respond(status);
        *response.body_mut() = ResponseBody::File { file: blob.file, offset, len };
        if status == StatusCode::PARTIAL_CONTENT {
            set(
                &mut response,
                header::CONTENT_RANGE,
                format!("bytes {offset}-{}/{}", offset + len - 1, blob.size),
            );
        }
        set(&mut response, header::CONTENT_TYPE, media_type::OCTET_STREAM);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::CACHE_CONTROL, "max-age=31536000, immutable");
        set(&mut response, header::ETAG, etag);
        set(&mut response, DIGEST_HEADER, digest.as_str());
        Ok(response)
    }
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
