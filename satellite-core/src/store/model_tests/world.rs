//! One thread: the model knows exactly what must be left.

use super::universe::{Snapshot, Universe};
use super::*;

/// A store, and what must be in it.
struct World {
    universe: Universe,
    dir: tempfile::TempDir,
    store: Option<Store>,
    leases: Vec<Lease>,
    leased: Vec<Digest>,
    model: Snapshot,
    /// Files whose time of change is long past.
    old: BTreeSet<Digest>,
    /// What was asked for or written since the store was opened.
    touched: BTreeSet<Digest>,
    /// Bytes that transfers left.
    partial: BTreeMap<usize, u64>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            universe: Universe::new(random),
            store: Some(open(dir.path())),
            dir,
            leases: Vec::new(),
            leased: Vec::new(),
            model: Snapshot::default(),
            old: BTreeSet::new(),
            touched: BTreeSet::new(),
            partial: BTreeMap::new(),
        }
    }

    fn store(&self) -> Store {
        self.store.clone().expect("open")
    }

    async fn step(&mut self, random: &mut Random) {
        let r = random.below(self.universe.repositories.len());
        let b = random.below(self.universe.blobs.len());
        let t = random.below(TAGS);
        let n = random.below(self.universe.manifests.len());
        let repository = self.universe.repositories[r].clone();
        match random.below(32) {
            0..=5 => self.upload(r, b).await,
            6..=9 => self.receive(b, random).await,
            10..=11 => {
                let digest = self.universe.blobs[b].0.clone();
                let there = self.model.files.contains(&digest);
                assert_eq!(self.store().mount(&repository, &digest).await.unwrap(), there);
                if there {
                    self.model.links.insert((r, digest.clone()));
                }
                self.touched.insert(digest);
            }
            12..=18 => self.put(r, n, t, random).await,
            // A push of a whole image, so that there are enough of them.
            19 => {
                for blob in self.universe.manifests[n].1.blobs.clone() {
                    let at = self.universe.blobs.iter().position(|(d, _)| *d == blob.digest).unwrap();
                    self.upload(r, at).await;
                }
                self.put(r, n, t, random).await;
            }
            20..=21 => {
                let tag = &self.universe.tags[t];
                let was = self.model.tags.remove(&(r, t)).is_some();
                assert_eq!(self.store().remove_tag(&repository, tag).await.unwrap(), was);
            }
            22 => {
                let was = self.model.manifests.remove(&(r, n));
                self.model.tags.retain(|(of, _), target| *of != r || *target != n);
                self.model.pins.remove(&(r, n));
                self.model.forget_referrers(&self.universe);
                let digest = &self.universe.manifests[n].0;
                assert_eq!(self.store().remove_manifest(&repository, digest).await.unwrap(), was);
            }
            23 => self.unlink(r, b).await,
            24 => {
                let was = self.model.pins.remove(&(r, n));
                let digest = &self.universe.manifests[n].0;
                assert_eq!(self.store().unpin(&repository, digest).await.unwrap(), was);
            }
            25 => {
                let digest = match random.one_in(2) {
                    true => self.universe.blobs[b].0.clone(),
                    false => self.universe.manifests[n].0.clone(),
                };
                self.leases.push(self.store().lease(&digest));
                self.leased.push(digest);
            }
            26 if !self.leases.is_empty() => {
                let at = random.below(self.leases.len());
                self.leases.swap_remove(at);
                self.leased.swap_remove(at);
            }
            27 => self.age(random),
            28 if random.one_in(4) => self.reopen(random).await,
            29 if random.one_in(8) => {
                let report = self.store().fsck(Mend::Nothing, |_, _| ()).await.unwrap();
                assert_eq!(report.findings, []);
            }
            30..=31 => self.gc(random).await,
            _ => {}
        }
    }

    async fn upload(&mut self, r: usize, b: usize) {
        let (digest, content) = self.universe.blobs[b].clone();
        let repository = &self.universe.repositories[r];
        let mut writer = self.store().begin_upload(repository, Algorithm::Sha256).await.unwrap();
        writer.append(content).await.unwrap();
        writer.commit(&digest).await.unwrap();
        self.model.links.insert((r, digest.clone()));
        self.written(digest);
    }

    fn written(&mut self, digest: Digest) {
        self.old.remove(&digest);
        self.touched.insert(digest.clone());
        self.model.files.insert(digest);
    }

    async fn receive(&mut self, b: usize, random: &mut Random) {
        let (digest, content) = self.universe.blobs[b].clone();
        let at = self.partial.get(&b).copied().unwrap_or_default();
        let size = content.len() as u64;
        self.touched.insert(digest.clone());
        match self.store().receive(&digest, Some(size)).await.unwrap() {
            Receive::Present(found) => {
                assert!(found == size && self.model.files.contains(&digest));
            }
            Receive::Join(_) => panic!("nobody else receives it"),
            Receive::Lead(mut writer) => {
                assert!(!self.model.files.contains(&digest));
                assert_eq!(writer.offset(), at, "a transfer goes on where it stopped");
                let left = content.slice(at as usize..);
                if random.one_in(2) {
                    writer.append(left).await.unwrap();
                    writer.commit(&digest).await.unwrap();
                    self.partial.remove(&b);
                    self.written(digest);
                } else {
                    let some = left.slice(..random.below(left.len() + 1));
                    writer.append(some.clone()).await.unwrap();
                    let kept = writer.park("cut").await.unwrap();
                    assert_eq!(kept, at + some.len() as u64);
                    self.partial.insert(b, kept);
                }
            }
        }
    }

    async fn put(&mut self, r: usize, n: usize, t: usize, random: &mut Random) {
        let (digest, manifest) = self.universe.manifests[n].clone();
        let sparse = if random.one_in(4) { Sparse::Children } else { Sparse::Nothing };
        let put = Put {
            tags: if random.one_in(4) { Vec::new() } else { vec![self.universe.tags[t].clone()] },
            pin: random.one_in(6),
            sparse,
            origins: if random.one_in(6) { vec![HOSTS[random.below(2)].into()] } else { Vec::new() },
            cached: None,
        };
        self.touched.insert(digest.clone());
        let mut whole = true;
        for blob in &manifest.blobs {
            self.touched.insert(blob.digest.clone());
            whole = self.model.files.contains(&blob.digest);
            if !whole {
                break;
            }
        }
        let there = self.model.there(r);
        let child = |c: &crate::oci::Descriptor| there.contains(&self.universe.number(&c.digest));
        let whole = whole && (sparse == Sparse::Children || manifest.children.iter().all(child));
        let repository = &self.universe.repositories[r];
        match self.store().put_manifest(repository, &digest, manifest.clone(), put.clone()).await {
            Ok(()) => assert!(whole, "{digest} was taken without what it needs"),
            Err(Error::Incomplete { .. }) if !whole => return,
            Err(e) => panic!("{digest}: {e}"),
        }
        if self.model.files.insert(digest.clone()) {
            self.old.remove(&digest);
        }
        self.model.manifests.insert((r, n));
        self.model.links.extend(manifest.blobs.iter().map(|b| (r, b.digest.clone())));
        self.model.forget_referrers(&self.universe);
        if put.pin {
            self.model.pins.insert((r, n));
        }
        if !put.tags.is_empty() {
            self.model.tags.insert((r, t), n);
        }
        self.model.origins.extend(put.origins.into_iter().map(|o| (r, o)));
    }

    async fn unlink(&mut self, r: usize, b: usize) {
        let digest = &self.universe.blobs[b].0;
        let names = |n: usize| self.universe.manifests[n].1.blobs.iter().any(|blob| blob.digest == *digest);
        let used = self.model.there(r).into_iter().any(names);
        match self.store().unlink_blob(&self.universe.repositories[r], digest).await {
            Ok(was) => {
                assert!(!used, "an image lost a blob");
                assert_eq!(was, self.model.links.remove(&(r, digest.clone())));
            }
            Err(Error::BlobInUse { .. }) if used => {}
            Err(e) => panic!("{e}"),
        }
    }

    /// Time passes for one file.
    fn age(&mut self, random: &mut Random) {
        let Some(digest) = self.model.files.iter().nth(random.below(self.model.files.len().max(1))) else {
            return;
        };
        let file = OpenOptions::new().write(true).open(self.store().inner.files.blob(digest)).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
        self.store().inner.untouch(digest);
        self.touched.remove(digest);
        self.old.insert(digest.clone());
    }

    async fn gc(&mut self, random: &mut Random) {
        let grace = if random.one_in(2) { HOUR } else { Duration::ZERO };
        self.store().gc(Some(grace)).await.unwrap();
        let (files, leased) = (self.model.files.clone(), self.leased.clone());
        let fresh = |d: &Digest| {
            let young = self.touched.contains(d) || files.contains(d) && !self.old.contains(d);
            leased.contains(d) || !grace.is_zero() && young
        };
        self.model.collect(&self.universe, fresh);
        self.old.retain(|d| self.model.files.contains(d));
        self.check();
    }

    /// Nothing more and nothing less than the model says.
    fn check(&self) {
        assert_eq!(Snapshot::of(&self.store(), &self.universe), self.model);
    }

    async fn reopen(&mut self, random: &mut Random) {
        let lose = random.one_in(2);
        if lose {
            self.store().refresh_layout().await.unwrap();
        }
        self.leases.clear();
        self.leased.clear();
        self.touched.clear();
        self.store = None;
        if lose {
            lose_index(self.dir.path(), random);
            // What an index.json does not say: blobs that no image names, and the origin of nothing.
            let manifests = self.model.manifests.clone();
            let named = manifests.iter().flat_map(|(r, n)| {
                let (own, manifest) = &self.universe.manifests[*n];
                self.touched.insert(own.clone());
                manifest.blobs.iter().map(|b| (*r, b.digest.clone()))
            });
            self.model.links = named.collect();
            self.touched.extend(self.model.links.iter().map(|(_, d)| d.clone()));
            self.model.origins.retain(|(r, _)| manifests.iter().any(|(of, _)| of == r));
        }
        self.store = Some(open(self.dir.path()));
        self.check();
    }
}

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, Options { floor: 0, ..Options::default() }).unwrap()
}

