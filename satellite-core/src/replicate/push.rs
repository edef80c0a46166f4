//! From the store to a registry: blobs that it lacks, manifests children first, the tag last, every byte as it is.

use std::collections::HashSet;

use bytes::Bytes;
use futures_lite::stream;

use super::{Error, Event, Sink, cosign_tags, name};
use crate::{
    net::message::ByteStream,
    oci::{Descriptor, Digest, ImageReference, Manifest, Reference, Repository, media_type},
    remote::{self, Fetched, UploadOptions},
    store::{ManifestInfo, Store},
};

const PIECE: usize = 256 << 10;

/// Pushes what `source` names in the store to `target`. Children of a sparse index that are not here are left out, as
/// are foreign layers; what is about the image goes with it. Returns the digest.
pub async fn push(
    store: &Store,
    (repository, reference): (&Repository, &Reference),
    target: &ImageReference,
    registry: &remote::Registry,
    sink: Sink,
) -> Result<Digest, Error> {
    let here = || Error::NotHere(format!("{repository} {reference}"));
    let root = store.manifest(repository, reference)?.ok_or_else(here)?;
    let _lease = store.lease(&root.digest);
    let mut push = Push { store, repository, target, registry, sink: &sink, done: HashSet::new() };
    // Referrers may come before their subject (distribution-spec, "Pushing Manifests with Subject"); the tag is last.
    push.referrers(&root.digest).await?;
    let last = target.reference();
    push.tree(&root, &last).await?;
    (sink)(Event::ImageDone { image: name(target), digest: root.digest.clone(), unchanged: false });
    Ok(root.digest)
}

struct Push<'a> {
    store: &'a Store,
    repository: &'a Repository,
    target: &'a ImageReference,
    registry: &'a remote::Registry,
    sink: &'a Sink,
    done: HashSet<Digest>,
}

impl Push<'_> {
    /// One manifest and what it lists, under `reference`.
    async fn tree(&mut self, info: &ManifestInfo, reference: &Reference) -> Result<(), Error> {
        let manifest = self.read(info)?;
        for child in &manifest.children {
            let by_digest = Reference::Digest(child.digest.clone());
            if self.done.contains(&child.digest) {
                continue;
            }
            if let Some(info) = self.store.manifest(self.repository, &by_digest)? {
                // Boxed: an index may list indexes. The store holds no cycle, for a digest cannot be in itself.
                Box::pin(self.tree(&info, &by_digest)).await?;
            }
        }
        for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
            self.blob(blob).await?;
        }
        let pushed = self
            .registry
            .put_manifest(&self.target.repository, reference, &info.media_type, manifest.raw.clone())
            .await?;
        if let (None, Some(subject)) = (pushed.subject, &manifest.subject) {
            self.list_by_tag(&subject.digest, manifest.as_referrer(info.digest.clone())).await?;
        }
        self.done.insert(info.digest.clone());
        Ok(())
    }

    /// Enters a referrer in the tag that stands in for the API that the registry does not have (distribution-spec,
    /// "Pushing Manifests with Subject").
    async fn list_by_tag(&self, subject: &Digest, referrer: Descriptor) -> Result<(), Error> {
        let repository = &self.target.repository;
        let Ok(tag) = format!("{}-{}", subject.algorithm(), subject.hex()).parse() else { return Ok(()) };
        let reference = Reference::Tag(tag);
        let mut listed = match self.registry.get_manifest(repository, &reference, None).await {
            Ok(Fetched::Manifest { bytes, media_type, digest }) => {
                let parsed = Manifest::parse(bytes, Some(&media_type));
                parsed.map_err(|cause| Error::Manifest { image: name(self.target), digest, cause })?.children
            }
            Ok(Fetched::NotModified) => Vec::new(),
            Err(e) if e.is_not_found() => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        if listed.iter().any(|d| d.digest == referrer.digest) {
            return Ok(());
        }
        listed.push(referrer);
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed,
        });
        self.registry
            .put_manifest(repository, &reference, media_type::OCI_INDEX, index.to_string().into())
            .await?;
        Ok(())
    }

    async fn referrers(&mut self, root: &Digest) -> Result<(), Error> {
        let mut subjects = vec![root.clone()];
        let mut seen = HashSet::from([root.clone()]);
        while let Some(subject) = subjects.pop() {
            let found: Vec<Descriptor> =
                self.store.referrers(self.repository, &subject, None).collect::<Result<_, _>>()?;
            for referrer in found {
                let by_digest = Reference::Digest(referrer.digest.clone());
                let Some(info) = self.store.manifest(self.repository, &by_digest)? else { continue };
                if seen.insert(info.digest.clone()) {
                    self.tree(&info, &by_digest).await?;
                    subjects.push(info.digest);
                }
            }
            for tag in cosign_tags(&subject) {
                let by_tag = Reference::Tag(tag);
                if let Some(info) = self.store.manifest(self.repository, &by_tag)? {
                    self.tree(&info, &by_tag).await?;
                }
            }
        }
        Ok(())
    }

    async fn blob(&mut self, blob: &Descriptor) -> Result<(), Error> {
        if !self.done.insert(blob.digest.clone()) {
            return Ok(());
        }
        let repository = &self.target.repository;
        if self.registry.head_blob(repository, &blob.digest).await? == Some(blob.size) {
            return Ok(());
        }
        (self.sink)(Event::BlobBegun { digest: blob.digest.clone(), resumed: 0, size: blob.size });
        let open = |offset| {
            let (store, digest, sink, size) =
                (self.store.clone(), blob.digest.clone(), self.sink.clone(), blob.size);
            async move { read_blob(&store, digest, offset, size, sink) }
        };
        self.registry
            .upload_blob(repository, &blob.digest, blob.size, open, UploadOptions::default())
            .await?;
        (self.sink)(Event::BlobDone { digest: blob.digest.clone(), received: 0 });
        Ok(())
    }

    fn read(&self, info: &ManifestInfo) -> Result<Manifest, Error> {
        let missing = || Error::NotHere(format!("{}@{}", self.repository, info.digest));
        let raw = self.store.manifest_bytes(info)?.ok_or_else(missing)?;
        let parsed = Manifest::parse(raw, Some(&info.media_type));
        parsed.map_err(|cause| Error::Manifest {
            image: name(self.target),
            digest: info.digest.clone(),
            cause,
        })
    }
}

/// A blob's bytes from `offset`, read in the pool of blocking threads.
fn read_blob(
    store: &Store,
    digest: Digest,
    offset: u64,
    size: u64,
    sink: Sink,
) -> std::io::Result<ByteStream> {
    let blob = store.open_blob(&digest).map_err(std::io::Error::other)?;
    let blob = blob.filter(|b| b.size == size);
    let file = blob.ok_or_else(|| std::io::Error::other(format!("blob {digest} is not in the store")))?.file;
    Ok(Box::pin(stream::try_unfold(offset, move |at| {
        let (file, digest, sink) = (file.clone(), digest.clone(), sink.clone());
        async move {
            if at >= size {
                return Ok(None);
            }
            let length = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
            let piece = smol::unblock(move || {
                let mut piece = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(&*file, &mut piece, at).map(|()| piece)
            })
            .await?;
            let at = at + length as u64;
            sink(Event::BlobProgress { digest, at });
            Ok(Some((Bytes::from(piece), at)))
        }
    })))
}
