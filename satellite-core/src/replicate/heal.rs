//! Mending: what was found damaged is fetched again from where its repositories came from.

use std::sync::Arc;

use super::{Error, Put, Replicator, upstream::RegistrySource};
use crate::{
    oci::{Digest, Manifest, Reference, Repository},
    remote::Fetched,
    store::{Finding, Sparse},
    transfer::Source,
};

/// Repositories that are asked for one blob.
const MAX_USERS: usize = 8;

impl Replicator {
    /// Fetches again what a check found damaged or missing. `Ok(false)`: nothing needs it, or it is not for the network
    /// to mend.
    ///
    /// # Errors
    /// [`Error::NoOrigin`] if it was pushed here and nobody else has it; otherwise why it could not be fetched.
    pub async fn heal(&self, finding: &Finding) -> Result<bool, Error> {
        match finding {
            Finding::CorruptBlob { digest, .. } => self.heal_blob(digest).await,
            Finding::MissingBlob { digest, .. } => self.heal_blob(digest).await,
            Finding::LostManifest { repository, digest } => self.heal_manifest(repository, digest).await,
            Finding::DanglingTag { .. } | Finding::StrayFile { .. } => Ok(false),
        }
    }

    async fn heal_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let _lease = self.store().lease(digest);
        let mut sources: Vec<Arc<dyn Source>> = Vec::new();
        let (mut size, mut needed, mut mended) = (None, None, false);
        for repository in self.store().repositories(None) {
            let repository = repository?;
            let reference = Reference::Digest(digest.clone());
            if self.store().manifest(&repository, &reference)?.is_some() {
                // Its record is whole, its bytes are not.
                mended |= self.heal_manifest(&repository, digest).await?;
                continue;
            }
            let Some((_, blob)) = self.store().naming(&repository, digest).await? else { continue };
            size = Some(blob.size);
            needed.get_or_insert(repository.clone());
            for host in self.store().origins(&repository)? {
                let registry = self.connect(&host)?;
                sources.push(Arc::new(RegistrySource { registry, repository: repository.clone() }));
            }
            if sources.len() >= MAX_USERS {
                break;
            }
        }
        let Some(repository) = needed else { return Ok(mended) };
        if sources.is_empty() {
            return Err(Error::NoOrigin { repository, digest: digest.clone() });
        }
        self.engine().fetch(digest, size, &sources, &|_| ()).await?;
        Ok(true)
    }

    async fn heal_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        let reference = Reference::Digest(digest.clone());
        let Some(info) = self.store().manifest(repository, &reference)? else { return Ok(false) };
        let mut last = Error::NoOrigin { repository: repository.clone(), digest: digest.clone() };
        for host in self.store().origins(repository)? {
            match self.connect(&host)?.get_manifest(repository, &reference, None).await {
                Ok(Fetched::Manifest { bytes, .. }) => {
                    let manifest =
                        Manifest::parse(bytes, Some(&info.media_type)).map_err(crate::store::Error::from)?;
                    // Its tags and its pin have stayed; its blobs are mended by themselves.
                    let put = Put { sparse: Sparse::Anything, ..Put::default() };
                    self.store().put_manifest(repository, digest, manifest, put).await?;
                    return Ok(true);
                }
                Ok(Fetched::NotModified) => {}
                Err(e) => last = e.into(),
            }
        }
        Err(last)
    }
}
