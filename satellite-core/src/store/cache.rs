//! What is here only because somebody asked for it: manifests of a pull-through, and the tags they were asked for by.
//!
//! Such a manifest is held like a tagged one, until room is needed: then the least recently used go first (`evict`).
//! A tag is remembered by the host that it is a tag of, apart from the repository's own tags: those are what was pushed
//! or what the desired state says, and no pull moves them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Inner, Store,
    error::{Error, Result},
    gc::link_mark,
    index::{self, Batch, Key, Kind},
    manifests::ManifestInfo,
};
use crate::oci::{Descriptor, Digest, Manifest, Repository, Tag};

/// Manifests looked through for one that names something.
const MAX_LOOKED_THROUGH: usize = 1024;
/// Uses kept in memory before they are written in one batch. What is lost at a kill is a bit of the order.
const MAX_NOTED: usize = 1024;

/// How a manifest is put that is here only because somebody asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    /// Hosts and their tags that shall name it.
    pub tags: Vec<(String, Tag)>,
}

/// What is known of a cached manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedInfo {
    /// Whether all its blobs were here when it was last put.
    pub whole: bool,
}

/// Fields are appended, never reordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedRecord {
    /// Counts uses, not time: clocks of gateways jump.
    pub(super) used: u64,
    pub(super) whole: bool,
}

/// Fields are appended, never reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedTagRecord {
    pub(super) digest: Key,
}

/// A cached manifest, for choosing who goes.
pub(super) struct Entry {
    pub(super) used: u64,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

/// Uses that are not written yet.
#[derive(Default)]
pub(super) struct Uses(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    /// The next use's number; 0 until the newest record is known.
    next: u64,
    by_name: HashMap<u128, (u64, Repository, Digest)>,
}

fn record_key(repository: &Repository, digest: &Digest) -> Vec<u8> {
    index::key(Kind::Cached, repository, &digest.key())
}

fn tag_key(repository: &Repository, host: &str, tag: &Tag) -> Vec<u8> {
    index::key(Kind::CachedTag, repository, &[host.as_bytes(), b"\0", tag.as_str().as_bytes()].concat())
}

impl Store {
    /// What `host`'s tag named when it was last asked for.
    pub fn cached_tag(&self, repository: &Repository, host: &str, tag: &Tag) -> Result<Option<Digest>> {
        let record = self.inner.index.get::<CachedTagRecord>(&tag_key(repository, host, tag))?;
        Ok(record.map(|r| r.digest.0))
    }

    /// Forgets a tag of `host`. `false`: it was not known.
    pub async fn forget_cached_tag(&self, repository: &Repository, host: &str, tag: &Tag) -> Result<bool> {
        self.remove_record(tag_key(repository, host, tag)).await
    }

    /// Whether a manifest is here because somebody asked for it, and how.
    pub fn cached(&self, repository: &Repository, digest: &Digest) -> Result<Option<CachedInfo>> {
        let record = self.inner.index.get::<CachedRecord>(&record_key(repository, digest))?;
        Ok(record.map(|r| CachedInfo { whole: r.whole }))
    }

    /// Tags of hosts in a repository, and what they named when they were last asked for.
    pub fn cached_tags(
        &self,
        repository: &Repository,
    ) -> impl Iterator<Item = Result<(String, Tag, Digest)>> + use<> {
        self.inner.cached_tags(repository)
    }

    /// Repositories with such tags.
    pub fn cached_repositories(&self) -> impl Iterator<Item = Result<Repository>> {
        self.inner.index.repositories(Kind::CachedTag, None)
    }

    /// A manifest of the repository that names `digest` as a blob or a child, and what it says of it. Cached ones are
    /// looked through first; of a large repository not all.
    pub async fn naming(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(ManifestInfo, Descriptor)>> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        self.inner.pool.run(move || inner.naming(&repository, &digest)).await
    }

    /// Says that a manifest was asked for: cached ones that were asked for lately stay longest.
    pub fn used(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        if !self.inner.index.has(&record_key(repository, digest))? {
            return Ok(());
        }
        let used = self.inner.next_use()?;
        let mut noted = self.inner.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond the bound the record keeps the number it has, until the next collection writes the others.
        if noted.by_name.len() < MAX_NOTED || noted.by_name.contains_key(&link_mark(repository, digest)) {
            noted.by_name.insert(link_mark(repository, digest), (used, repository.clone(), digest.clone()));
        }
        Ok(())
    }

    /// Removes a cached manifest's mark, and its tags of hosts: the next collection takes what nothing else holds.
    pub async fn forget_cached(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                let _gate = inner.gate.read().unwrap_or_else(PoisonError::into_inner);
                let key = record_key(&repository, &digest);
                if !inner.index.has(&key)? {
                    return Ok(false);
                }
                let mut batch = Batch::default();
                inner.forget_cached(&repository, &digest, &mut batch)?;
                inner.commit_visible(batch)?;
                Ok(true)
            })
            .await
    }
}

