//! Garbage collection: mark from what is held, sweep the rest, while clients push and pull.
//!
//! Held are tags, pins, what they reach, what is about any of these (referrers), what is leased, and everything younger
//! than the grace period; then what is cached, all of it or, where room is to be made, as much as may stay (`evict`). While a collection runs, whoever publishes a manifest marks what it reaches
//! (`mark_if_collecting`), and every deletion looks at the marks again behind the gate that publishing holds: so what is
//! published during a collection survives it. The order of deleting is index, then file: a crash between the two leaves a
//! file that nobody names, which the next collection takes.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Inner, Store,
    cache::Entry,
    error::{Context, Result},
    files::{Stat, sync_dir},
    index::{self, Batch, Kind, ManifestRecord},
};
use crate::oci::{Algorithm, Digest, Manifest, Repository};

/// Deletions decided and made in one hold of the gate.
const BATCH: usize = 64;
/// Names kept of what was touched lately; beyond it the oldest half is dropped.
const MAX_RECENT: usize = 1 << 16;

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GcReport {
    /// Manifests taken out of repositories.
    pub manifests: u64,
    /// Blobs deleted.
    pub blobs: u64,
    /// Bytes they had.
    pub bytes: u64,
    /// Files of abandoned uploads and transfers deleted, and their bytes.
    pub partials: (u64, u64),
    /// Blobs kept because they are in use.
    pub kept: u64,
    /// Unreferenced blobs kept because they are young or leased.
    pub young: u64,
    /// Bytes kept for tags, pins and what is in use.
    #[serde(default)]
    pub held_bytes: u64,
    /// Bytes kept only because somebody asked for them once.
    #[serde(default)]
    pub cached_bytes: u64,
}

/// What is kept between collections.
#[derive(Default)]
pub(super) struct State {
    inside: Mutex<Inside>,
    /// One collection at a time. The job itself holds it: who asked for it may go away while it runs, and two at once
    /// would lose each other's marks.
    pub(super) turn: Arc<async_lock::Mutex<()>>,
}

#[derive(Default)]
struct Inside {
    /// Marks of the collection under way; 128 bits of each name, so a collision keeps too much, never too little.
    marks: Option<HashSet<u128>>,
    /// Bytes of the blobs that were marked.
    marked_bytes: u64,
    leases: HashMap<Digest, usize>,
    /// When a name was last touched, by a clock that does not jump.
    recent: HashMap<u128, Instant>,
}

impl Inside {
    /// Whether the collection under way must keep this.
    fn is_marked(&self, name: u128) -> bool {
        self.marks.as_ref().is_none_or(|m| m.contains(&name))
    }

    /// Whether it is leased or too young to be collected. The clock's jumps keep too much, never too little.
    fn is_fresh(&self, digest: &Digest, stat: Option<Stat>, grace: Duration) -> bool {
        if self.leases.contains_key(digest)
            || self.recent.get(&digest.prefix128()).is_some_and(|t| t.elapsed() < grace)
        {
            return true;
        }
        let age = stat.and_then(|s| SystemTime::now().duration_since(s.modified?).ok());
        stat.is_some() && age.is_none_or(|a| a < grace)
    }
}

impl State {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds content that a running transfer counts on, until it is dropped.
pub struct Lease {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inside = self.inner.gc.inside();
        if let Some(count) = inside.leases.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                inside.leases.remove(&self.digest);
            }
        }
    }
}

impl Store {
    /// Holds `digest`, whether it is in the store yet or not.
    pub fn lease(&self, digest: &Digest) -> Lease {
        *self.inner.gc.inside().leases.entry(digest.clone()).or_default() += 1;
        Lease { inner: self.inner.clone(), digest: digest.clone() }
    }

