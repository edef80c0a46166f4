//! Blobs and uploads.

use super::super::login::random;
use super::super::message::Reply;
use super::super::state::Upload;
use super::{Answer, Call, is_digest};
use crate::oci;
use serde_json::{Value, json};
use std::sync::Arc;

impl Call<'_> {
    pub(super) fn blob(&mut self, digest: &str) -> Answer {
        match self.request.method.as_str() {
            "GET" | "HEAD" => self.get_blob(digest),
            // Really: also of one that a manifest names.
            "DELETE" => {
                self.behind()?;
                let there =
                    self.state.repositories.get_mut(&self.name).is_some_and(|r| r.blobs.remove(digest));
                if there { Ok(Reply::empty(202).versioned()) } else { Err(unknown_blob(digest)) }
            }
            _ => Err(Reply::error(405, "UNSUPPORTED", "the operation is unsupported")),
        }
    }

    fn get_blob(&self, digest: &str) -> Answer {
        // Core looks for the repository first when it is asked by HEAD.
        let repository = self.state.repositories.get(&self.name);
        if self.request.method == "HEAD" && repository.is_none() && !self.deaf {
            return Err(self.no_repository());
        }
        self.behind()?;
        if !is_digest(digest) {
            let text = "provided digest did not match uploaded content";
            return Err(Reply::registry_error(400, "DIGEST_INVALID", text, &json!({})));
        }
        let linked = repository.filter(|r| r.blobs.contains(digest));
        let bytes = linked.and_then(|_| self.state.blobs.get(digest)).ok_or_else(|| unknown_blob(digest))?;
        let etag = format!("\"{digest}\"");
        let fresh = |reply: Reply| {
            reply
                .header("Cache-Control", "max-age=31536000")
                .header("Docker-Content-Digest", digest)
                .versioned()
                .header("Etag", &etag)
        };
        if self.request.header("if-none-match") == Some(etag.as_str()) {
            return Ok(fresh(Reply::empty(304)));
        }
        let whole = |reply: Reply| {
            fresh(reply).header("Content-Type", "application/octet-stream").header("Accept-Ranges", "bytes")
        };
        let Some(range) = self.request.header("range").and_then(|value| value.strip_prefix("bytes=")) else {
            return Ok(whole(Reply::empty(200)).bytes(bytes.to_vec()));
        };
        let length = bytes.len();
        let (first, last) = range.split_once('-').unwrap_or((range, ""));
        let first: usize = first.parse().unwrap_or(0);
        let last = last.parse().unwrap_or(usize::MAX).min(length.saturating_sub(1));
        if first >= length || first > last {
            let reply = fresh(Reply::text(416, "invalid range: failed to overlap\n"));
            let reply = reply.header("Content-Range", &format!("bytes */{length}"));
            return Ok(reply.header("X-Content-Type-Options", "nosniff"));
        }
        let reply =
            whole(Reply::empty(206)).header("Content-Range", &format!("bytes {first}-{last}/{length}"));
        Ok(reply.bytes(bytes[first..=last].to_vec()))
    }

    pub(super) fn begin_upload(&mut self) -> Answer {
        if self.request.method != "POST" {
            return Err(Reply::error(405, "UNSUPPORTED", "the operation is unsupported"));
        }
        self.behind()?;
        if let (Some(digest), Some(from)) = (self.request.query("mount"), self.request.query("from")) {
            let there = self.state.repositories.get(from).is_some_and(|r| r.blobs.contains(digest));
            if there {
                self.state.repository_mut(&self.name).blobs.insert(digest.into());
                return Ok(self.stored("blobs", digest));
            }
        }
        // `?digest=` in one is not understood: a session is begun.
        let id = uuid();
        let upload = Upload { repository: self.name.clone(), bytes: Vec::new(), state: random(40) };
        let reply = self.session(202, &id, &upload);
        self.state.uploads.insert(id, upload);
        Ok(reply)
    }

    pub(super) fn upload(&mut self, id: &str) -> Answer {
        let method = self.request.method.clone();
        if method == "PUT" && self.request.query("digest").is_none() {
            return Err(Reply::error(400, "BAD_REQUEST", "exist blob require digest"));
        }
        self.behind()?;
        let Some(mut upload) = self.state.uploads.remove(id).filter(|u| u.repository == self.name) else {
            let text = "blob upload unknown to registry";
            return Err(Reply::registry_error(404, "BLOB_UPLOAD_UNKNOWN", text, &json!({})));
        };
        // The address carries the offset: one from before the last bytes is worthless, and the upload with it.
        if self.request.query("_state") != Some(upload.state.as_str()) {
            self.state.uploads.insert(id.into(), upload);
            return Err(Reply::registry_error(404, "BLOB_UPLOAD_INVALID", "blob upload invalid", &json!({})));
        }
        match method.as_str() {
            "DELETE" => return Ok(Reply::empty(204).versioned().header("Docker-Upload-Uuid", id)),
            "PUT" => return self.finish(upload),
            "PATCH" => {
                // `Content-Range` is not looked at.
                upload.bytes.extend_from_slice(&self.request.body);
                upload.state = random(40);
            }
            _ => {}
        }
        let reply = self.session(if method == "PATCH" { 202 } else { 204 }, id, &upload);
        self.state.uploads.insert(id.into(), upload);
        Ok(reply)
    }

    fn finish(&mut self, mut upload: Upload) -> Answer {
        upload.bytes.extend_from_slice(&self.request.body);
        let wanted = self.request.query("digest").unwrap_or_default();
        let digest = oci::sha256(&upload.bytes);
        let right = wanted == digest || wanted == oci::sha512(&upload.bytes);
        if !right {
            let text = "provided digest did not match uploaded content";
            let detail = json!({"Digest": wanted, "Reason": {}});
            return Err(Reply::registry_error(400, "DIGEST_INVALID", text, &detail));
        }
        self.check_quota(&digest, upload.bytes.len())?;
        // Whatever was asked for, it goes by its SHA-256.
        self.state.blobs.insert(digest.clone(), Arc::new(upload.bytes));
        self.state.repository_mut(&self.name).blobs.insert(digest.clone());
        Ok(self.stored("blobs", &digest))
    }

    /// Whether so many bytes more fit into the project.
    pub(super) fn check_quota(&self, digest: &str, bytes: usize) -> Result<(), Reply> {
        let Some(project) = self.state.project_of(&self.name).filter(|p| p.limit >= 0) else { return Ok(()) };
        let there = self.state.repositories.get(&self.name).is_some_and(|r| r.blobs.contains(digest));
        let used = self.state.used(&project.name);
        let more = if there { 0 } else { i64::try_from(bytes).unwrap_or(i64::MAX) };
        if used.saturating_add(more) <= project.limit {
            return Ok(());
        }
        let text = format!(
            "adding {more} B of storage resource, which when updated to current usage of {used} B will exceed the \
             configured upper limit of {} B.",
            project.limit
        );
        Err(Reply::error(403, "DENIED", &text))
    }

    fn session(&self, status: u16, id: &str, upload: &Upload) -> Reply {
        let base = format!("http://{}/v2/{}", self.request.host(), self.name);
        let last = upload.bytes.len().saturating_sub(1);
        Reply::empty(status)
            .versioned()
            .header("Docker-Upload-Uuid", id)
            .header("Location", &format!("{base}/blobs/uploads/{id}?_state={}", upload.state))
            .header("Range", &format!("0-{last}"))
    }

    /// 201 for a blob or manifest.
    pub(super) fn stored(&self, folder: &str, digest: &str) -> Reply {
        let base = format!("http://{}/v2/{}", self.request.host(), self.name);
        Reply::empty(201)
            .header("Docker-Content-Digest", digest)
            .versioned()
            .header("Location", &format!("{base}/{folder}/{digest}"))
    }
}

pub(super) fn unknown_blob(digest: &str) -> Reply {
    Reply::registry_error(404, "BLOB_UNKNOWN", "blob unknown to registry", &Value::from(digest))
}

fn uuid() -> String {
    let hex = |n: u32| -> String { (0..n).map(|_| format!("{:x}", fastrand::u8(0..16))).collect() };
    format!("{}-{}-4{}-8{}-{}", hex(8), hex(4), hex(3), hex(3), hex(12))
}
