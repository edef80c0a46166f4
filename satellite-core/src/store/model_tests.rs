#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
//! Garbage collection against everything else, checked by a model.
//!
//! A small universe (three repositories, twenty blobs, images, indexes, things about them) is pushed, mounted, moved,
//! deleted and collected at random. In one thread the model knows exactly what must be left. In several, nobody may lose
//! what the rules of the store promise them, and at the end exactly what is reachable is left.
//!
//! `SATELLITE_MODEL_STEPS` says how many steps, `SATELLITE_MODEL_SEED` which; a failure prints both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::json;

use super::*;
use crate::oci::{Algorithm, Manifest, Reference, Tag, media_type};

const HOUR: Duration = Duration::from_secs(3600);
const HOSTS: [&str; 2] = ["one.test", "two.test:5000"];
const TAGS: usize = 3;

/// Numbers that a seed makes again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Says how to get the same failure again.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) steps: usize,
}

impl Run {
    pub(super) fn new(default_steps: usize) -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|t| t.parse::<u64>().expect(name));
        Self {
            seed: number("SATELLITE_MODEL_SEED").unwrap_or_else(files::random_u64),
            steps: number("SATELLITE_MODEL_STEPS").map_or(default_steps, |n| n as usize),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: SATELLITE_MODEL_SEED={} SATELLITE_MODEL_STEPS={}", self.seed, self.steps);
        }
    }
}

/// Everything that can exist.
struct Universe {
    repositories: Vec<Repository>,
    tags: Vec<Tag>,
    blobs: Vec<(Digest, Bytes)>,
    /// Images, then indexes, then what is about any of them.
    manifests: Vec<(Digest, Manifest)>,
}

impl Universe {
    const IMAGES: usize = 10;
    const INDEXES: usize = 4;
    const REFERRERS: usize = 6;

    fn new(random: &mut Random) -> Self {
        let blobs: Vec<(Digest, Bytes)> = (0..20u8)
            .map(|n| {
                let content: Bytes = (0..=random.below(400)).map(|i| n ^ i as u8).chain([n]).collect();
                (Digest::sha256(&content), content)
            })
            .collect();
        let mut universe = Self {
            repositories: ["a", "a/b", "c.d/e"].map(|n| n.parse().unwrap()).into(),
            tags: (0..TAGS).map(|n| format!("v{n}").parse().unwrap()).collect(),
            blobs,
            manifests: Vec::new(),
        };
        for n in 0..Self::IMAGES + Self::INDEXES + Self::REFERRERS {
            let is_index = (Self::IMAGES..Self::IMAGES + Self::INDEXES).contains(&n);
            let kind = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
            let mut value =
                json!({"schemaVersion": 2, "mediaType": kind, "annotations": {"n": n.to_string()}});
            if is_index {
                let mut children: Vec<_> =
                    (0..3).map(|_| universe.describe(random.below(Self::IMAGES))).collect();
                if n == Self::IMAGES + 1 {
                    children.push(universe.describe(Self::IMAGES));
                }
                value["manifests"] = children.into();
            } else {
                let mut blobs = (0..=n % 4).map(|_| {
                    let (digest, content) = &universe.blobs[random.below(universe.blobs.len())];
                    json!({"mediaType": "a/b", "digest": digest, "size": content.len()})
                });
                value["config"] = blobs.next().unwrap();
                value["layers"] = blobs.collect();
            }
            if n >= Self::IMAGES + Self::INDEXES {
                value["subject"] = universe.describe(random.below(n));
            }
            let text = value.to_string();
            universe.manifests.push((Digest::sha256(text.as_bytes()), Manifest::parse(text, None).unwrap()));
        }
        universe
    }

    fn describe(&self, manifest: usize) -> serde_json::Value {
        let (digest, manifest) = &self.manifests[manifest];
        json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.raw.len()})
    }

    fn number(&self, digest: &Digest) -> usize {
        self.manifests.iter().position(|(d, _)| d == digest).expect("of this universe")
    }

    /// What is reachable within one repository that has the manifests `there`, from `roots`.
    fn closure(&self, there: &BTreeSet<usize>, roots: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<usize> = roots.into_iter().collect();
        while let Some(n) = todo.pop() {
            if !there.contains(&n) || !reached.insert(n) {
                continue;
            }
            let (digest, manifest) = &self.manifests[n];
            todo.extend(manifest.children.iter().map(|c| self.number(&c.digest)));
            let about =
                |m: &usize| self.manifests[*m].1.subject.as_ref().is_some_and(|s| s.digest == *digest);
            todo.extend(there.iter().copied().filter(about));
        }
        reached
    }
}

