//! The index: what sled keeps, and the five rules that make it safe. Nothing else names sled.
//!
//! One tree; a key is a kind, a repository, a zero byte, and the rest:
//!
//! | kind | rest | record |
//! |---|---|---|
//! | `m` | digest | [`ManifestRecord`]: the repository has this manifest |
//! | `l` | digest | the blob's size, 8 bytes: the repository has this blob (empty: size not known) |
//! | `t` | tag | [`TagRecord`] |
//! | `r` | subject digest, referrer digest | empty |
//! | `p` | digest | empty: held without a tag |
//! | `o` | host | empty: replicated from that host |
//! | `c` | digest | [`CachedRecord`](super::cache::CachedRecord): here because somebody asked for it |
//! | `k` | host, zero byte, tag | [`CachedTagRecord`](super::cache::CachedTagRecord) |
//!
//! The rules, each measured: sled's `flush` alone does not survive a power cut, so [`Index::commit`] syncs the file
//! itself; values stay below 4 KiB; records are small, since memory grows with what is touched; opening is guarded by a
//! marker, since a damaged file can panic; and a ballast file keeps room to open on a full disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    error::{Context, Error, Result},
    files::sync_dir,
};
use crate::oci::{Digest, Repository};

const BALLAST: u64 = 4 << 20;
/// The key of the count of changes; no kind of key is called so. A new index gets it when it is complete.
const SEQUENCE: &[u8] = b"!sequence";
/// First byte of every record; a later format gets another.
const VERSION: u8 = 1;

/// Kinds of keys.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Manifest = b'm' as isize,
    Link = b'l' as isize,
    Tag = b't' as isize,
    Referrer = b'r' as isize,
    Pin = b'p' as isize,
    Origin = b'o' as isize,
    Cached = b'c' as isize,
    CachedTag = b'k' as isize,
}

/// A digest in a record: bytes, not an array of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) Digest);

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.key())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Key;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a digest key")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Key, E> {
                Digest::from_key(bytes).map(Key).ok_or_else(|| E::custom("not a digest key"))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// A manifest in a repository. Fields are appended, never reordered (packed CBOR names them by number).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestRecord {
    pub(super) media_type: String,
    pub(super) size: u64,
    pub(super) subject: Option<Key>,
}

/// A tag in a repository, and what it pointed to before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRecord {
    pub(super) digest: Key,
    /// Seconds since 1970 when it was set.
    pub(super) since: u64,
    /// Newest first, at most [`TagRecord::HISTORY`].
    pub(super) history: Vec<(Key, u64)>,
    /// Hosts that the tag was replicated from as what it is now; none if it was pushed.
    #[serde(default)]
    pub(super) origins: Vec<String>,
}

impl TagRecord {
    /// Earlier targets kept for each tag.
    pub(super) const HISTORY: usize = 8;
    /// Hosts kept for each tag.
    pub(super) const ORIGINS: usize = 8;
}

pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    bytes.extend(serde_cbor::ser::to_vec_packed(record).map_err(|_| Error::Record("cannot be encoded"))?);
    // Larger values would leave sled's log for side files that are never synced.
    if bytes.len() > 4096 {
        return Err(Error::Record("larger than 4 KiB"));
    }
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            serde_cbor::from_slice(rest).map_err(|_| Error::Record("cannot be decoded"))
        }
        _ => Err(Error::Record("of an unknown version")),
    }
}

/// The record of a link: the size that its blob must have.
pub(super) fn link_record(size: u64) -> Vec<u8> {
    size.to_le_bytes().to_vec()
}

/// The size in a link's record.
pub(super) fn link_size(record: &[u8]) -> Option<u64> {
    record.try_into().ok().map(u64::from_le_bytes)
}

pub(super) fn key(kind: Kind, repository: &Repository, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + repository.as_str().len() + rest.len());
    key.push(kind as u8);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

/// Takes a key apart into repository and rest.
pub(super) fn split(key: &[u8]) -> Option<(Repository, &[u8])> {
    let end = key.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(key.get(1..end)?).ok()?;
    Some((name.parse().ok()?, &key[end + 1..]))
}

/// Changes that become visible and durable together.
#[derive(Default)]
pub(super) struct Batch {
    inner: sled::Batch,
    count: usize,
    counted: bool,
}