/// In one of the ways that disks and people have.
fn lose_index(dir: &Path, random: &mut Random) {
    let index = dir.join(".satellite/index");
    match random.below(3) {
        0 => fs::remove_dir_all(&index).unwrap(),
        1 => fs::write(index.join("db"), vec![random.below(256) as u8; 700_000]).unwrap(),
        _ => drop(File::create(dir.join(".satellite/index.damaged")).unwrap()),
    }
}

#[test]
fn a_collection_leaves_exactly_what_is_held() {
    let run = Run::new(3000);
    let mut random = Random(run.seed);
    let mut world = World::new(&mut random);
    smol::block_on(async {
        for _ in 0..run.steps {
            world.step(&mut random).await;
        }
        world.leases.clear();
        world.leased.clear();
        world.gc(&mut random).await;
        assert_eq!(world.store().fsck(Mend::Nothing, |_, _| ()).await.unwrap().findings, []);
        world.reopen(&mut random).await;
    });
}

#[test]
fn an_index_rebuilt_from_the_layout_says_what_the_lost_one_said() {
    let run = Run::new(300);
    let mut random = Random(run.seed ^ 1);
    for _ in 0..run.steps.div_ceil(100).min(1000) {
        let mut world = World::new(&mut random);
        smol::block_on(async {
            for _ in 0..100 {
                world.step(&mut random).await;
            }
            world.store().refresh_layout().await.unwrap();
        });
        let before = Snapshot::of(&world.store(), &world.universe);
        world.leases.clear();
        world.store = None;
        lose_index(world.dir.path(), &mut random);
        let after = Snapshot::of(&open(world.dir.path()), &world.universe);
        assert_eq!(
            (&after.manifests, &after.tags, &after.pins, &after.referrers, &after.files),
            (&before.manifests, &before.tags, &before.pins, &before.referrers, &before.files)
        );
        let known = |(r, _): &&(usize, String)| before.manifests.iter().any(|(of, _)| of == r);
        assert!(after.origins.iter().eq(before.origins.iter().filter(known)));
    }
}