    /// Collects garbage. `grace` overrides the store's own. Safe at any time; a second call meanwhile waits its turn.
    pub async fn gc(&self, grace: Option<Duration>) -> Result<GcReport> {
        let inner = self.inner.clone();
        let grace = grace.unwrap_or(inner.options.grace);
        let turn = self.inner.gc.turn.lock_arc().await;
        let job = move || {
            let _turn = turn;
            let report = inner.collect(grace, None)?;
            inner.recount()?;
            Ok(report)
        };
        self.inner.pool.run(job).await
    }
}

/// The mark of a link: repository and blob together.
pub(super) fn link_mark(repository: &Repository, digest: &Digest) -> u128 {
    let name = Digest::sha256(repository.as_str().as_bytes()).prefix128();
    name.rotate_left(1) ^ digest.prefix128()
}

impl Inner {
    pub(super) fn touch(&self, digest: &Digest) {
        let mut inside = self.gc.inside();
        let now = Instant::now();
        inside.recent.insert(digest.prefix128(), now);
        if inside.recent.len() > MAX_RECENT {
            let mut times: Vec<Instant> = inside.recent.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            inside.recent.retain(|_, t| *t > median);
        }
    }

    #[cfg(test)]
    pub(super) fn is_collecting(&self) -> bool {
        self.gc.inside().marks.is_some()
    }

    /// Makes a name as old as its file.
    #[cfg(test)]
    pub(super) fn untouch(&self, digest: &Digest) {
        self.gc.inside().recent.remove(&digest.prefix128());
    }

