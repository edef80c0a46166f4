#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
//! The cap and who goes first, checked by a model. `SATELLITE_MODEL_STEPS` and `SATELLITE_MODEL_SEED` as in `model_tests`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    model_tests::{Random, Run},
    *,
};
use crate::oci::{Algorithm, Manifest, Reference, Tag, media_type};

const CAP: u64 = 4 << 20;

fn image(random: &mut Random, blobs: &[(Digest, Bytes)]) -> (Digest, Manifest) {
    let chosen: Vec<_> = (0..=1 + random.below(3)).map(|_| &blobs[random.below(blobs.len())]).collect();
    let entry = |(digest, content): &&(Digest, Bytes)| serde_json::json!({"mediaType": "a/b", "digest": digest, "size": content.len()});
    let text = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": entry(&chosen[0]), "layers": chosen[1..].iter().map(entry).collect::<Vec<_>>(),
        "annotations": {"n": random.below(1 << 30).to_string()},
    })
    .to_string();
    (Digest::sha256(text.as_bytes()), Manifest::parse(text, None).unwrap())
}

struct World {
    store: Store,
    repository: Repository,
    blobs: Vec<(Digest, Bytes)>,
    images: Vec<(Digest, Manifest)>,
    /// Cached images and when they were last used.
    cached: BTreeMap<usize, u64>,
    held: BTreeSet<usize>,
    clock: u64,
    /// Leased in this step: it stays however long ago it was used.
    leased: Option<usize>,
}