/// All that a store says it holds, in one comparable value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    files: BTreeSet<Digest>,
    links: BTreeSet<(usize, Digest)>,
    manifests: BTreeSet<(usize, usize)>,
    tags: BTreeMap<(usize, usize), usize>,
    pins: BTreeSet<(usize, usize)>,
    /// Repository, subject, referrer.
    referrers: BTreeSet<(usize, Digest, usize)>,
    origins: BTreeSet<(usize, String)>,
}

impl Snapshot {
    fn of(store: &Store, universe: &Universe) -> Self {
        let mut seen = Self::default();
        store
            .inner
            .files
            .each_blob(|digest, _| {
                seen.files.insert(digest);
                Ok(())
            })
            .unwrap();
        for (r, repository) in universe.repositories.iter().enumerate() {
            let rests = |kind: Kind| {
                let prefix = index::key(kind, repository, &[]);
                let rest = |item: Result<(sled::IVec, sled::IVec)>| item.unwrap().0[prefix.len()..].to_vec();
                store.inner.index.scan(&prefix, None).map(rest).collect::<Vec<_>>()
            };
            let digests = |kind: Kind| rests(kind).into_iter().map(|rest| Digest::from_key(&rest).unwrap());
            seen.links.extend(digests(Kind::Link).map(|d| (r, d)));
            seen.pins.extend(digests(Kind::Pin).map(|d| (r, universe.number(&d))));
            for rest in rests(Kind::Referrer) {
                let (subject, referrer) = rest.split_at(33);
                let digest = |key: &[u8]| Digest::from_key(key).unwrap();
                seen.referrers.insert((r, digest(subject), universe.number(&digest(referrer))));
            }
            seen.origins.extend(store.origins(repository).unwrap().into_iter().map(|o| (r, o)));
            for info in store.manifests(repository, None) {
                let info = info.unwrap();
                let n = universe.number(&info.digest);
                let manifest = &universe.manifests[n].1;
                assert_eq!(info.media_type, manifest.media_type);
                assert_eq!(store.manifest_bytes(&info).unwrap().as_ref(), Some(&manifest.raw));
                seen.manifests.insert((r, n));
            }
            for tag in store.tags(repository, None) {
                let (tag, digest) = tag.unwrap();
                let t = universe.tags.iter().position(|t| *t == tag).unwrap();
                seen.tags.insert((r, t), universe.number(&digest));
            }
        }
        seen
    }

    fn there(&self, repository: usize) -> BTreeSet<usize> {
        self.manifests.iter().filter(|(r, _)| *r == repository).map(|(_, n)| *n).collect()
    }

    /// Manifests that must stay, if those that are `fresh` are held beside tags and pins.
    fn reachable(&self, universe: &Universe, fresh: impl Fn(&Digest) -> bool) -> BTreeSet<(usize, usize)> {
        let mut kept = BTreeSet::new();
        for r in 0..universe.repositories.len() {
            let there = self.there(r);
            let tagged = self.tags.iter().filter(|((of, _), _)| *of == r).map(|(_, n)| *n);
            let pinned = self.pins.iter().filter(|(of, _)| *of == r).map(|(_, n)| *n);
            let young = there.iter().copied().filter(|n| fresh(&universe.manifests[*n].0));
            kept.extend(
                universe.closure(&there, tagged.chain(pinned).chain(young)).into_iter().map(|n| (r, n)),
            );
        }
        kept
    }

    /// What a collection leaves.
    fn collect(&mut self, universe: &Universe, fresh: impl Fn(&Digest) -> bool) {
        let kept = self.reachable(universe, &fresh);
        let named = |r: Option<usize>, digest: &Digest| {
            kept.iter().any(|(of, n)| {
                let (own, manifest) = &universe.manifests[*n];
                r.is_none_or(|r| r == *of)
                    && (r.is_none() && own == digest || manifest.blobs.iter().any(|b| b.digest == *digest))
            })
        };
        self.links.retain(|(r, digest)| named(Some(*r), digest) || fresh(digest));
        self.files.retain(|digest| named(None, digest) || fresh(digest));
        self.manifests = kept;
        self.forget_referrers(universe);
    }

    fn forget_referrers(&mut self, universe: &Universe) {
        let about = |(r, n): &(usize, usize)| {
            universe.manifests[*n].1.subject.as_ref().map(|s| (*r, s.digest.clone(), *n))
        };
        self.referrers = self.manifests.iter().filter_map(about).collect();
    }
}

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

fn open(dir: &Path) -> Store {
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

/// How publishers keep what they have not named yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// As the replicator does: leases on all of it. Collections have no grace.
    Leases,
    /// As a registry's clients do: they are quick, and what they asked for or sent is young.
    Grace(Duration),
}

/// Changes begun and done to each tag, so that a reader knows whether what it resolved was the truth all along.
#[derive(Default)]
struct Changes {
    begun: AtomicU64,
    done: AtomicU64,
}

