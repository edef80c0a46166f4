//! Manifests: look, fetch, push, delete (OCI Distribution 1.1, "Pulling manifests", "Pushing Manifests", "Deleting").

use bytes::Bytes;
use surf::http::Method;

use super::{Error, Registry, Result, call::Call, scope::Scopes, wire::Reply};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, Reference, Repository, Tag, media_type};

/// What HEAD says of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// `Docker-Content-Digest`; not every registry sends it.
    pub digest: Option<Digest>,
    /// Its type, without parameters; empty if the registry does not say.
    pub media_type: String,
    /// Its length in bytes, where said.
    pub size: Option<u64>,
}

/// A fetched manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is still the one that the caller has.
    NotModified,
    /// Another one.
    Manifest {
        /// As they came; `digest` is theirs.
        bytes: Bytes,
        /// Its type, without parameters; empty if the registry does not say.
        media_type: String,
        /// Computed over `bytes`.
        digest: Digest,
    },
}

/// A pushed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest, ours and the registry's.
    pub digest: Digest,
    /// `OCI-Subject`: the registry has entered it among this one's referrers. `None` for a manifest with a subject
    /// means that the pusher has to keep the referrers tag itself ("Pushing Manifests with Subject").
    pub subject: Option<Digest>,
}

/// `edge/app:v1` or `edge/app@sha256:…`.
pub(super) fn name(repository: &Repository, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}

impl Registry {
    fn manifest_call(
        &self,
        method: Method,
        repository: &Repository,
        reference: &Reference,
        scopes: Scopes,
    ) -> Call {
        let path = format!("{repository}/manifests/{reference}");
        let mut call = self.call(method, &path, &name(repository, reference), scopes);
        call.verified = method == Method::Get && matches!(reference, Reference::Digest(_));
        call
    }

    /// What a reference names now, without fetching it. Harbor counts no pull for it.
    ///
    /// # Errors
    /// One that [`is_not_found`](Error::is_not_found) if it names nothing.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<ManifestHead> {
        let call = self
            .manifest_call(Method::Head, repository, reference, Scopes::pull(repository))
            .header("accept", media_type::ACCEPT_MANIFESTS);
        let reply = self.run_for(&call, &[200]).await?;
        Ok(ManifestHead {
            digest: content_digest(&reply)?,
            media_type: content_type(&reply),
            size: reply.length(),
        })
    }

    /// The manifest's bytes, at most [`MAX_MANIFEST_BYTES`], checked against the digest asked for or, by tag, the
    /// digest that the registry states. With `if_none_match` the registry may answer that nothing changed.
    ///
    /// # Errors
    /// [`Error::Digest`], [`Error::TooLarge`], [`Error::Encoded`]; one that
    /// [`is_not_found`](Error::is_not_found) if there is none.
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        if_none_match: Option<&Digest>,
    ) -> Result<Fetched> {
        let mut call = self
            .manifest_call(Method::Get, repository, reference, Scopes::pull(repository))
            .header("accept", media_type::ACCEPT_MANIFESTS);
        if let Some(known) = if_none_match {
            call = call.header("if-none-match", format!("\"{known}\""));
        }
        let mut attempts = self.attempts();
        loop {
            match self.try_get_manifest(&call, reference, if_none_match).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => attempts.wait(error).await?,
            }
        }
    }

    async fn try_get_manifest(
        &self,
        call: &Call,
        reference: &Reference,
        known: Option<&Digest>,
    ) -> Result<Fetched> {
        let wanted: &[u16] = if known.is_some() { &[200, 304] } else { &[200] };
        let mut reply = self.try_for(call, wanted).await?;
        if reply.status == 304 {
            reply.drain().await;
            return Ok(Fetched::NotModified);
        }
        let bytes = reply.read(MAX_MANIFEST_BYTES).await?;
        let expected = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => content_digest(&reply)?,
        };
        let digest = match &expected {
            Some(expected) => Digest::of(expected.algorithm(), &bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected.filter(|e| *e != digest) {
            return Err(Error::Digest {
                host: reply.host,
                object: reply.object,
                expected: expected.into(),
                actual: digest.into(),
            });
        }
        // Said without a 304 by registries that know no conditional requests.
        if known == Some(&digest) {
            return Ok(Fetched::NotModified);
        }
        Ok(Fetched::Manifest { bytes, media_type: content_type(&reply), digest })
    }

    /// Pushes a manifest under a tag or its digest. All that it names must be there already.
    ///
    /// # Errors
    /// [`Error::Digest`] if the registry stored something else; [`Error::Status`] 403 with code `DENIED` for a quota
    /// or read-only mode, 412 for an immutable tag (Harbor).
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Pushed> {
        let digest = match reference {
            Reference::Digest(named) => Digest::of(named.algorithm(), &bytes),
            Reference::Tag(_) => Digest::sha256(&bytes),
        };
        let mut call = self
            .manifest_call(Method::Put, repository, reference, Scopes::push(repository))
            .header("content-type", media_type);
        call.body = Some(bytes);
        call.patience = Some(self.0.options.commit_timeout);
        let reply = self.run_for(&call, &[200, 201, 202]).await?;
        if let Some(stored) =
            content_digest(&reply)?.filter(|d| d.algorithm() == digest.algorithm() && *d != digest)
        {
            return Err(Error::Digest {
                host: reply.host,
                object: reply.object,
                expected: digest.into(),
                actual: stored.into(),
            });
        }
        let subject = reply.header("oci-subject").and_then(|s| s.trim().parse().ok());
        reply.drain().await;
        Ok(Pushed { digest, subject })
    }

    /// Deletes a manifest and every tag on it. `false`: it was not there.
    ///
    /// # Errors
    /// [`Error::Status`] 405 where the registry allows no deletion.
    pub async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let reference = Reference::Digest(digest.clone());
        self.delete(self.manifest_call(Method::Delete, repository, &reference, Scopes::delete(repository)))
            .await
    }

    /// Deletes a tag and leaves the manifest. `false`: it was not there.
    ///
    /// # Errors
    /// [`Error::Status`] 400 or 405 where the registry cannot, as Harbor (its own API can) and distribution 2.
    pub async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let reference = Reference::Tag(tag.clone());
        self.delete(self.manifest_call(Method::Delete, repository, &reference, Scopes::delete(repository)))
            .await
    }

    pub(super) async fn delete(&self, call: Call) -> Result<bool> {
        let reply = self.run_for(&call, &[200, 202, 204, 404]).await?;
        let there = reply.status != 404;
        reply.drain().await;
        Ok(there)
    }
}

/// `Docker-Content-Digest`, if it is there.
fn content_digest(reply: &Reply) -> Result<Option<Digest>> {
    let Some(value) = reply.header("docker-content-digest").map(str::trim).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    value.parse().map(Some).map_err(|e| reply.protocol(format!("Docker-Content-Digest: {e}")))
}

fn content_type(reply: &Reply) -> String {
    reply.header("content-type").map(media_type::essence).unwrap_or_default().to_string()
}
