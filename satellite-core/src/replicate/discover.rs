//! What an image is made of: its manifests, from the store where they are, else from the registry.

use std::collections::HashSet;

use super::{Error, Options, cosign_tags, name};
use crate::{
    oci::{Descriptor, Digest, ImageReference, Manifest, PlatformSet, Reference, Tag},
    remote::{self, Fetched},
    store::{Lease, Store},
};

/// Manifests of one image, its referrers included.
const MAX_NODES: usize = 2048;
/// Indexes in indexes.
const MAX_DEPTH: usize = 8;

/// A manifest of an image.
pub(super) struct Node {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    /// cosign's tag that it was found under.
    pub(super) tag: Option<Tag>,
}

/// An image, found out.
pub(super) struct Tree {
    /// In the order of publishing: children before who lists them, the root last.
    pub(super) nodes: Vec<Node>,
    pub(super) root: Digest,
    /// It is in the store, whole: nothing to do.
    pub(super) unchanged: bool,
    /// Holds all of it against collection.
    pub(super) leases: Vec<Lease>,
}

pub(super) struct Discovery<'a> {
    pub(super) store: &'a Store,
    pub(super) registry: &'a remote::Registry,
    pub(super) image: &'a ImageReference,
    pub(super) options: &'a Options,
    seen: HashSet<Digest>,
    nodes: Vec<Node>,
    leases: Vec<Lease>,
}

impl<'a> Discovery<'a> {
    pub(super) fn new(
        store: &'a Store,
        registry: &'a remote::Registry,
        image: &'a ImageReference,
        options: &'a Options,
    ) -> Self {
        Self { store, registry, image, options, seen: HashSet::new(), nodes: Vec::new(), leases: Vec::new() }
    }

    /// Asks for the root, conditionally where the store has one, and walks from it.
    pub(super) async fn run(mut self) -> Result<Tree, Error> {
        let repository = &self.image.repository;
        let reference = self.image.reference();
        let local = self.store.manifest(repository, &reference)?.map(|info| info.digest);
        if let Some(digest) = &local {
            self.lease(digest);
            // Asked for by digest, and here with all it needs: there is nothing to ask anybody.
            let by_digest = matches!(reference, Reference::Digest(_));
            if by_digest && self.is_complete(digest, 0)? && local_same(self.store, self.image, digest)? {
                return Ok(self.unchanged(digest.clone()));
            }
        }
        let (root, manifest) =
            match self.registry.get_manifest(repository, &reference, local.as_ref()).await? {
                Fetched::Manifest { bytes, media_type, digest } => {
                    let manifest = self.parse(bytes, Some(&media_type), &digest)?;
                    (digest, manifest)
                }
                Fetched::NotModified => {
                    let Some(digest) = local else {
                        let host = self.registry.host().to_string();
                        let what = "304 to a request without condition".to_string();
                        return Err(remote::Error::Protocol { host, object: name(self.image), what }.into());
                    };
                    // Its name may have been taken away since: it is put on again below.
                    let manifest = self.manifest(&digest, None).await?;
                    (digest, manifest)
                }
            };
        if local_same(self.store, self.image, &root)? && self.is_complete(&root, 0)? {
            return Ok(self.unchanged(root));
        }
        self.walk(root.clone(), manifest).await?;
        if self.options.referrers {
            self.referrers(&root).await?;
        }
        Ok(Tree { nodes: self.nodes, root, unchanged: false, leases: self.leases })
    }

    fn unchanged(self, root: Digest) -> Tree {
        Tree { nodes: Vec::new(), root, unchanged: true, leases: self.leases }
    }

    fn lease(&mut self, digest: &Digest) {
        self.leases.push(self.store.lease(digest));
    }