struct Shared {
    universe: Universe,
    store: Store,
    holds: Holds,
    changes: [[Changes; TAGS]; 3],
    done: AtomicBool,
    /// Publications that had to work, and did; whole images read.
    published: AtomicU64,
    pulled: AtomicU64,
}

impl Shared {
    async fn changing<T>(&self, r: usize, tags: &[usize], change: impl Future<Output = T>) -> T {
        tags.iter().for_each(|t| _ = self.changes[r][*t].begun.fetch_add(1, Ordering::SeqCst));
        let result = change.await;
        tags.iter().for_each(|t| _ = self.changes[r][*t].done.fetch_add(1, Ordering::SeqCst));
        result
    }

    async fn bring_blob(&self, r: usize, digest: &Digest, random: &mut Random) {
        let (store, repository) = (&self.store, &self.universe.repositories[r]);
        let content = &self.universe.blobs.iter().find(|(d, _)| d == digest).unwrap().1;
        match random.below(3) {
            0 if store.mount(repository, digest).await.unwrap() => return,
            // As the engine does: lead, or wait for whoever does, and look again.
            1 => loop {
                match store.receive(digest, Some(content.len() as u64)).await.unwrap() {
                    Receive::Present(_) => return,
                    Receive::Join(arrival) => drop(arrival.ended().await),
                    Receive::Lead(mut writer) => {
                        writer.append(content.slice(writer.offset() as usize..)).await.unwrap();
                        if random.one_in(4) {
                            writer.park("cut").await.unwrap();
                            continue;
                        }
                        writer.commit(digest).await.unwrap();
                        return;
                    }
                }
            },
            _ => {}
        }
        let mut writer = store.begin_upload(repository, Algorithm::Sha256).await.unwrap();
        writer.append(content.clone()).await.unwrap();
        writer.commit(digest).await.unwrap();
    }