impl Batch {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.inner.insert(key, value);
        self.count += 1;
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.inner.remove(key);
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Counts this batch among the changes: an index that has fewer than `index.json` knows of lost some.
    pub(super) fn count_it(&mut self) {
        self.counted = true;
    }
}

/// Whether the index was as it was left.
pub(super) enum Opened {
    AsItWas,
    /// New, or the old one was damaged and set aside: fill it from the layout.
    Empty {
        set_aside: Option<PathBuf>,
    },
}

pub(super) struct Index {
    db: sled::Db,
    /// Any descriptor of the log: to sync what sled's flush wrote.
    log: File,
    ballast: PathBuf,
    /// Found at the next start, it makes the index be set aside and rebuilt.
    marker: PathBuf,
    /// Changes so far, as in its record.
    sequence: Mutex<u64>,
    /// Whether it has that record: not while it is being filled.
    complete: AtomicBool,
    /// Batches applied, and how many of them are durable: one sync serves all that waited for it.
    applied: AtomicU64,
    durable: Mutex<u64>,
    syncs: AtomicU64,
    /// Whether a commit failed. sled does not recover from a failed write while it is open.
    failed: AtomicBool,
}

impl Index {
    /// Opens the index below `private`, or begins a new one where it is absent or damaged. Damaged is also one with fewer
    /// than `known` changes: sled takes a file whose end is missing for one that was never written further.
    pub(super) fn open(private: &Path, known: u64) -> Result<(Self, Opened)> {
        let dir = private.join("index");
        let marker = private.join("index.damaged");
        let ballast = private.join("ballast");
        let mut set_aside = None;
        if marker.exists() {
            if dir.exists() {
                set_aside = Some(put_aside(private, &dir)?);
            }
            fs::remove_file(&marker).at("remove", &marker)?;
        }
        // What a kill left half written; sled would write the next one over it without cutting it off.
        remove_snapshots(&dir, ".generating");
        let opened = match guarded_open(&dir, &marker) {
            Err(e) if is_full(&e) && fs::remove_file(&ballast).is_ok() => guarded_open(&dir, &marker),
            other => other,
        };
        // A snapshot only saves reading the log from its beginning: without it, all that was flushed is still there.
        let opened = match opened {
            Err(sled::Error::Corruption { .. }) if remove_snapshots(&dir, "") > 0 => {
                log::info!("the index is read from its log: its snapshot was not whole");
                guarded_open(&dir, &marker)
            }
            other => other,
        };
        let mut db = match opened {
            Err(e @ (sled::Error::Corruption { .. } | sled::Error::Unsupported(_))) => {
                log::error!("the index is damaged ({e}): setting it aside");
                set_aside = Some(put_aside(private, &dir)?);
                guarded_open(&dir, &marker)?
            }
            other => other?,
        };
        let mut sequence = sequence_of(&db)?;
        if sequence.is_some_and(|s| s < known) {
            log::error!("the index has {sequence:?} changes of {known}: it is damaged, setting it aside");
            drop(db);
            set_aside = Some(put_aside(private, &dir)?);
            db = guarded_open(&dir, &marker)?;
            sequence = None;
        }
        let path = dir.join("db");
        let log = File::open(&path).at("open", &path)?;
        sync_dir(&dir)?;
        sync_dir(private)?;
        let index = Self {
            db,
            log,
            ballast,
            marker,
            sequence: Mutex::new(sequence.unwrap_or(known)),
            complete: sequence.is_some().into(),
            applied: AtomicU64::new(0),
            durable: Mutex::new(0),
            syncs: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        index.renew_ballast();
        // An index that lost everything looks like a new one to sled; ours has a record from its beginning.
        let state = if sequence.is_some() { Opened::AsItWas } else { Opened::Empty { set_aside } };
        Ok((index, state))
    }

    /// Says that a new index has all that there is; without it, the next start fills it again.
    pub(super) fn complete(&self) -> Result<()> {
        self.complete.store(true, Ordering::SeqCst);
        let mut batch = Batch::default();
        batch.count_it();
        self.commit(batch)
    }

    /// Changes so far.
    pub(super) fn sequence(&self) -> u64 {
        *self.sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a few MiB that `open` can have on a full disk. Best effort: without it the index still works.
    fn renew_ballast(&self) {
        if fs::metadata(&self.ballast).is_ok_and(|m| m.len() == BALLAST) {
            return;
        }
        let write = || {
            let file = File::create(&self.ballast)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST)?;
            file.sync_all()
        };
        if let Err(e) = write() {
            let _ = fs::remove_file(&self.ballast);
            log::debug!("no ballast kept for a full disk: {e}");
        }
    }

    /// Damage that shows while running is treated as damage that shows at the start: next time the index is rebuilt.
    fn checked<T>(&self, result: sled::Result<T>) -> Result<T> {
        if let Err(e @ sled::Error::Corruption { .. }) = &result {
            log::error!("the index is damaged ({e}): it is rebuilt from the layout at the next start");
            let _ = File::create(&self.marker);
        }
        Ok(result?)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        self.checked(self.db.get(key))?.map(|v| decode(&v)).transpose()
    }

    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<sled::IVec>> {
        self.checked(self.db.get(key))
    }

    pub(super) fn has(&self, key: &[u8]) -> Result<bool> {
        self.checked(self.db.contains_key(key))
    }

    /// Applies a batch and returns when it is durable. Blocks for one sync, which waiting callers share.
    pub(super) fn commit(&self, batch: Batch) -> Result<()> {
        let committed = self.try_commit(batch);
        self.failed.store(committed.is_err(), Ordering::SeqCst);
        committed
    }

    /// Whether the last commit failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn try_commit(&self, mut batch: Batch) -> Result<()> {
        if batch.counted && self.complete.load(Ordering::SeqCst) {
            // Held until it is applied, so that the record only ever grows.
            let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
            batch.inner.insert(SEQUENCE, encode(&(*sequence + 1))?);
            self.checked(self.db.apply_batch(batch.inner))?;
            *sequence += 1;
        } else if batch.count > 0 {
            self.checked(self.db.apply_batch(batch.inner))?;
        }
        let mine = self.applied.fetch_add(1, Ordering::SeqCst) + 1;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if *durable < mine {
            let all = self.applied.load(Ordering::SeqCst);
            self.checked(self.db.flush())?;
            self.log.sync_data().map_err(sled::Error::Io)?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
            *durable = all;
        }
        Ok(())
    }