impl Inner {
    fn naming(&self, repository: &Repository, digest: &Digest) -> Result<Option<(ManifestInfo, Descriptor)>> {
        let says = |info: &ManifestInfo| -> Result<Option<Descriptor>> {
            let raw = self.read_small(&info.digest, Some(info.size))?;
            let Some(manifest) = raw.and_then(|raw| Manifest::parse(raw, Some(&info.media_type)).ok()) else {
                return Ok(None);
            };
            let mut named = manifest.blobs.into_iter().chain(manifest.children);
            Ok(named.find(|d| d.digest == *digest))
        };
        let mut others = Vec::new();
        for info in self.manifests(repository, None).take(MAX_LOOKED_THROUGH) {
            let info = info?;
            if !self.index.has(&record_key(repository, &info.digest))? {
                others.push(info);
            } else if let Some(found) = says(&info)? {
                return Ok(Some((info, found)));
            }
        }
        for info in others {
            if let Some(found) = says(&info)? {
                return Ok(Some((info, found)));
            }
        }
        Ok(None)
    }

    fn next_use(&self) -> Result<u64> {
        {
            let mut noted = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.next > 0 {
                noted.next += 1;
                return Ok(noted.next - 1);
            }
        }
        let mut newest = 0;
        for entry in self.cached_entries()? {
            newest = newest.max(entry.used);
        }
        let mut noted = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.next = noted.next.max(newest + 1) + 1;
        Ok(noted.next - 1)
    }

    /// Whether a manifest is cached, and its blobs were not all here when it was put.
    pub(super) fn is_cached_in_part(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let record = self.index.get::<CachedRecord>(&record_key(repository, digest))?;
        Ok(record.is_some_and(|r| !r.whole))
    }

    /// Whether a manifest is cached, with all its blobs.
    pub(super) fn is_cached_whole(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let record = self.index.get::<CachedRecord>(&record_key(repository, digest))?;
        Ok(record.is_some_and(|r| r.whole))
    }

    /// Adds to `batch` that a manifest is here because somebody asked for it.
    pub(super) fn put_cached(
        &self,
        repository: &Repository,
        digest: &Digest,
        cached: &Cached,
        whole: bool,
        batch: &mut Batch,
    ) -> Result<()> {
        let key = record_key(repository, digest);
        let old = self.index.get::<CachedRecord>(&key)?;
        if old.as_ref().is_none_or(|r| r.whole != whole) {
            let used = self.next_use()?;
            batch.put(key, index::encode(&CachedRecord { used, whole })?);
        }
        for (host, tag) in &cached.tags {
            let key = tag_key(repository, host, tag);
            let record = CachedTagRecord { digest: Key(digest.clone()) };
            if self.index.get::<CachedTagRecord>(&key)?.as_ref() != Some(&record) {
                batch.put(key, index::encode(&record)?);
            }
        }
        Ok(())
    }

    /// Adds to `batch` what forgets that a manifest is cached.
    pub(super) fn forget_cached(
        &self,
        repository: &Repository,
        digest: &Digest,
        batch: &mut Batch,
    ) -> Result<()> {
        batch.delete(record_key(repository, digest));
        for item in self.cached_tags(repository) {
            let (host, tag, target) = item?;
            if target == *digest {
                batch.delete(tag_key(repository, &host, &tag));
            }
        }
        Ok(())
    }

    pub(super) fn cached_tags(
        &self,
        repository: &Repository,
    ) -> impl Iterator<Item = Result<(String, Tag, Digest)>> + use<> {
        let prefix = index::key(Kind::CachedTag, repository, &[]);
        let at = prefix.len();
        self.index.scan(&prefix, None).map(move |item| {
            let (key, value) = item?;
            let text = std::str::from_utf8(&key[at..]).map_err(|_| Error::Record("cached tag"))?;
            let (host, tag) = text.split_once('\0').ok_or(Error::Record("cached tag"))?;
            let tag = tag.parse().map_err(|_| Error::Record("cached tag"))?;
            Ok((host.to_string(), tag, index::decode::<CachedTagRecord>(&value)?.digest.0))
        })
    }

    /// All cached manifests, uses that are not written yet included.
    pub(super) fn cached_entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for repository in self.index.repositories(Kind::Cached, None) {
            let repository = repository?;
            let prefix = index::key(Kind::Cached, &repository, &[]);
            for item in self.index.scan(&prefix, None) {
                let (key, value) = item?;
                let Some(digest) = Digest::from_key(&key[prefix.len()..]) else { continue };
                let used = index::decode::<CachedRecord>(&value)?.used;
                entries.push(Entry { used, repository: repository.clone(), digest });
            }
        }
        let noted = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &mut entries {
            if let Some((used, ..)) = noted.by_name.get(&link_mark(&entry.repository, &entry.digest)) {
                entry.used = *used;
            }
        }
        Ok(entries)
    }

    /// Writes the uses that were noted.
    pub(super) fn write_uses(&self) -> Result<()> {
        let noted = std::mem::take(&mut self.uses.0.lock().unwrap_or_else(PoisonError::into_inner).by_name);
        // No manifest may leave the cache between being looked up and being written.
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        for (used, repository, digest) in noted.into_values() {
            let key = record_key(&repository, &digest);
            if let Some(record) = self.index.get::<CachedRecord>(&key)? {
                batch.put(key, index::encode(&CachedRecord { used, ..record })?);
            }
        }
        if batch.len() == 0 { Ok(()) } else { self.index.commit(batch) }
    }
}
