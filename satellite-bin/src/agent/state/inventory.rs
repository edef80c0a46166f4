//! What is held, for reports.

use std::collections::HashSet;

use satellite_core::{
    fleet::CachedImage,
    oci::{Digest, Manifest, Reference, Repository},
    store::{self, Store},
};

/// Most images of a report.
const MAX: usize = 50_000;

/// Every tag in the store and every image held by its digest, as `HOST/REPOSITORY:TAG@DIGEST`, with the bytes of all that
/// is here of it. `host` is where clients find it. Blocks.
///
/// # Errors
/// The store's.
pub(super) fn held(store: &Store, host: &str) -> Result<Vec<CachedImage>, store::Error> {
    let mut all = Vec::new();
    for repository in store.repositories(None) {
        let repository = repository?;
        let mut add = |name: String, digest: &Digest| -> Result<(), store::Error> {
            let size = size(store, &repository, digest)?;
            let reference = format!("{host}/{repository}{name}@{digest}");
            all.push(CachedImage { reference, size_bytes: i64::try_from(size).unwrap_or(i64::MAX) });
            Ok(())
        };
        for tag in store.tags(&repository, None) {
            let (tag, digest) = tag?;
            add(format!(":{tag}"), &digest)?;
        }
        for info in store.manifests(&repository, None) {
            let info = info?;
            if store.is_pinned(&repository, &info.digest)? {
                add(String::new(), &info.digest)?;
            }
        }
        if all.len() >= MAX {
            break;
        }
    }
    all.truncate(MAX);
    Ok(all)
}

/// Config and layers of what is here of an image.
fn size(store: &Store, repository: &Repository, root: &Digest) -> Result<u64, store::Error> {
    let (mut size, mut seen, mut todo) = (0, HashSet::new(), vec![root.clone()]);
    while let Some(digest) = todo.pop() {
        let Some(info) = store.manifest(repository, &Reference::Digest(digest))? else { continue };
        let Some(raw) = store.manifest_bytes(&info)? else { continue };
        let Ok(manifest) = Manifest::parse(raw, Some(&info.media_type)) else { continue };
        for blob in manifest.blobs {
            if seen.insert(blob.digest.clone()) && store.blob_size(&blob.digest)?.is_some() {
                size += blob.size;
            }
        }
        todo.extend(manifest.children.into_iter().map(|c| c.digest).filter(|d| seen.insert(d.clone())));
    }
    Ok(size)
}