    /// How often the index was synced since it was opened.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Keys and values whose keys start with `prefix`, in order, from `after` (exclusive) where given.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec)>> + use<> {
        use std::ops::Bound;
        let owned = prefix.to_vec();
        let from = match after {
            Some(after) => Bound::Excluded([prefix, after].concat()),
            None => Bound::Included(owned.clone()),
        };
        self.db
            .range((from, Bound::Unbounded))
            .take_while(move |item| item.as_ref().map_or(true, |(k, _)| k.starts_with(&owned)))
            .map(|item| item.map_err(Error::from))
    }

    /// Repositories that have records of `kind`, in order, after `after`. Costs one look-up each, however many
    /// records they have.
    pub(super) fn repositories(
        &self,
        kind: Kind,
        after: Option<&Repository>,
    ) -> impl Iterator<Item = Result<Repository>> {
        let mut from = match after {
            // One more than the zero byte: past all records of that repository.
            Some(name) => [&[kind as u8], name.as_str().as_bytes(), &[1]].concat(),
            None => vec![kind as u8],
        };
        std::iter::from_fn(move || {
            let (key, _) = match self.db.range(from.clone()..).next()? {
                Ok(found) => found,
                Err(e) => return Some(Err(e.into())),
            };
            if key.first() != Some(&(kind as u8)) {
                return None;
            }
            let Some((name, _)) = split(&key) else { return Some(Err(Error::Record("key"))) };
            from = [&[kind as u8], name.as_str().as_bytes(), &[1]].concat();
            Some(Ok(name))
        })
    }
}

fn open_db(dir: &Path) -> std::result::Result<sled::Db, sled::Error> {
    let config =
        sled::Config::new().path(dir).cache_capacity(1 << 20).flush_every_ms(None).mode(sled::Mode::LowSpace);
    // The store's own lock is ours: what holds sled's is a thread of its own that has not seen the last close yet.
    for _ in 0..50 {
        match config.open() {
            Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Ok(db) => return sync_settings(dir).map(|()| db),
            Err(e) => return Err(e),
        }
    }
    config.open()
}

