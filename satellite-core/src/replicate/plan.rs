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

impl Plan {
    /// Leaves out images, in their order, that do not fit into `room` bytes beside those before them: better nothing of
    /// an image than a part that cannot become whole. `kept` says how much of a blob is here from an earlier try.
    /// Returns the images left out, with the bytes that each would have needed.
    pub fn fit(&mut self, room: u64, kept: impl Fn(&Transfer) -> u64) -> Vec<(usize, u64)> {
        let images = self.transfers.iter().flat_map(|t| &t.images).max().map_or(0, |last| last + 1);
        let mut counted = vec![false; self.transfers.len()];
        let (mut left, mut out) = (room, Vec::new());
        for image in 0..images {
            let mine: Vec<usize> = (0..counted.len())
                .filter(|i| !counted[*i] && self.transfers[*i].images.contains(&image))
                .collect();
            let need = mine.iter().fold(0u64, |n, i| {
                let transfer = &self.transfers[*i];
                n.saturating_add(transfer.size.saturating_sub(kept(transfer)))
            });
            match left.checked_sub(need) {
                Some(rest) => {
                    left = rest;
                    mine.into_iter().for_each(|i| counted[i] = true);
                }
                None => out.push((image, need)),
            }
        }
        for transfer in &mut self.transfers {
            transfer.images.retain(|image| !out.iter().any(|(left_out, _)| left_out == image));
        }
        self.transfers.retain(|t| !t.images.is_empty());
        out
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

    #[test]
    fn images_that_do_not_fit_are_left_out_and_the_others_come() {
        let transfer = |n: u8, size, images: &[usize]| Transfer {
            digest: Digest::sha256(&[n]),
            size,
            images: images.into(),
        };
        let all = [transfer(1, 10, &[0, 1]), transfer(2, 50, &[1]), transfer(3, 60, &[0, 2])];
        let fit = |room, kept: u64| {
            let mut plan = Plan { transfers: all.to_vec(), present: (0, 0) };
            let out = plan.fit(room, |t| kept.min(t.size));
            (out, plan.transfers.iter().map(|t| t.digest.clone()).collect::<Vec<_>>())
        };
        let [a, b, c] = [1u8, 2, 3].map(|n| Digest::sha256(&[n]));
        assert_eq!(fit(120, 0), (vec![], vec![a.clone(), b.clone(), c.clone()]));
        assert_eq!(fit(119, 0), (vec![(1, 50)], vec![a.clone(), c.clone()]));
        assert_eq!(fit(60, 0), (vec![(0, 70), (2, 60)], vec![a.clone(), b.clone()]));
        assert_eq!(fit(9, 0), (vec![(0, 70), (1, 60), (2, 60)], vec![]));
        assert_eq!(fit(90, 10), (vec![], vec![a, b, c]));
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