    /// Blobs, then children, then the manifest with its tag.
    async fn publish(&self, random: &mut Random) {
        let r = random.below(self.universe.repositories.len());
        let root = random.below(self.universe.manifests.len());
        let t = random.below(TAGS);
        let mut order = vec![root];
        let mut at = 0;
        while at < order.len() {
            let children = &self.universe.manifests[order[at]].1.children;
            order.extend(children.iter().map(|c| self.universe.number(&c.digest)));
            at += 1;
        }
        order.reverse();
        let begun = Instant::now();
        let mut leases = Vec::new();
        if self.holds == Holds::Leases {
            for n in &order {
                let (digest, manifest) = &self.universe.manifests[*n];
                leases.push(self.store.lease(digest));
                leases.extend(manifest.blobs.iter().map(|b| self.store.lease(&b.digest)));
            }
        }
        for n in &order {
            for blob in &self.universe.manifests[*n].1.blobs {
                self.bring_blob(r, &blob.digest, random).await;
            }
        }
        for n in order {
            let (digest, manifest) = self.universe.manifests[n].clone();
            let own = n == root && !random.one_in(5);
            let put = Put {
                cached: None,
                tags: if own { vec![self.universe.tags[t].clone()] } else { Vec::new() },
                ..Put::default()
            };
            let tags: &[usize] = if own { &[t] } else { &[] };
            let put = self.store.put_manifest(&self.universe.repositories[r], &digest, manifest, put);
            match self.changing(r, tags, put).await {
                Ok(()) => {}
                // Slower than the grace period: what it brought may be gone, and it is told so.
                Err(Error::Incomplete { .. }) if matches!(self.holds, Holds::Grace(grace) if begun.elapsed() >= grace) =>
                {
                    return;
                }
                Err(e) => panic!("{digest} could not be published: {e}"),
            }
        }
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    async fn pull(&self, random: &mut Random) {
        let r = random.below(self.universe.repositories.len());
        let t = random.below(TAGS);
        let changes = &self.changes[r][t];
        let quiet = changes.done.load(Ordering::SeqCst);
        if changes.begun.load(Ordering::SeqCst) != quiet {
            return;
        }
        let reference = Reference::Tag(self.universe.tags[t].clone());
        let whole = match self.store.manifest(&self.universe.repositories[r], &reference).unwrap() {
            Some(info) => self.read(r, info).await,
            None => Ok(()),
        };
        match whole {
            Ok(()) => _ = self.pulled.fetch_add(1, Ordering::Relaxed),
            Err(why) => assert_ne!(changes.begun.load(Ordering::SeqCst), quiet, "a tagged image lost {why}"),
        }
    }

    async fn read(&self, r: usize, root: ManifestInfo) -> std::result::Result<(), String> {
        let mut todo = vec![root];
        while let Some(info) = todo.pop() {
            let lost = || format!("manifest {}", info.digest);
            let raw = self.store.manifest_bytes(&info).unwrap().ok_or_else(lost)?;
            assert_eq!(Digest::sha256(&raw), info.digest);
            let manifest = Manifest::parse(raw, Some(&info.media_type)).unwrap();
            smol::future::yield_now().await;
            for blob in &manifest.blobs {
                let lost = || format!("blob {} of {}", blob.digest, info.digest);
                let there = self.store.open_blob(&blob.digest).unwrap().ok_or_else(lost)?;
                let mut bytes = Vec::new();
                (&*there.file).read_to_end(&mut bytes).unwrap();
                assert_eq!(Digest::sha256(&bytes), blob.digest);
            }
            for child in &manifest.children {
                let reference = Reference::Digest(child.digest.clone());
                let lost = || format!("child {} of {}", child.digest, info.digest);
                let child = self.store.manifest(&self.universe.repositories[r], &reference).unwrap();
                todo.push(child.ok_or_else(lost)?);
            }
        }
        Ok(())
    }

    async fn remove(&self, random: &mut Random) {
        let r = random.below(self.universe.repositories.len());
        let repository = &self.universe.repositories[r];
        match random.below(4) {
            0 => {
                // Not a child of an index: removing one breaks the index, as it was asked to.
                let n = Universe::IMAGES + 1 + random.below(Universe::INDEXES + Universe::REFERRERS - 1);
                let gone = self.store.remove_manifest(repository, &self.universe.manifests[n].0);
                self.changing(r, &[0, 1, 2], gone).await.unwrap();
            }
            1 => {
                let blob = &self.universe.blobs[random.below(self.universe.blobs.len())].0;
                match self.store.unlink_blob(repository, blob).await {
                    Ok(_) | Err(Error::BlobInUse { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            _ => {
                let t = random.below(TAGS);
                let gone = self.store.remove_tag(repository, &self.universe.tags[t]);
                self.changing(r, &[t], gone).await.unwrap();
            }
        }
    }

    async fn collect(&self) {
        let grace = match self.holds {
            Holds::Leases => Duration::ZERO,
            Holds::Grace(grace) => grace,
        };
        while !self.done.load(Ordering::SeqCst) {
            self.store.gc(Some(grace)).await.unwrap();
            self.store.refresh_layout().await.unwrap();
            smol::future::yield_now().await;
        }
    }
}

fn together(holds: Holds, run: &Run) {
    let mut random = Random(run.seed ^ 2);
    let dir = tempfile::tempdir().unwrap();
    let shared = Arc::new(Shared {
        universe: Universe::new(&mut random),
        store: open(dir.path()),
        holds,
        changes: Default::default(),
        done: AtomicBool::new(false),
        published: AtomicU64::new(0),
        pulled: AtomicU64::new(0),
    });
    let executor = Arc::new(smol::Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            std::thread::spawn(move || _ = smol::block_on(executor.run(stopped.recv())))
        })
        .collect();
    let tasks: Vec<_> = (0..6u64)
        .map(|worker| {
            let (shared, rounds) = (shared.clone(), run.steps / 6);
            let mut random = Random(run.seed.wrapping_mul(worker + 3));
            executor.spawn(async move {
                for _ in 0..rounds {
                    match worker {
                        0..=2 => shared.publish(&mut random).await,
                        3 if random.one_in(2) => shared.remove(&mut random).await,
                        _ => shared.pull(&mut random).await,
                    }
                    smol::future::yield_now().await;
                }
            })
        })
        .collect();
    let collector = executor.spawn({
        let shared = shared.clone();
        async move { shared.collect().await }
    });
    smol::block_on(async {
        for task in tasks {
            task.await;
        }
        shared.done.store(true, Ordering::SeqCst);
        collector.await;
    });
    drop(stop);
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert!(shared.published.load(Ordering::Relaxed) > 0 && shared.pulled.load(Ordering::Relaxed) > 0);
    let shared = Arc::into_inner(shared).expect("all tasks have ended");
    let (store, universe) = (shared.store, shared.universe);
    let mut expected = Snapshot::of(&store, &universe);
    expected.collect(&universe, |_| false);
    smol::block_on(async {
        store.gc(Some(Duration::ZERO)).await.unwrap();
        assert_eq!(Snapshot::of(&store, &universe), expected);
        assert_eq!(store.fsck(Mend::Nothing, |_, _| ()).await.unwrap().findings, []);
    });
    drop(store);
    assert_eq!(Snapshot::of(&open(dir.path()), &universe), expected);
}

#[test]
fn who_holds_leases_loses_nothing_to_collections_without_grace() {
    together(Holds::Leases, &Run::new(900));
}

#[test]
fn who_is_quicker_than_the_grace_period_loses_nothing() {
    together(Holds::Grace(Duration::from_millis(300)), &Run::new(900));
}
