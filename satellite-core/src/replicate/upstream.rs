//! A repository of a registry as a source of blobs.

use crate::{
    oci::{Digest, Repository},
    remote,
    transfer::{Opened, Source, SourceError},
};

/// The source for one repository.
pub(crate) struct RegistrySource {
    pub(crate) registry: remote::Registry,
    pub(crate) repository: Repository,
}

#[async_trait::async_trait]
impl Source for RegistrySource {
    fn name(&self) -> String {
        format!("{}/{}", self.registry.host(), self.repository)
    }

    async fn open(&self, digest: &Digest, offset: u64) -> Result<Opened, SourceError> {
        match self.registry.open_blob(&self.repository, digest, offset).await {
            Ok(blob) => Ok(Opened { offset: blob.offset, total: blob.total, stream: blob.stream }),
            Err(e) if e.is_not_found() => Err(SourceError::NotFound(e.to_string())),
            Err(e) if e.is_retryable() => {
                Err(SourceError::Later { after: e.retry_after(), message: e.to_string() })
            }
            // Harbor answers 401 to everybody while its database is down: worth the usual tries, never a verdict.
            Err(e) => Err(SourceError::Refused { unauthorized: e.is_unauthorized(), message: e.to_string() }),
        }
    }
}
