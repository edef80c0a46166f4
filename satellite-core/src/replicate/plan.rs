//! Which blobs are missing, and in which order they come. Pure.

use std::collections::HashMap;

use crate::oci::{Descriptor, Digest, Manifest};

/// One blob to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The blob.
    pub digest: Digest,
    /// Its size, as the first manifest that names it says.
    pub size: u64,
    /// The images that need it, by their place in what was wanted: each is a repository to ask.
    pub images: Vec<usize>,
}

/// What is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blobs to fetch, each once, small ones first: they finish images, and cost large ones little.
    pub transfers: Vec<Transfer>,
    /// Blobs that are here, and their bytes.
    pub present: (u64, u64),
}

impl Plan {
    /// Bytes of all blobs to fetch.
    pub fn bytes(&self) -> u64 {
        self.transfers.iter().fold(0, |n, t| n.saturating_add(t.size))
    }
}

/// Compares what images need with what is here. `images[i]` are the manifests of the i-th image. Foreign layers are not
/// fetched: registries need not have them.
pub fn plan<'a>(
    images: impl IntoIterator<Item = impl IntoIterator<Item = &'a Manifest>>,
    mut is_present: impl FnMut(&Descriptor) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    // Place in `transfers`, or none if it is here.
    let mut seen: HashMap<&'a Digest, Option<usize>> = HashMap::new();
    for (image, manifests) in images.into_iter().enumerate() {
        for blob in manifests.into_iter().flat_map(|m| &m.blobs).filter(|b| !b.is_foreign()) {
            let place = *seen.entry(&blob.digest).or_insert_with(|| {
                if is_present(blob) {
                    plan.present.0 += 1;
                    plan.present.1 = plan.present.1.saturating_add(blob.size);
                    return None;
                }
                let transfer = Transfer { digest: blob.digest.clone(), size: blob.size, images: Vec::new() };
                plan.transfers.push(transfer);
                Some(plan.transfers.len() - 1)
            });
            if let Some(place) = place {
                let users = &mut plan.transfers[place].images;
                if users.last() != Some(&image) {
                    users.push(image);
                }
            }
        }
    }
    plan.transfers.sort_by_key(|t| t.size);
    plan
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::oci::media_type;

    fn manifest(blobs: &[(u8, bool)]) -> Manifest {
        let mut manifest = Manifest::parse(r#"{"config":{}}"#, Some("application/vnd.test")).unwrap();
        manifest.blobs = blobs
            .iter()
            .map(|(n, foreign)| {
                let kind = if *foreign {
                    "application/vnd.docker.image.rootfs.foreign.diff.tar"
                } else {
                    media_type::OCI_LAYER_GZIP
                };
                let mut d = Descriptor::new(kind, Digest::sha256(&[*n]), u64::from(*n) * 7 % 50);
                d.has_urls = *foreign;
                d
            })
            .collect();
        manifest
    }

    proptest! {
        #[test]
        fn every_missing_blob_comes_once_small_first_and_nothing_else(
            images in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec((0u8..30, prop::bool::weighted(0.1)), 0..6), 0..4), 0..6),
            present in proptest::collection::btree_set(0u8..30, 0..20),
        ) {
            let manifests: Vec<Vec<Manifest>> = images.iter().map(|i| i.iter().map(|m| manifest(m)).collect()).collect();
            let here: BTreeSet<Digest> = present.iter().map(|n| Digest::sha256(&[*n])).collect();
            let plan = plan(manifests.iter(), |d| here.contains(&d.digest));

            let mut expected: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
            let mut kept = BTreeSet::new();
            for (i, image) in images.iter().enumerate() {
                for (n, _) in image.iter().flatten().filter(|(_, foreign)| !foreign) {
                    let digest = Digest::sha256(&[*n]);
                    if here.contains(&digest) {
                        kept.insert(digest);
                    } else {
                        let users = expected.entry(digest).or_default();
                        if !users.contains(&i) {
                            users.push(i);
                        }
                    }
                }
            }
            let got: BTreeMap<Digest, Vec<usize>> =
                plan.transfers.iter().map(|t| (t.digest.clone(), t.images.clone())).collect();
            prop_assert_eq!(got.len(), plan.transfers.len());
            prop_assert_eq!(got, expected);
            prop_assert!(plan.transfers.is_sorted_by_key(|t| t.size));
            prop_assert_eq!(plan.present.0, kept.len() as u64);
            prop_assert_eq!(plan.bytes(), plan.transfers.iter().map(|t| t.size).sum::<u64>());
        }
    }
}
