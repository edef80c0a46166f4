//! Manifests that were asked for lately: read once, checked against their digest once.
//!
//! What the cache holds is right whatever becomes of the file; whether the blobs are here is looked up each time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Inner, ManifestInfo, Store, error::Result};
use crate::oci::{Digest, Manifest};

/// Bytes of manifests held. A manifest of an image has some kilobytes: a hundred images or more.
const MAX_BYTES: usize = 512 << 10;
/// Larger ones are read each time.
const MAX_ONE: usize = 64 << 10;

/// A manifest whose bytes are what its digest says.
#[derive(Debug)]
pub struct KnownManifest {
    /// The bytes.
    pub raw: Bytes,
    /// Blobs that it names, with their sizes; foreign ones are not among them.
    blobs: Box<[(Digest, u64)]>,
}

impl KnownManifest {
    fn weight(&self) -> usize {
        self.raw.len() + self.blobs.len() * size_of::<(Digest, u64)>()
    }
}

#[derive(Default)]
pub(super) struct Known(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    by_digest: HashMap<u128, (Arc<KnownManifest>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Known {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, digest: &Digest) -> Option<Arc<KnownManifest>> {
        let mut inside = self.inside();
        inside.clock += 1;
        let clock = inside.clock;
        let (known, used) = inside.by_digest.get_mut(&digest.prefix128())?;
        *used = clock;
        Some(known.clone())
    }

    fn put(&self, digest: &Digest, known: &Arc<KnownManifest>) {
        if known.weight() > MAX_ONE {
            return;
        }
        let mut inside = self.inside();
        while inside.bytes + known.weight() > MAX_BYTES {
            let oldest = inside.by_digest.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| *name);
            let Some((gone, _)) = oldest.and_then(|name| inside.by_digest.remove(&name)) else { break };
            inside.bytes -= gone.weight();
        }
        let clock = inside.clock;
        if let Some((old, _)) = inside.by_digest.insert(digest.prefix128(), (known.clone(), clock)) {
            inside.bytes -= old.weight();
        }
        inside.bytes += known.weight();
    }
}

impl Store {
    /// A manifest's bytes, checked against its digest. `None` if the file is missing or damaged; a damaged one is set
    /// aside, so that it can be fetched again.
    pub async fn known_manifest(&self, info: &ManifestInfo) -> Result<Option<Arc<KnownManifest>>> {
        if let Some(known) = self.inner.known.get(&info.digest) {
            return Ok(Some(known));
        }
        let Some(known) = self.inner.read_known(info)? else {
            if let Some(blob) = self.open_blob(&info.digest)? {
                self.set_aside(&blob, &info.digest).await?;
            }
            return Ok(None);
        };
        self.inner.known.put(&info.digest, &known);
        Ok(Some(known))
    }

    /// The first blob of a manifest that is not here in its size.
    pub fn missing_of(&self, manifest: &KnownManifest) -> Result<Option<Digest>> {
        for (digest, size) in &manifest.blobs {
            if self.blob_size(digest)? != Some(*size) {
                return Ok(Some(digest.clone()));
            }
        }
        Ok(None)
    }
}

impl Inner {
    fn read_known(&self, info: &ManifestInfo) -> Result<Option<Arc<KnownManifest>>> {
        let Some(raw) = self.read_small(&info.digest, Some(info.size))? else { return Ok(None) };
        if Digest::of(info.digest.algorithm(), &raw) != info.digest {
            return Ok(None);
        }
        let manifest = Manifest::parse(raw, Some(&info.media_type))?;
        let blobs =
            manifest.blobs.into_iter().filter(|b| !b.is_foreign()).map(|b| (b.digest, b.size)).collect();
        Ok(Some(Arc::new(KnownManifest { raw: manifest.raw, blobs })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_and_the_bound_holds() {
        let known = Known::default();
        let manifest = |n: u8| {
            let raw = Bytes::from(vec![n; 60 << 10]);
            (Digest::sha256(&raw), Arc::new(KnownManifest { raw, blobs: Box::default() }))
        };
        for n in 0..40 {
            let (digest, one) = manifest(n);
            known.put(&digest, &one);
            assert!(known.get(&manifest(0).0).is_some(), "used all the time");
            assert!(known.inside().bytes <= MAX_BYTES);
        }
        assert!(known.get(&manifest(1).0).is_none() && known.get(&manifest(39).0).is_some());
        let large = Arc::new(KnownManifest { raw: vec![1; MAX_ONE + 1].into(), blobs: Box::default() });
        known.put(&Digest::sha256(b"large"), &large);
        assert!(known.get(&Digest::sha256(b"large")).is_none());
    }
}
