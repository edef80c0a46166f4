//! A registry of the user's own, which gets what the satellite would hold; the satellite serves nothing then.
//!
//! An image passes through the store, where a transfer can resume, and leaves it once the registry has it: room for one
//! image is enough. Manifests and blobs are put there byte for byte, an index with its children.

use satellite_core::{
    net::{
        Executor,
        client::{CertificateClock, ClientConfig, surf_client},
    },
    oci::{ImageReference, Reference},
    remote::{self, Credentials, Options, Registry, Scheme, Secret},
    replicate::{self, Sink},
    store::Store,
};
use url::Url;

use super::{
    cause::{Cause, Trouble},
    state::{Entity, name_of, reference_of, store_trouble},
};

/// The registry.
pub struct OwnRegistry {
    host: String,
    registry: Registry,
}

impl OwnRegistry {
    /// At this URL; `ca` are further authorities (PEM), certificates are judged by `clock`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Cause::BYO_CONFIG`]
    pub fn new(
        url: &Url,
        login: Option<(String, Secret)>,
        ca: Vec<std::path::PathBuf>,
        clock: CertificateClock,
        executor: Executor,
    ) -> Result<Self, Trouble> {
        let bad = |e: &dyn std::fmt::Display| Trouble::new(Cause::BYO_CONFIG, format!("{url}: {e}")).slowly();
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_string(),
            (None, _) => return Err(bad(&"a registry has a host")),
        };
        let config = ClientConfig { extra_roots: ca, clock: Some(clock), ..ClientConfig::from_env() };
        let client = surf_client(config, executor).map_err(|e| bad(&e))?;
        let credentials = match login {
            Some((user, password)) => Credentials::Password { user, password },
            None => Credentials::Anonymous,
        };
        let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
        let options = Options { scheme, credentials, ..Options::default() };
        Ok(Self { registry: Registry::new(&host, options, client).map_err(|e| bad(&e))?, host })
    }

    /// `HOST[:PORT]`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What of this it has not. A tag whose digest the state does not say is put there anew where `look` says so.
    ///
    /// # Errors
    /// Codes of `registry`.
    pub async fn missing(
        &self,
        wanted: Vec<(Entity, String)>,
        look: bool,
    ) -> Result<Vec<(Entity, String)>, Trouble> {
        let mut missing = Vec::new();
        for (entity, from) in wanted {
            let Some(reference) = reference_of(&entity) else { continue };
            let here = match self.registry.head_manifest(&entity.repository, &reference).await {
                Ok(head) => match entity.digest() {
                    Some(digest) => head.digest == Some(digest),
                    None => !look,
                },
                Err(e) if e.is_not_found() => false,
                Err(e) => return Err(self.trouble(&entity, &e)),
            };
            if !here {
                missing.push((entity, from));
            }
        }
        Ok(missing)
    }

    /// Puts an image there that is in the store, and takes it out of the store. One that is not in the store is passed over:
    /// it could not be fetched.
    ///
    /// # Errors
    /// Codes of `registry` and `store`.
    pub async fn deliver(&self, store: &Store, entity: &Entity, sink: Sink) -> Result<(), Trouble> {
        let Some(reference) = reference_of(entity) else { return Ok(()) };
        let failed = |e| store_trouble(&e);
        if store.manifest(&entity.repository, &reference).map_err(failed)?.is_none() {
            return Ok(());
        }
        let target = ImageReference {
            registry: self.host.clone(),
            repository: entity.repository.clone(),
            tag: entity.tag(),
            digest: if entity.tag.is_empty() { entity.digest() } else { None },
        };
        replicate::push(store, (&entity.repository, &reference), &target, &self.registry, sink)
            .await
            .map_err(|e| match &e {
                replicate::Error::Remote(remote) => self.trouble(entity, remote),
                replicate::Error::Store(store) => store_trouble(store),
                other => Trouble::new(Cause::REGISTRY_CONTENT, other),
            })?;
        match &reference {
            Reference::Tag(tag) => store.remove_tag(&entity.repository, tag).await.map_err(failed)?,
            Reference::Digest(digest) => store.unpin(&entity.repository, digest).await.map_err(failed)?,
        };
        Ok(())
    }

    /// Removes an image: its tag, or where the registry removes no tags, its manifest, if nothing that is wanted is it too.
    /// `false`: it was not there, or is another now.
    ///
    /// # Errors
    /// [`Cause::BYO_NO_DELETE`] for a registry that removes nothing; codes of `registry`.
    pub async fn remove(&self, entity: &Entity, wanted: &[(Entity, String)]) -> Result<bool, Trouble> {
        let Some(reference) = reference_of(entity) else { return Ok(false) };
        let now = match self.registry.head_manifest(&entity.repository, &reference).await {
            Ok(head) => head.digest,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(self.trouble(entity, &e)),
        };
        if entity.digest().is_some_and(|put| now.as_ref() != Some(&put)) {
            return Ok(false);
        }
        let refused = |e: &remote::Error| matches!(e.status(), Some(400 | 405 | 501));
        if let Reference::Tag(tag) = &reference {
            match self.registry.delete_tag(&entity.repository, tag).await {
                Ok(gone) => return Ok(gone),
                Err(e) if refused(&e) => {}
                Err(e) => return Err(self.trouble(entity, &e)),
            }
        }
        let Some(digest) = now else { return Ok(false) };
        let shared = |(e, _): &(Entity, String)| {
            e.repository == entity.repository && e.digest() == Some(digest.clone())
        };
        if wanted.iter().any(shared) {
            return Ok(false);
        }
        match self.registry.delete_manifest(&entity.repository, &digest).await {
            Ok(gone) => Ok(gone),
            Err(e) if refused(&e) => {
                let message =
                    format!("{}/{} stays: the registry removes nothing", self.host, name_of(entity));
                Err(Trouble::new(Cause::BYO_NO_DELETE, message))
            }
            Err(e) => Err(self.trouble(entity, &e)),
        }
    }

    fn trouble(&self, entity: &Entity, error: &remote::Error) -> Trouble {
        let cause = match error {
            e if e.is_unauthorized() || e.status() == Some(403) => Cause::REGISTRY_UNAUTHORIZED,
            e if e.is_not_found() => Cause::REGISTRY_NOT_FOUND,
            _ => Cause::REGISTRY_UNREACHABLE,
        };
        Trouble::new(cause, format!("{}/{}: {error}", self.host, name_of(entity)))
    }
}
