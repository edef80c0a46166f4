//! The data directory as an OCI image layout: `index.json` written from the index, and the index rebuilt from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    Cached, Inner, Put, Sparse, Store,
    error::{Error, Result},
    files::write_durable,
    index::Kind,
};
use crate::oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media_type};

/// image-spec's annotation for a name in a layout; ours is `REPOSITORY:TAG`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The repository of an entry. Its presence also says that a store wrote the entry, and that every manifest of the
/// repository has one: without it, the children of an index are taken with the index.
const REPOSITORY: &str = "io.satellite.repository";
/// Set on a manifest that is held without a tag.
const PINNED: &str = "io.satellite.pinned";
/// The hosts that a repository was replicated from, separated by spaces.
const ORIGINS: &str = "io.satellite.origins";

/// The hosts that a tag was replicated from as what it is; none for one that was pushed.
const TAG_ORIGINS: &str = "io.satellite.tag-origins";

/// Set on a manifest that is here only because somebody asked for it, whole: the tags that it was asked for by,
/// `HOST TAG HOST TAG …`, or nothing.
const CACHED: &str = "io.satellite.cached";

/// How many changes of the index the layout has; in its first bytes, where [`written_at`] finds it.
const SEQUENCE: &str = "io.satellite.sequence";

/// Whether `index.json` is behind.
#[derive(Default)]
pub(super) struct State {
    behind: AtomicBool,
    /// One check or layout at a time. The job itself holds it: who asked for it may go away while it runs.
    pub(super) turn: std::sync::Arc<async_lock::Mutex<()>>,
    /// Held while the layout's file is written: a sweep takes its temporary one for a leftover.
    pub(super) writing: std::sync::Mutex<()>,
}

impl State {
    pub(super) fn changed(&self) {
        self.behind.store(true, Ordering::SeqCst);
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex {
    schema_version: u32,
    media_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    manifests: Vec<Descriptor>,
}

/// How many changes of the index the layout at `path` has; 0 if it does not say. Reads no more than its beginning.
pub(super) fn written_at(path: &Path) -> u64 {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut head));
    let text = read.ok().and_then(|_| std::str::from_utf8(&head).ok()).unwrap_or_default();
    let mark = format!("\"{SEQUENCE}\":\"");
    let digits = text.split_once(&mark).and_then(|(_, rest)| rest.split_once('"'));
    digits.and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

/// `HOST TAG HOST TAG …`; what is no tag is passed over.
fn pairs(text: &str) -> Vec<(String, Tag)> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.chunks_exact(2).filter_map(|p| Some((p[0].to_string(), p[1].parse().ok()?))).collect()
}

impl Store {
    /// Writes `index.json` if tags or manifests changed since it was written. Call it after a replication, now and then
    /// while serving, and at the end: it is what a lost index is rebuilt from.
    pub async fn refresh_layout(&self) -> Result<()> {
        let inner = self.inner.clone();
        let turn = self.inner.layout.turn.lock_arc().await;
        let job = move || {
            let _turn = turn;
            inner.refresh_layout()
        };
        self.inner.pool.run(job).await
    }
}

impl Inner {
    pub(super) fn refresh_layout(&self) -> Result<()> {
        if !self.layout.behind.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        // Before the entries are read: what changes meanwhile is in them or is not, and is not counted.
        let annotations = BTreeMap::from([(SEQUENCE.to_string(), self.index.sequence().to_string())]);
        // The layout must never know of more than the index on the disk does.
        let written = self.index.commit(super::Batch::default());
        let written = written.and_then(|()| self.layout_entries()).and_then(|manifests| {
            let index = LayoutIndex {
                schema_version: 2,
                media_type: Some(media_type::OCI_INDEX.into()),
                annotations,
                manifests,
            };
            let bytes = serde_json::to_vec(&index).map_err(|_| Error::Record("layout"))?;
            let _writing = self.layout.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            write_durable(&self.files.layout_index(), &bytes)
        });
        if written.is_err() {
            self.layout.changed();
        }
        written
    }