/// sled writes its file of settings once and leaves it to the kernel: a power cut soon after left it empty.
fn sync_settings(dir: &Path) -> std::result::Result<(), sled::Error> {
    File::open(dir.join("conf"))?.sync_all()?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Removes sled's snapshot files with this ending, and says how many there were.
fn remove_snapshots(dir: &Path, ending: &str) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|e| {
        let name = e.file_name();
        let name = name.to_string_lossy();
        name.starts_with("snap.") && name.ends_with(ending)
    });
    ours.filter(|e| fs::remove_file(e.path()).is_ok()).count()
}

fn sequence_of(db: &sled::Db) -> Result<Option<u64>> {
    db.get(SEQUENCE)?.map(|v| decode(&v)).transpose()
}

/// Opens sled, whose recovery can panic on a damaged file. Such a panic leaves the marker, so that the next start sets
/// the file aside; where panics unwind, this one does at once. A process that is killed meanwhile leaves no marker.
fn guarded_open(dir: &Path, marker: &Path) -> std::result::Result<sled::Db, sled::Error> {
    let (opener, path) = (std::thread::current().id(), marker.to_path_buf());
    let before = Arc::new(std::panic::take_hook());
    let others = before.clone();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == opener {
            let _ = File::create(&path);
        }
        others(info);
    }));
    let opened = std::panic::catch_unwind(|| open_db(dir));
    drop(std::panic::take_hook());
    if let Ok(before) = Arc::try_unwrap(before) {
        std::panic::set_hook(before);
    }
    opened.unwrap_or_else(|_| {
        let _ = fs::remove_file(marker);
        Err(sled::Error::Corruption { at: None, bt: () })
    })
}

fn is_full(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull)
}

fn put_aside(private: &Path, dir: &Path) -> Result<PathBuf> {
    let aside = private.join(format!("index.damaged-{:08x}", super::files::random_u64() as u32));
    fs::rename(dir, &aside).at("set aside", dir)?;
    sync_dir(private)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn damaged_records_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<TagRecord>(&bytes);
            let _ = decode::<ManifestRecord>(&bytes);
            let _ = split(&bytes);
        }
    }

    #[test]
    fn records_come_back_and_stay_small() {
        let record = TagRecord {
            digest: Key(Digest::sha256(b"x")),
            since: u64::MAX,
            history: vec![
                (Key(Digest::of(crate::oci::Algorithm::Sha512, b"y")), u64::MAX);
                TagRecord::HISTORY
            ],
            origins: vec!["h".repeat(259); TagRecord::ORIGINS],
        };
        let bytes = encode(&record).unwrap();
        assert!(bytes.len() < 4000, "{}", bytes.len());
        assert_eq!(decode::<TagRecord>(&bytes).unwrap(), record);
        let mut newer = bytes;
        newer[0] = 9;
        assert!(decode::<TagRecord>(&newer).is_err());
    }

    #[test]
    fn an_index_whose_opening_died_is_set_aside_and_an_emptied_one_is_not_taken_for_new() {
        let dir = tempfile::tempdir().unwrap();
        let repository: Repository = "a/b".parse().unwrap();
        let k = key(Kind::Pin, &repository, b"x");
        {
            let (index, state) = Index::open(dir.path(), 0).unwrap();
            assert!(matches!(state, Opened::Empty { set_aside: None }));
            index.complete().unwrap();
            let mut batch = Batch::default();
            batch.put(k.clone(), vec![VERSION]);
            index.commit(batch).unwrap();
        }
        let (index, state) = Index::open(dir.path(), 0).unwrap();
        assert!(matches!(state, Opened::AsItWas) && index.has(&k).unwrap());
        drop(index);
        File::create(dir.path().join("index.damaged")).unwrap();
        let (index, state) = Index::open(dir.path(), 0).unwrap();
        assert!(matches!(state, Opened::Empty { set_aside: Some(_) }) && !index.has(&k).unwrap());
        index.complete().unwrap();
        drop(index);
        File::create(dir.path().join("index/db")).unwrap();
        let (_, state) = Index::open(dir.path(), 0).unwrap();
        assert!(matches!(state, Opened::Empty { set_aside: None }));
    }
}