    /// The write barrier: marks a manifest that is being published, and all it reaches.
    pub(super) fn mark_if_collecting(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<()> {
        if self.gc.inside().marks.is_none() {
            return Ok(());
        }
        let mut todo = Vec::new();
        self.mark_one(repository, digest, Some(manifest), &mut todo)?;
        self.mark_all(repository, todo)
    }

    fn mark_all(&self, repository: &Repository, mut todo: Vec<Digest>) -> Result<()> {
        while let Some(digest) = todo.pop() {
            self.mark_one(repository, &digest, None, &mut todo)?;
        }
        Ok(())
    }

    /// Marks one manifest and its blobs, and adds the manifests it leads to. Unreadable ones lead nowhere.
    fn mark_one(
        &self,
        repository: &Repository,
        digest: &Digest,
        known: Option<&Manifest>,
        todo: &mut Vec<Digest>,
    ) -> Result<()> {
        let key = index::key(Kind::Manifest, repository, &digest.key());
        let read;
        let manifest = match known {
            Some(manifest) => manifest,
            None => {
                let Some(record) = self.index.get::<ManifestRecord>(&key)? else { return Ok(()) };
                // Before the file is read: a manifest that is marked already leads nowhere new.
                if !self.mark(repository, digest)? {
                    return Ok(());
                }
                let raw = self.read_small(digest, Some(record.size))?;
                match raw.and_then(|raw| Manifest::parse(raw, Some(&record.media_type)).ok()) {
                    Some(parsed) => {
                        read = parsed;
                        &read
                    }
                    None => return Ok(()),
                }
            }
        };
        self.mark(repository, digest)?;
        for blob in &manifest.blobs {
            self.mark(repository, &blob.digest)?;
        }
        todo.extend(manifest.children.iter().map(|c| c.digest.clone()));
        for referrer in self.referrers(repository, digest, None) {
            todo.push(referrer?);
        }
        Ok(())
    }

    /// Marks a blob and that the repository has it. Whether the latter is new.
    fn mark(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let link = link_mark(repository, digest);
        let new = {
            let mut inside = self.gc.inside();
            let Some(marks) = &mut inside.marks else { return Ok(false) };
            if !marks.insert(link) {
                return Ok(false);
            }
            marks.insert(digest.prefix128())
        };
        if new && let Some(stat) = self.files.stat(digest)? {
            self.gc.inside().marked_bytes += stat.size;
        }
        Ok(true)
    }

    fn is_marked(&self, name: u128) -> bool {
        self.gc.inside().is_marked(name)
    }

    fn is_fresh(&self, digest: &Digest, stat: Option<Stat>, grace: Duration) -> bool {
        self.gc.inside().is_fresh(digest, stat, grace)
    }

    /// `short`: bytes of blobs that shall go, cached ones if need be; without it, cached ones stay. The caller has the
    /// turn.
    pub(super) fn collect(&self, grace: Duration, short: Option<u64>) -> Result<GcReport> {
        self.write_uses()?;
        {
            // Whoever publishes holds the gate: what is not marked by the barrier from now on is in the index by now.
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let mut inside = self.gc.inside();
            inside.marks = Some(HashSet::new());
            inside.marked_bytes = 0;
        }
        let result = self.mark_all_kept(grace, short).and_then(|(held, cached)| {
            let report = self.sweep(grace)?;
            Ok(GcReport { held_bytes: held, cached_bytes: cached, ..report })
        });
        let mut inside = self.gc.inside();
        inside.marks = None;
        inside.recent.retain(|_, t| t.elapsed() < grace.max(self.options.grace));
        result
    }

    /// Marks what stays. Bytes that are held, and those that are cached.
    fn mark_all_kept(&self, grace: Duration, short: Option<u64>) -> Result<(u64, u64)> {
        self.mark_held(grace)?;
        let held = self.gc.inside().marked_bytes;
        let budget = match short {
            None => u64::MAX,
            Some(short) => self.bytes_but_young(grace)?.saturating_sub(short),
        };
        let mut entries = self.cached_entries()?;
        entries.sort_by_key(|e| std::cmp::Reverse(e.used));
        let mut cached = 0;
        for Entry { repository, digest, .. } in entries {
            // Looked at before it is marked: a mark cannot be taken back, for others may count on it.
            if short.is_some()
                && held.saturating_add(cached).saturating_add(self.would_add(&repository, &digest)?) > budget
            {
                break;
            }
            let before = self.gc.inside().marked_bytes;
            self.mark_all(&repository, vec![digest])?;
            cached += self.gc.inside().marked_bytes - before;
        }
        Ok((held, cached))
    }

    /// Bytes that marking a manifest would add.
    fn would_add(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let mut seen = HashSet::new();
        let mut todo = vec![digest.clone()];
        let mut bytes = 0;
        let mut add = |digest: &Digest| -> Result<()> {
            if seen.insert(digest.prefix128()) && !self.is_marked(digest.prefix128()) {
                bytes += self.files.stat(digest)?.map_or(0, |s| s.size);
            }
            Ok(())
        };
        let mut manifests = HashSet::new();
        while let Some(digest) = todo.pop() {
            let key = index::key(Kind::Manifest, repository, &digest.key());
            let Some(record) = self.index.get::<ManifestRecord>(&key)? else { continue };
            if self.is_marked(link_mark(repository, &digest)) || !manifests.insert(digest.prefix128()) {
                continue;
            }
            add(&digest)?;
            let raw = self.read_small(&digest, Some(record.size))?;
            let parsed = raw.and_then(|raw| Manifest::parse(raw, Some(&record.media_type)).ok());
            let Some(manifest) = parsed else { continue };
            for blob in &manifest.blobs {
                add(&blob.digest)?;
            }
            todo.extend(manifest.children.iter().map(|c| c.digest.clone()));
            for referrer in self.referrers(repository, &digest, None) {
                todo.push(referrer?);
            }
        }
        Ok(bytes)
    }

    /// Bytes of all blobs but those that nothing has marked and that are too young to go.
    fn bytes_but_young(&self, grace: Duration) -> Result<u64> {
        let mut bytes = 0;
        self.files.each_blob(|digest, stat| {
            if self.is_marked(digest.prefix128()) || !self.is_fresh(&digest, Some(stat), grace) {
                bytes += stat.size;
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn mark_held(&self, grace: Duration) -> Result<()> {
        for repository in self.index.repositories(Kind::Manifest, None) {
            let repository = repository?;
            let mut held = Vec::new();
            for item in self.tags(&repository, None) {
                held.push(item?.1);
            }
            let pins = index::key(Kind::Pin, &repository, &[]);
            for item in self.index.scan(&pins, None) {
                held.extend(Digest::from_key(&item?.0[pins.len()..]));
            }
            self.mark_all(&repository, held)?;
            let mut fresh = Vec::new();
            for info in self.manifests(&repository, None) {
                let info = info?;
                if !self.is_marked(link_mark(&repository, &info.digest))
                    && self.is_fresh(&info.digest, self.files.stat(&info.digest)?, grace)
                {
                    fresh.push(info.digest);
                }
            }
            self.mark_all(&repository, fresh)?;
        }
        Ok(())
    }

    fn sweep(&self, grace: Duration) -> Result<GcReport> {
        let mut report = GcReport::default();
        for kind in [Kind::Manifest, Kind::Link] {
            for repository in self.index.repositories(kind, None) {
                let repository = repository?;
                let prefix = index::key(kind, &repository, &[]);
                let mut doomed = Vec::new();
                for item in self.index.scan(&prefix, None) {
                    let Some(digest) = Digest::from_key(&item?.0[prefix.len()..]) else { continue };
                    if !self.is_marked(link_mark(&repository, &digest)) {
                        doomed.push(digest);
                    }
                }
                for chunk in doomed.chunks(BATCH) {
                    report.manifests += self.sweep_records(kind, &repository, chunk, grace)?;
                }
            }
        }
        self.sweep_blobs(grace, &mut report)?;
        {
            // Whoever writes a manifest holds the gate; the layout is written under a lock of its own.
            let _layout = self.layout.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.files.sweep_temporary()?;
        }
        report.partials = self.sweep_partials(self.options.upload_idle)?;
        Ok(report)
    }

    fn sweep_records(
        &self,
        kind: Kind,
        repository: &Repository,
        doomed: &[Digest],
        grace: Duration,
    ) -> Result<u64> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        let mut manifests = 0;
        for digest in doomed {
            if self.is_marked(link_mark(repository, digest)) {
                continue;
            }
            if self.is_fresh(digest, self.files.stat(digest)?, grace) {
                // Since it was looked at while marking: what stays keeps what it reaches.
                self.mark_all(repository, vec![digest.clone()])?;
                continue;
            }
            match kind {
                Kind::Manifest => {
                    manifests += u64::from(self.forget_manifest(repository, digest, &mut batch)?);
                }
                _ => batch.delete(index::key(kind, repository, &digest.key())),
            }
        }
        if batch.len() > 0 {
            self.commit_visible(batch)?;
        }
        Ok(manifests)
    }

    fn sweep_blobs(&self, grace: Duration, report: &mut GcReport) -> Result<()> {
        let mut doomed = Vec::new();
        self.files.each_blob(|digest, stat| {
            if self.is_marked(digest.prefix128()) {
                report.kept += 1;
            } else if self.is_fresh(&digest, Some(stat), grace) {
                report.young += 1;
            } else {
                doomed.push(digest);
            }
            Ok(())
        })?;
        for chunk in doomed.chunks(BATCH) {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            for digest in chunk {
                let stat = self.files.stat(digest)?;
                let Some(Stat { size, .. }) = stat else { continue };
                // Held until it is gone: who touches a blob and then finds it can count on it.
                let inside = self.gc.inside();
                if inside.is_marked(digest.prefix128()) || inside.is_fresh(digest, stat, grace) {
                    continue;
                }
                let path = self.files.blob(digest);
                fs::remove_file(&path).at("remove", &path)?;
                drop(inside);
                self.space.freed(size);
                report.blobs += 1;
                report.bytes += size;
            }
        }
        if report.blobs > 0 {
            for algorithm in Algorithm::ALL {
                sync_dir(&self.files.blob_dir(algorithm))?;
            }
        }
        Ok(())
    }
}
