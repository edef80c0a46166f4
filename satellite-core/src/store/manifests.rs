//! Manifests, tags, referrers and pins: what makes blobs into images.

use std::{io::Read, sync::PoisonError};

use bytes::Bytes;

use super::{
    Inner, Store,
    cache::Cached,
    error::{Context, Error, Result},
    index::{self, Batch, Key, Kind, ManifestRecord, TagRecord},
    now,
};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Reference, Repository, Tag};

/// A manifest that a repository has.
#[derive(Clone, Debug)]
pub struct ManifestInfo {
    /// Its name.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// What it is about.
    pub subject: Option<Digest>,
}

/// A tag, and what it pointed to before.
#[derive(Clone, Debug)]
pub struct TagInfo {
    /// What it points to.
    pub digest: Digest,
    /// Seconds since 1970 when it was set; of the wall clock, so for display only.
    pub since: u64,
    /// Earlier targets with the time when they were set, newest first, eight at most.
    pub history: Vec<(Digest, u64)>,
    /// Hosts that it was replicated from as what it is now; none if it was pushed here.
    pub origins: Vec<String>,
}

/// How a manifest is put.
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// Tags that shall point to it.
    pub tags: Vec<Tag>,
    /// Held without a tag, until it is removed by digest.
    pub pin: bool,
    /// What may be missing.
    pub sparse: Sparse,
    /// The registries it was replicated from: `HOST[:PORT]`.
    pub origins: Vec<String>,
    /// Here only because somebody asked for it: goes when room is needed.
    pub cached: Option<Cached>,
}

/// What a manifest may name that the store does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sparse {
    /// Nothing: all of it must be here.
    #[default]
    Nothing,
    /// Children of an index: only some platforms are wanted.
    Children,
    /// Blobs as well. Such an image cannot be pulled whole.
    Anything,
}

impl Store {
    /// Stores a manifest and moves tags to it, all or nothing, durably. What it needs must be in the store.
    ///
    /// `digest` must be that of the bytes: it is checked.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: Manifest,
        put: Put,
    ) -> Result<()> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        let room = self.inner.room(manifest.raw.len() as u64).await?;
        let job = move || {
            let put = inner.put_manifest(&repository, &digest, &manifest, &put);
            drop(room);
            put
        };
        self.inner.pool.run(job).await
    }

    /// The manifest that a tag or digest names.
    pub fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<ManifestInfo>> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.inner.tag(repository, tag)? {
                Some(record) => record.digest.0,
                None => return Ok(None),
            },
        };
        let key = index::key(Kind::Manifest, repository, &digest.key());
        let record = self.inner.index.get::<ManifestRecord>(&key)?;
        Ok(record.map(|r| ManifestInfo {
            digest,
            media_type: r.media_type,
            size: r.size,
            subject: r.subject.map(|k| k.0),
        }))
    }

    /// A manifest's bytes, read in this thread: they are small and usually cached. `None` if the file is not there or
    /// has another size than it should.
    pub fn manifest_bytes(&self, info: &ManifestInfo) -> Result<Option<Bytes>> {
        self.inner.read_small(&info.digest, Some(info.size))
    }

    /// What a tag points to, and pointed to.
    pub fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagInfo>> {
        Ok(self.inner.tag(repository, tag)?.map(|r| TagInfo {
            digest: r.digest.0,
            since: r.since,
            history: r.history.into_iter().map(|(k, t)| (k.0, t)).collect(),
            origins: r.origins,
        }))
    }

    /// Tags of a repository in byte order, after `after`.
    pub fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> impl Iterator<Item = Result<(Tag, Digest)>> + use<> {
        self.inner.tags(repository, after)
    }

    /// Hosts that the repository was replicated from; none if it was only ever pushed to.
    pub fn origins(&self, repository: &Repository) -> Result<Vec<String>> {
        self.inner.origins(repository)
    }

    /// Whether the repository has a manifest or a blob.
    pub fn has_repository(&self, repository: &Repository) -> Result<bool> {
        for kind in [Kind::Manifest, Kind::Link] {
            if self.inner.index.scan(&index::key(kind, repository, &[]), None).next().transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Repositories with manifests, in byte order, after `after`.
    pub fn repositories(&self, after: Option<&Repository>) -> impl Iterator<Item = Result<Repository>> {
        self.inner.index.repositories(Kind::Manifest, after)
    }

    /// Manifests of a repository, in digest order, after `after`.
    pub fn manifests(
        &self,
        repository: &Repository,
        after: Option<&Digest>,
    ) -> impl Iterator<Item = Result<ManifestInfo>> + use<> {
        self.inner.manifests(repository, after)
    }

    /// What is about `subject` in the repository, in digest order, after `after`. Each costs one read of its manifest.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        after: Option<&Digest>,
    ) -> impl Iterator<Item = Result<Descriptor>> + use<> {
        let inner = self.inner.clone();
        let repository = repository.clone();
        self.inner.referrers(&repository, subject, after).filter_map(move |digest| {
            let describe = |digest: Digest| {
                let key = index::key(Kind::Manifest, &repository, &digest.key());
                let Some(record) = inner.index.get::<ManifestRecord>(&key)? else { return Ok(None) };
                let Some(raw) = inner.read_small(&digest, Some(record.size))? else { return Ok(None) };
                Ok(Some(Manifest::parse(raw, Some(&record.media_type))?.as_referrer(digest)))
            };
            digest.and_then(describe).transpose()
        })
    }

    /// Whether a manifest is held without a tag.
    pub fn is_pinned(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        self.inner.index.has(&index::key(Kind::Pin, repository, &digest.key()))
    }

    /// Removes a tag. `false`: there is none.
    pub async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        self.remove_record(index::key(Kind::Tag, repository, tag.as_str().as_bytes())).await
    }

    /// Removes a manifest with all tags that point to it and its pin, at once. `false`: there is none.
    pub async fn remove_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                // Exclusive: a tag that is set at the same time must not be left pointing to nothing.
                let _gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
                let mut batch = Batch::default();
                if !inner.forget_manifest(&repository, &digest, &mut batch)? {
                    return Ok(false);
                }
                for item in inner.tags(&repository, None) {
                    let (tag, target) = item?;
                    if target == digest {
                        batch.delete(index::key(Kind::Tag, &repository, tag.as_str().as_bytes()));
                    }
                }
                inner.commit_visible(batch)?;
                Ok(true)
            })
            .await
    }

    /// Lets go of a manifest that was held without a tag. `false`: it was not.
    pub async fn unpin(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        self.remove_record(index::key(Kind::Pin, repository, &digest.key())).await
    }
}

