//! Manifests.

use super::super::message::Reply;
use super::super::state::{Stored, Tag};
use super::{Answer, Call, is_digest, is_index, is_tag};
use crate::oci;
use serde_json::{Value, json};

/// Bodies of this size and more are refused.
const MAX_MANIFEST: usize = 4 << 20;
const OCI_PREFIX: &str = "application/vnd.oci.";

impl Call<'_> {
    pub(super) fn manifest(&mut self, reference: &str) -> Answer {
        match self.request.method.as_str() {
            "GET" | "HEAD" => self.get_manifest(reference),
            "PUT" => self.put_manifest(reference),
            "DELETE" => self.delete_manifest(reference),
            _ => Err(Reply::error(405, "UNSUPPORTED", "the operation is unsupported")),
        }
    }

    fn get_manifest(&mut self, reference: &str) -> Answer {
        let repository = self.state.repositories.get(&self.name).ok_or_else(|| self.no_repository())?;
        let digest = repository.digest(reference).ok_or_else(|| {
            let text = format!("artifact {}:{reference} not found", self.name);
            Reply::error(404, "NOT_FOUND", &text)
        })?;
        let (digest, artifact) = (digest.to_owned(), &repository.artifacts[digest]);
        let etag = format!("\"{digest}\"");
        if self.request.header("if-none-match") == Some(etag.as_str()) {
            return Ok(Reply::empty(304));
        }
        self.behind()?;
        let index = is_index(&artifact.media_type);
        if artifact.media_type.starts_with(OCI_PREFIX) && !self.accepts(&artifact.media_type) {
            let (one, many) = if index { ("index", "indexes") } else { ("manifest", "manifests") };
            let text = format!("OCI {one} found, but accept header does not support OCI {many}");
            return Err(Reply::error(404, "MANIFEST_UNKNOWN", &text).versioned());
        }
        let reply = Reply::empty(200)
            .header("Content-Type", &artifact.media_type)
            .header("Docker-Content-Digest", &digest)
            .versioned()
            .header("Etag", &etag)
            .bytes(artifact.bytes.clone());
        if self.request.method == "GET" {
            self.state.repository_mut(&self.name).pulls += 1;
        }
        Ok(reply)
    }

    /// By name only: `*/*` counts for nothing.
    fn accepts(&self, media_type: &str) -> bool {
        let lines = self.request.all("accept");
        lines
            .flat_map(|line| line.split(','))
            .any(|item| item.split(';').next().map(str::trim) == Some(media_type))
    }

    fn put_manifest(&mut self, reference: &str) -> Answer {
        let by_digest = is_digest(reference);
        if !by_digest && !is_tag(reference) {
            let text = format!("bad request: invalid tag name: {reference}");
            return Err(Reply::error(400, "BAD_REQUEST", &text));
        }
        let bytes = self.request.body.clone();
        if bytes.len() >= MAX_MANIFEST {
            return Err(Reply::error(413, "REQUEST_ENTITY_TOO_LARGE", "http: request body too large"));
        }
        let digest = oci::sha256(&bytes);
        let tagged = self.state.repositories.get(&self.name).is_some_and(|r| r.tags.contains_key(reference));
        if tagged && self.state.is_immutable(&self.name, reference) {
            let short = self.name.split_once('/').map_or("", |(_, name)| name);
            let text =
                format!("Failed to process request due to '{short}:{reference}' configured as immutable.");
            return Err(Reply::error(412, "PRECONDITION", &text));
        }
        let media_type = self.request.header("content-type").unwrap_or_default().to_owned();
        let invalid = |text: String| {
            Reply::error(400, "MANIFEST_INVALID", &format!("unmarshal manifest failed: {text}"))
        };
        let known = media_type.starts_with(OCI_PREFIX) || media_type.starts_with("application/vnd.docker.");
        if !known {
            return Err(invalid("missing signature key".into()));
        }
        let manifest: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        self.check_quota(&digest, bytes.len() + self.missing_bytes(&manifest))?;
        self.behind()?;
        if by_digest && reference != digest {
            let text = "provided digest did not match uploaded content";
            return Err(Reply::error(400, "DIGEST_INVALID", text).versioned());
        }
        self.check_content(&manifest)?;
        let (id, tag_id, pushed) = (self.state.number(), self.state.number(), self.state.clock.stamp());
        let subject = manifest["subject"]["digest"].as_str().map(str::to_owned);
        let repository = self.state.repository_mut(&self.name);
        repository.updated.clone_from(&pushed);
        let stored = Stored { id, bytes, media_type, pushed: pushed.clone() };
        repository.artifacts.entry(digest.clone()).or_insert(stored);
        if !by_digest {
            repository.tags.insert(reference.into(), Tag { id: tag_id, digest: digest.clone(), pushed });
        }
        let reply = self.stored("manifests", &digest);
        Ok(match subject {
            Some(subject) => reply.header("OCI-Subject", &subject),
            None => reply,
        })
    }

    /// Bytes of what it names and the repository has not: they count as if they came with it.
    fn missing_bytes(&self, manifest: &Value) -> usize {
        let repository = self.state.repositories.get(&self.name);
        let entries = manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config"));
        let missing = entries.filter(|entry| {
            let digest = entry["digest"].as_str().unwrap_or_default();
            !repository.is_some_and(|r| r.blobs.contains(digest))
        });
        let sizes = missing.filter_map(|entry| entry["size"].as_u64());
        sizes.map(|size| usize::try_from(size).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
    }

    /// All that it names must be here; layers that say where else they are need not.
    fn check_content(&self, manifest: &Value) -> Result<(), Reply> {
        let repository = self.state.repositories.get(&self.name);
        let blob = |digest: &str| repository.is_some_and(|r| r.blobs.contains(digest));
        let child = |digest: &str| repository.is_some_and(|r| r.artifacts.contains_key(digest));
        let text = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        let config = manifest.get("config").into_iter().map(text);
        let layers = list("layers").into_iter().filter(|layer| !layer["urls"].is_array());
        let blobs = config.chain(layers.map(|layer| text(&layer)));
        let missing = blobs
            .filter(|digest| !blob(digest))
            .chain(list("manifests").iter().map(text).filter(|digest| !child(digest)))
            .next();
        match missing {
            None => Ok(()),
            Some(digest) => {
                let text = "blob unknown to registry";
                Err(Reply::registry_error(400, "MANIFEST_BLOB_UNKNOWN", text, &json!(digest)))
            }
        }
    }

    fn delete_manifest(&mut self, reference: &str) -> Answer {
        if !is_digest(reference) {
            let text = format!("unsupported digest {reference}: invalid checksum digest format");
            return Err(Reply::error(400, "UNSUPPORTED", &text));
        }
        let held = self.state.repositories.get(&self.name).and_then(|r| {
            r.tags_of(reference).find(|tag| self.state.is_immutable(&self.name, tag)).map(str::to_owned)
        });
        if let Some(tag) = held {
            let text = format!("Failed to process request due to '{tag}' configured as immutable.");
            return Err(Reply::error(412, "PRECONDITION", &text));
        }
        let Some(repository) = self.state.repositories.get_mut(&self.name) else {
            return Err(self.no_repository());
        };
        if repository.artifacts.remove(reference).is_none() {
            let text = format!("artifact {}@{reference} not found", self.name);
            return Err(Reply::error(404, "NOT_FOUND", &text));
        }
        repository.tags.retain(|_, tag| tag.digest != reference);
        Ok(Reply::empty(202))
    }
}