    fn layout_entries(&self) -> Result<Vec<Descriptor>> {
        let mut entries: Vec<Descriptor> = Vec::new();
        for repository in self.index.repositories(Kind::Manifest, None) {
            let repository = repository?;
            let first = entries.len();
            let mut tagged = HashSet::new();
            let describe =
                |digest: &Digest, record: &super::index::ManifestRecord, name: &str, value: String| {
                    let mut descriptor = Descriptor::new(&record.media_type, digest.clone(), record.size);
                    descriptor.annotations.insert(name.into(), value);
                    descriptor.annotations.insert(REPOSITORY.into(), repository.to_string());
                    descriptor
                };
            for item in self.tags(&repository, None) {
                let (tag, digest) = item?;
                let key = super::index::key(Kind::Manifest, &repository, &digest.key());
                if let Some(record) = self.index.get(&key)? {
                    let mut entry = describe(&digest, &record, REF_NAME, format!("{repository}:{tag}"));
                    let origins = self.tag(&repository, &tag)?.map(|t| t.origins).unwrap_or_default();
                    if !origins.is_empty() {
                        entry.annotations.insert(TAG_ORIGINS.into(), origins.join(" "));
                    }
                    entries.push(entry);
                    tagged.insert(digest);
                }
            }
            let mut cached_tags: HashMap<Digest, Vec<String>> = HashMap::new();
            for item in self.cached_tags(&repository) {
                let (host, tag, digest) = item?;
                cached_tags.entry(digest).or_default().push(format!("{host} {tag}"));
            }
            for info in self.manifests(&repository, None) {
                let info = info?;
                let key = super::index::key(Kind::Pin, &repository, &info.digest.key());
                let pinned = self.index.has(&key)?;
                if pinned || !tagged.contains(&info.digest) {
                    let mut entry = Descriptor::new(&info.media_type, info.digest, info.size);
                    entry.annotations.insert(REPOSITORY.into(), repository.to_string());
                    if pinned {
                        entry.annotations.insert(PINNED.into(), "true".into());
                    }
                    if self.is_cached_whole(&repository, &entry.digest)? {
                        let tags = cached_tags.remove(&entry.digest).unwrap_or_default();
                        entry.annotations.insert(CACHED.into(), tags.join(" "));
                    }
                    entries.push(entry);
                }
            }
            let origins = self.origins(&repository)?.join(" ");
            for entry in entries.iter_mut().skip(first).filter(|_| !origins.is_empty()) {
                entry.annotations.insert(ORIGINS.into(), origins.clone());
            }
        }
        Ok(entries)
    }

    /// Fills the empty index from the layout. What is incomplete or damaged is passed over with a log line. Returns how
    /// many manifests were taken.
    pub(super) fn rebuild(&self) -> Result<u64> {
        let path = self.files.layout_index();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        let index: LayoutIndex = match serde_json::from_slice(&bytes) {
            Ok(index) => index,
            Err(e) => {
                log::error!("{} is not readable ({e}): nothing can be taken from it", path.display());
                return Ok(0);
            }
        };
        let mut taken = 0;
        // Children before the indexes that list them: those without children first.
        let (indexes, images): (Vec<_>, Vec<_>) =
            index.manifests.into_iter().partition(|d| media_type::is_index(&d.media_type));
        for entry in images.iter().chain(&indexes) {
            match self.take_entry(entry) {
                Ok(true) => taken += 1,
                Ok(false) => {}
                Err(e @ (Error::Io { .. } | Error::Index(_) | Error::NoSpace { .. })) => return Err(e),
                Err(e) => log::error!("{} is left out of the new index: {e}", entry.digest),
            }
        }
        Ok(taken)
    }

    fn take_entry(&self, entry: &Descriptor) -> Result<bool> {
        let name =
            entry.annotations.get(REF_NAME).map(|n| n.rsplit_once(':').unwrap_or((n.as_str(), "latest")));
        let (repository, tag): (Option<Repository>, Option<Tag>) = match name {
            Some((repository, tag)) => (repository.parse().ok(), tag.parse().ok()),
            None => (entry.annotations.get(REPOSITORY).and_then(|r| r.parse().ok()), None),
        };
        let Some(repository) = repository else { return Ok(false) };
        let hosts = |key: &str| -> Vec<String> {
            entry.annotations.get(key).iter().flat_map(|o| o.split(' ')).map(String::from).collect()
        };
        let put = Put {
            tags: tag.into_iter().collect(),
            pin: entry.annotations.contains_key(PINNED),
            sparse: Sparse::Children,
            origins: hosts(TAG_ORIGINS),
            cached: entry.annotations.get(CACHED).map(|text| Cached { tags: pairs(text) }),
        };
        let with_children = !entry.annotations.contains_key(REPOSITORY);
        self.take_manifest(&repository, &entry.digest, &entry.media_type, &put, with_children)?;
        let of_repository = Put { sparse: Sparse::Children, origins: hosts(ORIGINS), ..Put::default() };
        if !of_repository.origins.is_empty() {
            self.take_manifest(&repository, &entry.digest, &entry.media_type, &of_repository, false)?;
        }
        Ok(true)
    }

    /// Takes a manifest whose file is there, and the children of an index with it where they have no entries.
    fn take_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        kind: &str,
        put: &Put,
        with_children: bool,
    ) -> Result<()> {
        let reference = || Reference::Digest(digest.clone());
        let raw = self
            .read_small(digest, None)?
            .ok_or_else(|| Error::ManifestUnknown(repository.clone(), reference()))?;
        let manifest = Manifest::parse(raw, Some(kind))?;
        for child in manifest.children.iter().filter(|_| with_children) {
            // Two levels: an index of indexes is allowed, deeper ones nobody makes.
            if self.files.stat(&child.digest)?.is_some() && !media_type::is_index(&child.media_type) {
                self.take_manifest(
                    repository,
                    &child.digest,
                    &child.media_type,
                    &Put { sparse: Sparse::Children, ..Put::default() },
                    false,
                )?;
            }
        }
        self.put_manifest(repository, digest, &manifest, put)
    }
}