impl Inner {
    pub(super) fn put_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: &Manifest,
        put: &Put,
    ) -> Result<()> {
        let actual = Digest::of(digest.algorithm(), &manifest.raw);
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.touch(digest);
        let mut batch = Batch::default();
        for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
            self.touch(&blob.digest);
            match self.files.stat(&blob.digest)? {
                None if put.sparse == Sparse::Anything => continue,
                None => {
                    return Err(Error::Incomplete { manifest: digest.clone(), missing: blob.digest.clone() });
                }
                Some(stat) if stat.size != blob.size => {
                    return Err(Error::SizeMismatch {
                        digest: blob.digest.clone(),
                        expected: blob.size,
                        actual: stat.size,
                    });
                }
                Some(_) => {}
            }
            let link = index::key(Kind::Link, repository, &blob.digest.key());
            if self.index.raw(&link)?.and_then(|v| index::link_size(&v)) != Some(blob.size) {
                batch.put(link, index::link_record(blob.size));
            }
        }
        for child in manifest.children.iter().filter(|_| put.sparse == Sparse::Nothing) {
            if !self.index.has(&index::key(Kind::Manifest, repository, &child.digest.key()))? {
                return Err(Error::Incomplete { manifest: digest.clone(), missing: child.digest.clone() });
            }
        }
        // A collection that is under way must see what this makes reachable.
        self.mark_if_collecting(repository, digest, manifest)?;
        if self.files.put_small(digest, &manifest.raw)? {
            self.space.took(manifest.raw.len() as u64);
        }
        let record = ManifestRecord {
            media_type: manifest.media_type.clone(),
            size: manifest.raw.len() as u64,
            subject: manifest.subject.as_ref().map(|s| Key(s.digest.clone())),
        };
        let own = index::key(Kind::Manifest, repository, &digest.key());
        if self.index.get::<ManifestRecord>(&own)?.as_ref() != Some(&record) {
            batch.put(own, index::encode(&record)?);
        }
        if let Some(subject) = &manifest.subject {
            let rest = [&subject.digest.key()[..], &digest.key()[..]].concat();
            batch.put(index::key(Kind::Referrer, repository, &rest), Vec::new());
        }
        let whole = put.sparse != Sparse::Anything;
        if let Some(cached) = &put.cached {
            self.put_cached(repository, digest, cached, whole, &mut batch)?;
        } else if whole && self.is_cached_in_part(repository, digest)? {
            self.put_cached(repository, digest, &Cached::default(), whole, &mut batch)?;
        }
        if put.pin {
            batch.put(index::key(Kind::Pin, repository, &digest.key()), Vec::new());
        }
        for tag in &put.tags {
            let key = index::key(Kind::Tag, repository, tag.as_str().as_bytes());
            if let Some(record) = next_tag(self.tag(repository, tag)?, digest, &put.origins) {
                batch.put(key, index::encode(&record)?);
            }
        }
        for host in &put.origins {
            let key = index::key(Kind::Origin, repository, host.as_bytes());
            if !self.index.has(&key)? {
                batch.put(key, Vec::new());
            }
        }
        if batch.len() > 0 {
            self.commit_visible(batch)?;
        }
        Ok(())
    }

    /// A manifest of the repository that names the blob.
    pub(super) fn user_of(&self, repository: &Repository, blob: &Digest) -> Result<Option<Digest>> {
        for info in self.manifests(repository, None) {
            let info = info?;
            let raw = self.read_small(&info.digest, Some(info.size))?;
            let manifest = raw.and_then(|raw| Manifest::parse(raw, Some(&info.media_type)).ok());
            if manifest.is_some_and(|m| m.blobs.iter().any(|b| b.digest == *blob)) {
                return Ok(Some(info.digest));
            }
        }
        Ok(None)
    }

    pub(super) fn origins(&self, repository: &Repository) -> Result<Vec<String>> {
        let prefix = index::key(Kind::Origin, repository, &[]);
        let hosts = self.index.scan(&prefix, None);
        hosts.map(|item| Ok(String::from_utf8_lossy(&item?.0[prefix.len()..]).into_owned())).collect()
    }

    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>> {
        self.index.get(&index::key(Kind::Tag, repository, tag.as_str().as_bytes()))
    }

    pub(super) fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> impl Iterator<Item = Result<(Tag, Digest)>> + use<> {
        let prefix = index::key(Kind::Tag, repository, &[]);
        let at = prefix.len();
        self.index.scan(&prefix, after.map(str::as_bytes)).map(move |item| {
            let (key, value) = item?;
            let text = std::str::from_utf8(&key[at..]).map_err(|_| Error::Record("tag"))?;
            let tag = text.parse().map_err(|_| Error::Record("tag"))?;
            Ok((tag, index::decode::<TagRecord>(&value)?.digest.0))
        })
    }

    pub(super) fn manifests(
        &self,
        repository: &Repository,
        after: Option<&Digest>,
    ) -> impl Iterator<Item = Result<ManifestInfo>> + use<> {
        let prefix = index::key(Kind::Manifest, repository, &[]);
        let at = prefix.len();
        let after = after.map(Digest::key);
        self.index.scan(&prefix, after.as_deref()).map(move |item| {
            let (key, value) = item?;
            let digest = Digest::from_key(&key[at..]).ok_or(Error::Record("manifest"))?;
            let record: ManifestRecord = index::decode(&value)?;
            Ok(ManifestInfo {
                digest,
                media_type: record.media_type,
                size: record.size,
                subject: record.subject.map(|k| k.0),
            })
        })
    }

    pub(super) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        after: Option<&Digest>,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        let prefix = index::key(Kind::Referrer, repository, &subject.key());
        let at = prefix.len();
        let after = after.map(Digest::key);
        self.index
            .scan(&prefix, after.as_deref())
            .map(move |item| Digest::from_key(&item?.0[at..]).ok_or(Error::Record("referrer")))
    }

    /// Adds to `batch` what takes a manifest out of a repository, tags apart. `false`: it is not in it.
    pub(super) fn forget_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        batch: &mut Batch,
    ) -> Result<bool> {
        let own = index::key(Kind::Manifest, repository, &digest.key());
        let Some(record) = self.index.get::<ManifestRecord>(&own)? else { return Ok(false) };
        batch.delete(own);
        batch.delete(index::key(Kind::Pin, repository, &digest.key()));
        self.forget_cached(repository, digest, batch)?;
        if let Some(Key(subject)) = record.subject {
            let rest = [&subject.key()[..], &digest.key()[..]].concat();
            batch.delete(index::key(Kind::Referrer, repository, &rest));
        }
        Ok(true)
    }

    /// Small content in memory; `None` if it is not there, not of `size`, or too large to be a manifest.
    pub(super) fn read_small(&self, digest: &Digest, size: Option<u64>) -> Result<Option<Bytes>> {
        let Some((mut file, actual)) = self.files.open(digest)? else { return Ok(None) };
        if size.is_some_and(|s| s != actual) || actual > MAX_MANIFEST_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; actual as usize];
        file.read_exact(&mut bytes).at("read", &self.files.blob(digest))?;
        Ok(Some(bytes.into()))
    }
}

/// The record of a tag that shall point to `digest` and came from `origins`; `None` if nothing changes. The same digest
/// from another host is both's; another digest is only the new host's.
fn next_tag(old: Option<TagRecord>, digest: &Digest, origins: &[String]) -> Option<TagRecord> {
    let Some(old) = old else {
        let digest = Key(digest.clone());
        return Some(TagRecord { digest, since: now(), history: Vec::new(), origins: origins.into() });
    };
    if old.digest.0 == *digest {
        let new: Vec<String> = origins.iter().filter(|o| !old.origins.contains(o)).cloned().collect();
        // A tag that was pushed stays everybody's; one that has its hosts gets another.
        if new.is_empty() || old.origins.is_empty() {
            return None;
        }
        let mut record = old;
        record.origins.extend(new);
        let excess = record.origins.len().saturating_sub(TagRecord::ORIGINS);
        record.origins.drain(..excess);
        return Some(record);
    }
    let mut history = vec![(old.digest, old.since)];
    history.extend(old.history);
    history.truncate(TagRecord::HISTORY);
    Some(TagRecord { digest: Key(digest.clone()), since: now(), history, origins: origins.into() })
}