    /// Whether the store has a manifest and all that the chosen platforms need of it.
    fn is_complete(&self, digest: &Digest, depth: usize) -> Result<bool, Error> {
        let repository = &self.image.repository;
        let Some(info) = self.store.manifest(repository, &Reference::Digest(digest.clone()))? else {
            return Ok(false);
        };
        let Some(raw) = self.store.manifest_bytes(&info)? else { return Ok(false) };
        let Ok(manifest) = Manifest::parse(raw, Some(&info.media_type)) else { return Ok(false) };
        for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
            if self.store.blob_size(&blob.digest)? != Some(blob.size) {
                return Ok(false);
            }
        }
        let wanted = self.options.platforms.select(&manifest.children);
        if wanted.is_empty() && !manifest.children.is_empty() {
            return Ok(false);
        }
        for child in wanted {
            if depth >= MAX_DEPTH || !self.is_complete(&child.digest, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds a manifest after all that it lists.
    async fn walk(&mut self, root: Digest, manifest: Manifest) -> Result<(), Error> {
        // Depth first with a stack of our own: each entry is a manifest and those of its children still to do.
        let mut stack = vec![self.enter(root, manifest)?];
        while let Some((_, _, todo)) = stack.last_mut() {
            match todo.pop() {
                Some(child) if self.seen.contains(&child.digest) => {}
                Some(child) => {
                    if stack.len() > MAX_DEPTH {
                        return Err(self.too_large());
                    }
                    let manifest = self.manifest(&child.digest, Some(&child)).await?;
                    let entered = self.enter(child.digest, manifest)?;
                    stack.push(entered);
                }
                None => {
                    if let Some((digest, manifest, _)) = stack.pop() {
                        self.nodes.push(Node { digest, manifest, tag: None });
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        digest: Digest,
        manifest: Manifest,
    ) -> Result<(Digest, Manifest, Vec<Descriptor>), Error> {
        if self.seen.len() >= MAX_NODES {
            return Err(self.too_large());
        }
        self.seen.insert(digest.clone());
        self.lease(&digest);
        for blob in &manifest.blobs {
            self.lease(&blob.digest);
        }
        let mut wanted: Vec<Descriptor> =
            self.options.platforms.select(&manifest.children).into_iter().cloned().collect();
        if let (true, false, PlatformSet::Some(machines)) =
            (wanted.is_empty(), manifest.children.is_empty(), &self.options.platforms)
        {
            let list = |all: Vec<String>| all.join(", ");
            return Err(Error::Platform {
                image: name(self.image),
                wanted: list(machines.iter().map(ToString::to_string).collect()),
                offered: list(
                    manifest
                        .children
                        .iter()
                        .filter_map(|c| c.platform.as_ref())
                        .take(32)
                        .map(ToString::to_string)
                        .collect(),
                ),
            });
        }
        wanted.reverse();
        Ok((digest, manifest, wanted))
    }

    /// What is about the manifests found, and what is about that; put before the root, which stays last.
    async fn referrers(&mut self, root: &Digest) -> Result<(), Error> {
        let Some(root_node) = self.nodes.pop() else { return Ok(()) };
        let mut subjects: Vec<Digest> = self.nodes.iter().map(|n| n.digest.clone()).collect();
        subjects.push(root.clone());
        while let Some(subject) = subjects.pop() {
            for found in self.registry.referrers(&self.image.repository, &subject, None).await? {
                if self.seen.contains(&found.digest) {
                    continue;
                }
                let manifest = self.manifest(&found.digest, Some(&found)).await?;
                subjects.push(found.digest.clone());
                self.walk(found.digest, manifest).await?;
            }
            for tag in cosign_tags(&subject) {
                self.cosign(tag).await?;
            }
        }
        self.nodes.push(root_node);
        Ok(())
    }

    async fn cosign(&mut self, tag: Tag) -> Result<(), Error> {
        let reference = Reference::Tag(tag.clone());
        match self.registry.get_manifest(&self.image.repository, &reference, None).await {
            Ok(Fetched::Manifest { bytes, media_type, digest }) => {
                if !self.seen.contains(&digest) {
                    let manifest = self.parse(bytes, Some(&media_type), &digest)?;
                    self.walk(digest.clone(), manifest).await?;
                }
                if let Some(node) = self.nodes.iter_mut().find(|n| n.digest == digest) {
                    node.tag = Some(tag);
                }
                Ok(())
            }
            Ok(Fetched::NotModified) => Ok(()),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// A manifest by digest: from the store if it is there, else from the registry.
    async fn manifest(&self, digest: &Digest, described: Option<&Descriptor>) -> Result<Manifest, Error> {
        let repository = &self.image.repository;
        let reference = Reference::Digest(digest.clone());
        if let Some(info) = self.store.manifest(repository, &reference)?
            && let Some(raw) =
                self.store.manifest_bytes(&info)?.filter(|raw| Digest::of(digest.algorithm(), raw) == *digest)
        {
            return self.parse(raw, Some(&info.media_type), digest);
        }
        match self.registry.get_manifest(repository, &reference, None).await? {
            Fetched::Manifest { bytes, media_type, .. } => {
                // The descriptor's type decides: a server may send a generic one.
                let declared = described.map_or(media_type.as_str(), |d| d.media_type.as_str());
                self.parse(bytes, Some(declared), digest)
            }
            Fetched::NotModified => {
                let host = self.registry.host().to_string();
                let what = "304 to a request without condition".to_string();
                Err(remote::Error::Protocol { host, object: name(self.image), what }.into())
            }
        }
    }

    fn parse(&self, raw: bytes::Bytes, declared: Option<&str>, digest: &Digest) -> Result<Manifest, Error> {
        Manifest::parse(raw, declared).map_err(|cause| Error::Manifest {
            image: name(self.image),
            digest: digest.clone(),
            cause,
        })
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { image: name(self.image), limit: MAX_NODES }
    }
}

/// Whether the store's tag (or pin) is already what the registry says, and known to be this registry's.
fn local_same(store: &Store, image: &ImageReference, root: &Digest) -> Result<bool, Error> {
    Ok(match &image.tag {
        Some(tag) => store.tag(&image.repository, tag)?.is_some_and(|t| {
            t.digest == *root && (t.origins.is_empty() || t.origins.contains(&image.registry))
        }),
        None => store.is_pinned(&image.repository, root)?,
    })
}
