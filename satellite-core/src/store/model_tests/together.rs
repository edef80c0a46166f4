//! Several threads: nobody loses what the rules of the store promise them.

use super::universe::{Snapshot, Universe};
use super::world::open;
use super::*;

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