impl World {
    fn size_of<'a>(&self, images: impl Iterator<Item = &'a usize>) -> u64 {
        let mut seen: BTreeMap<&Digest, u64> = BTreeMap::new();
        for image in images {
            let (digest, manifest) = &self.images[*image];
            seen.insert(digest, manifest.raw.len() as u64);
            seen.extend(manifest.blobs.iter().map(|b| (&b.digest, b.size)));
        }
        seen.values().sum()
    }

    /// Receives what an image needs, as a pull through or a replication does. `false`: there was no room.
    async fn fetch(&mut self, image: usize, stop_at: Option<usize>) -> bool {
        self.leased = Some(image);
        let (digest, manifest) = &self.images[image];
        let _leases: Vec<_> =
            manifest.blobs.iter().map(|b| &b.digest).chain([digest]).map(|d| self.store.lease(d)).collect();
        for (n, blob) in manifest.blobs.iter().enumerate() {
            let Receive::Lead(mut writer) = self.store.receive(&blob.digest, Some(blob.size)).await.unwrap()
            else {
                continue;
            };
            let content = &self.blobs.iter().find(|(d, _)| *d == blob.digest).unwrap().1;
            // Half of them say what they need, the others just write.
            let at = writer.offset() as usize;
            let mut result = Ok(());
            if n % 2 == 0 {
                result = writer.reserve((content.len() - at) as u64).await;
            }
            for piece in content.slice(at..).chunks(50_000) {
                if result.is_ok() {
                    result = writer.append(content.slice_ref(piece)).await;
                }
            }
            match result {
                Ok(()) if stop_at == Some(n) => {
                    writer.park("cut").await.ok();
                    return false;
                }
                Ok(()) => match writer.commit(&blob.digest).await {
                    Ok(_) => {}
                    Err(e) => {
                        assert!(e.is_no_space(), "{e}");
                        return false;
                    }
                },
                Err(e) => {
                    assert!(e.is_no_space(), "{e}");
                    writer.park("no room").await.ok();
                    return false;
                }
            }
        }
        true
    }

    async fn step(&mut self, random: &mut Random) {
        let image = random.below(self.images.len());
        let (digest, manifest) = self.images[image].clone();
        self.leased = None;
        match random.below(10) {
            0..=3 => {
                let stop = random.one_in(8).then(|| random.below(3));
                let needs = self.size_of(self.held.iter().chain([&image]));
                if self.fetch(image, stop).await {
                    let tag = (String::from("h.test"), format!("t{image}").parse::<Tag>().unwrap());
                    let put = Put { cached: Some(Cached { tags: vec![tag] }), ..Put::default() };
                    let put = self.store.put_manifest(&self.repository, &digest, manifest, put).await;
                    match put {
                        Ok(()) => {
                            self.store.used(&self.repository, &digest).unwrap();
                            self.clock += 1;
                            self.cached.insert(image, self.clock);
                        }
                        // Without a lease between its blobs' arrival and this, they may be gone again.
                        Err(e) => assert!(e.is_no_space() || matches!(e, Error::Incomplete { .. }), "{e}"),
                    }
                } else if stop.is_none() {
                    assert!(needs > CAP * 8 / 10, "refused, though {needs} bytes would do");
                }
            }
            4 => {
                let after = self.size_of(self.held.iter().chain([&image]));
                if after < CAP / 2 && self.fetch(image, None).await {
                    let put = Put { tags: vec![format!("h{image}").parse().unwrap()], ..Put::default() };
                    match self.store.put_manifest(&self.repository, &digest, manifest, put).await {
                        Ok(()) => drop(self.held.insert(image)),
                        Err(e) => assert!(e.is_no_space() || matches!(e, Error::Incomplete { .. }), "{e}"),
                    }
                }
            }
            5 if self.held.remove(&image) => {
                let tag = format!("h{image}").parse().unwrap();
                assert!(self.store.remove_tag(&self.repository, &tag).await.unwrap());
            }
            6 if random.one_in(20) => drop(self.store.gc(Some(Duration::ZERO)).await.unwrap()),
            _ if self.cached.contains_key(&image) => {
                self.store.used(&self.repository, &digest).unwrap();
                self.clock += 1;
                self.cached.insert(image, self.clock);
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let inner = &self.store.inner;
        let actual = inner.count().unwrap();
        assert!(actual <= CAP + CAP / 100, "{actual} bytes are there");
        assert_eq!(inner.space.used().unwrap_or(actual), actual, "the books");
        for image in &self.held {
            let (digest, manifest) = &self.images[*image];
            assert!(
                self.store.manifest(&self.repository, &Reference::Digest(digest.clone())).unwrap().is_some()
            );
            for blob in &manifest.blobs {
                assert_eq!(self.store.blob_size(&blob.digest).unwrap(), Some(blob.size), "a held image");
            }
        }
        let mut gone = Vec::new();
        let mut oldest = u64::MAX;
        for (image, used) in &self.cached {
            let (digest, manifest) = &self.images[*image];
            let tag = format!("t{image}").parse().unwrap();
            let tag = self.store.cached_tag(&self.repository, "h.test", &tag).unwrap();
            let here = self.store.cached(&self.repository, digest).unwrap().is_some();
            assert_eq!(tag.is_some(), here, "a cached image and its tag go together");
            if here {
                let stays = self.leased == Some(*image) || self.held.contains(image);
                oldest = oldest.min(if stays { u64::MAX } else { *used });
                for blob in &manifest.blobs {
                    assert_eq!(
                        self.store.blob_size(&blob.digest).unwrap(),
                        Some(blob.size),
                        "a cached image"
                    );
                }
            } else {
                gone.push((*image, *used));
            }
        }
        for (image, used) in gone {
            assert!(
                used < oldest || self.held.contains(&image),
                "evicted before one that nobody used for longer"
            );
            self.cached.remove(&image);
        }
    }
}

#[test]
fn the_cap_holds_and_the_least_recently_used_go_first() {
    let run = Run::new(3_000);
    let mut random = Random(run.seed);
    // In memory where there is such a place: a hundred thousand steps sync a lot.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let blobs: Vec<(Digest, Bytes)> = (0..60u32)
        .map(|n| {
            let length = if n % 5 == 0 { 300_000 } else { 1_000 } + random.below(200_000);
            let content: Bytes =
                (0..length as u32).map(|i| (i.wrapping_mul(n + 7) >> 3) as u8 ^ n as u8).collect();
            (Digest::sha256(&content), content)
        })
        .collect();
    let images = (0..60).map(|_| image(&mut random, &blobs)).collect();
    let options = Options {
        floor: 0,
        cap: Some(CAP),
        running: Duration::ZERO,
        grace: Duration::ZERO,
        ..Options::default()
    };
    let open = || Store::open(dir.path(), options.clone()).unwrap();
    let world = World {
        store: open(),
        repository: "a/b".parse().unwrap(),
        blobs,
        images,
        cached: BTreeMap::new(),
        held: BTreeSet::new(),
        clock: 0,
        leased: None,
    };
    let (evicted, most) = smol::block_on(async {
        let (mut world, mut evicted, mut most) = (world, 0, 0);
        for step in 0..run.steps {
            world.step(&mut random).await;
            world.check();
            most = most.max(world.store.inner.count().unwrap());
            if step % 2_000 == 1_999 {
                // Uses that were only noted are lost with the process: write them, as a collection does.
                world.store.inner.write_uses().unwrap();
                evicted += world.store.evicted().0;
                let World { store, repository, blobs, images, cached, held, clock, leased } = world;
                drop(store);
                world = World { store: open(), repository, blobs, images, cached, held, clock, leased };
            }
        }
        (evicted + world.store.evicted().0, most)
    });
    assert!(evicted > 0 || run.steps < 500, "nothing was ever evicted");
    assert!(most > CAP / 2, "the room is used: {most}");
}

#[test]
fn what_is_held_stays_when_it_is_more_than_the_cap() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let content: Bytes = vec![7; 100_000].into();
    let blobs = [(Digest::sha256(&content), content.clone())];
    let (digest, manifest) = image(&mut random, &blobs);
    let repository: Repository = "a".parse().unwrap();
    let open = |cap| {
        Store::open(dir.path(), Options { floor: 0, cap, running: Duration::ZERO, ..Options::default() })
    };
    smol::block_on(async {
        let store = open(None).unwrap();
        let mut writer = store.begin_upload(&repository, Algorithm::Sha256).await.unwrap();
        writer.append(content.clone()).await.unwrap();
        writer.commit(&blobs[0].0).await.unwrap();
        let put = Put { tags: vec!["v".parse().unwrap()], ..Put::default() };
        store.put_manifest(&repository, &digest, manifest, put).await.unwrap();
        drop(store);
        let store = open(Some(50_000)).unwrap();
        store.keep_cap().await.unwrap();
        assert_eq!(store.make_room(1).await.unwrap(), 0);
        assert_eq!(store.blob_size(&blobs[0].0).unwrap(), Some(100_000));
        let mut writer = store.begin_upload(&repository, Algorithm::Sha256).await.unwrap();
        let Err(Error::NoSpace { needs: 10, has: 0, cap: Some(50_000), .. }) = writer.reserve(10).await
        else {
            panic!("there is no room")
        };
        let refused = writer.append(vec![1; 300_000].into()).await.unwrap_err();
        assert!(refused.to_string().contains("raise the cap or remove images"), "{refused}");
    });
}
