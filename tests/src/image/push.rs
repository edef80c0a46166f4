//! An artefact to and from a registry, by our own small client.

use super::{Artifact, Blob};
use crate::http::{Client, Request};
use crate::oci;
use std::io;

impl Artifact {
    /// Pushes blobs, children and the manifest, which `reference` (a tag, or its digest) then names.
    #[track_caller]
    pub fn push(&self, client: &Client, repository: &str, reference: &str) {
        if let Err(error) = self.try_push(client, repository, reference) {
            panic!("push of {repository}:{reference}: {error}");
        }
    }

    /// As [`Self::push`], giving the first failure back.
    ///
    /// # Errors
    /// Those of the sockets; any status but 201 as an error of kind `Other`.
    pub fn try_push(&self, client: &Client, repository: &str, reference: &str) -> io::Result<()> {
        for blob in &self.blobs {
            blob.try_push(client, repository)?;
        }
        for child in &self.children {
            child.try_push(client, repository, &child.digest)?;
        }
        let target = format!("/v2/{repository}/manifests/{reference}");
        let put = Request::new("PUT", &target)
            .header("Content-Type", &self.media_type)
            .bytes(self.manifest.clone());
        created(client, &put)
    }

    /// Panics unless the registry serves all of it, right to the byte, under that reference.
    #[track_caller]
    pub fn check(&self, client: &Client, repository: &str, reference: &str) {
        let answer = client.get(&format!("/v2/{repository}/manifests/{reference}")).expect(200);
        assert_eq!(
            answer.text(),
            String::from_utf8_lossy(&self.manifest),
            "manifest of {repository}:{reference}"
        );
        assert_eq!(answer.header("content-type"), Some(self.media_type.as_str()));
        assert_eq!(answer.header("docker-content-digest"), Some(self.digest.as_str()));
        for blob in &self.blobs {
            blob.check(client, repository);
        }
        for child in &self.children {
            child.check(client, repository, &child.digest);
        }
    }
}

impl Blob {
    /// Uploads it in one piece (POST, then PUT).
    ///
    /// # Errors
    /// Those of the sockets; any status but 202 and 201 as an error of kind `Other`.
    pub fn try_push(&self, client: &Client, repository: &str) -> io::Result<()> {
        let post =
            Request::new("POST", &format!("/v2/{repository}/blobs/uploads/")).header("Content-Length", "0");
        let answer = client.try_send(&post)?;
        if answer.status != 202 {
            return Err(io::Error::other(format!(
                "POST {}: {} {}",
                post.target,
                answer.status,
                answer.text()
            )));
        }
        let target = with_digest(&answer.location(), &self.digest);
        let put = Request::new("PUT", &target).header("Content-Type", "application/octet-stream");
        created(client, &put.bytes(self.bytes.clone()))
    }

    /// Panics unless the registry serves it right to the byte.
    #[track_caller]
    pub fn check(&self, client: &Client, repository: &str) {
        let answer = client.get(&format!("/v2/{repository}/blobs/{}", self.digest)).expect(200);
        assert!(answer.whole, "{} was cut off after {} bytes", self.digest, answer.body.len());
        assert_eq!(answer.body.len(), self.bytes.len(), "length of {}", self.digest);
        assert_eq!(oci::sha256(&answer.body), self.digest, "bytes served as {repository}@{}", self.digest);
    }
}

/// An upload's address with the digest that ends it.
pub fn with_digest(location: &str, digest: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

fn created(client: &Client, put: &Request) -> io::Result<()> {
    let answer = client.try_send(put)?;
    if answer.status == 201 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} {}: {} {}", put.method, put.target, answer.status, answer.text())))
}
