//! DELETE of manifests, tags and blobs (distribution-spec, "Content Management").

use http::StatusCode;

use super::{
    Answer, Call, Registry,
    error::{Code, Failure},
    respond,
};
use crate::oci::{Digest, Reference};

impl Registry {
    /// By tag the tag goes; by digest the manifest, with all its tags, at once.
    pub(super) async fn delete_manifest(&self, call: &Call<'_>, reference: &Reference) -> Answer {
        let gone = match reference {
            Reference::Tag(tag) => self.store.remove_tag(&call.repository, tag).await?,
            Reference::Digest(digest) => self.store.remove_manifest(&call.repository, digest).await?,
        };
        let unknown = || {
            Failure::new(Code::ManifestUnknown, &format!("{} has no manifest {reference}", call.repository))
        };
        gone.then(|| respond(StatusCode::ACCEPTED)).ok_or_else(unknown)
    }

    /// Takes the blob from this repository; the bytes go with the next collection, if nobody else has it. One that an
    /// image here names is refused: the image would be there and could not be pulled.
    pub(super) async fn delete_blob(&self, call: &Call<'_>, digest: &Digest) -> Answer {
        let gone = self.store.unlink_blob(&call.repository, digest).await?;
        let unknown =
            || Failure::new(Code::BlobUnknown, &format!("{} has no blob {digest}", call.repository));
        gone.then(|| respond(StatusCode::ACCEPTED)).ok_or_else(unknown)
    }
}
