//! The content-addressed store: blobs are files, the index is sled, the data directory is an OCI image layout.
//!
//! It knows nothing of HTTP. One process at a time has it. All that is acknowledged is durable; all that is visible is
//! verified. See [`Writer`] for how a blob comes in, [`gc`] for how it goes.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_lite::Stream;

use crate::oci::{Digest, Repository};

mod arrival;
mod cache;
mod checkpoint;
mod claims;
mod error;
mod evict;
#[cfg(test)]
mod evict_tests;
mod files;
mod fsck;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod gc;
mod index;
mod known;
mod layout;
mod manifests;
#[cfg(test)]
mod model_tests;
mod pool;
mod scrub;
mod space;
#[cfg(test)]
mod tests;
mod uploads;
mod writer;

pub use arrival::{Arrival, Outcome};
pub use cache::{Cached, CachedInfo};
pub use error::{Error, Result};
pub use fsck::{Finding, FsckReport, Mend};
pub use gc::{GcReport, Lease};
pub use known::KnownManifest;
pub use manifests::{ManifestInfo, Put, Sparse, TagInfo};
pub use scrub::{Scrub, ScrubOptions, Scrubbed};
pub use uploads::Receive;
pub use writer::Writer;

use error::Context;
use files::Files;
use index::{Batch, Index, Kind, Opened};

/// A blob's bytes as they come.
pub type FollowStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Unreferenced content younger than this is never collected. Default: one hour.
    pub grace: Duration,
    /// Uploads and transfers that nobody wrote to for this long are thrown away by GC. Default: seven days.
    pub upload_idle: Duration,
    /// Free bytes of the file system that are never used for blobs. Default: 32 MiB.
    pub floor: u64,
    /// Most bytes of blobs, of blobs under way and of what is in quarantine. Default: as many as the disk has.
    pub cap: Option<u64>,
    /// Content that was touched within this time is not evicted, since somebody may be pulling it. Default: 30 s.
    pub running: Duration,
    /// Threads for file work. Default: 8.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(3600),
            upload_idle: Duration::from_secs(7 * 24 * 3600),
            floor: 32 << 20,
            cap: None,
            running: Duration::from_secs(30),
            threads: 8,
        }
    }
}

/// A handle to an open store; clones are the same store. It closes with the last one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    index: Index,
    options: Options,
    pool: pool::Pool,
    space: space::Space,
    claims: claims::Claims,
    arrivals: Mutex<HashMap<Digest, Arc<Arrival>>>,
    gc: gc::State,
    evict: evict::State,
    uses: cache::Uses,
    damages: fsck::Damages,
    known: known::Known,
    /// Publishing holds it shared, the sweep of a garbage collection exclusively: nothing is published between the
    /// moment a sweep decides and the moment it deletes.
    gate: RwLock<()>,
    layout: layout::State,
    /// Last field: released after everything else is closed.
    _lock: File,
}

/// A blob that is there whole.
pub struct Blob {
    /// Open for reading; it stays readable when the blob is collected meanwhile.
    pub file: Arc<File>,
    /// Bytes.
    pub size: u64,
}

/// What a store holds, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Blobs, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes free on the file system.
    pub free: u64,
    /// Syncs of the index since it was opened.
    pub index_syncs: u64,
}

impl Store {
    /// Opens the store in `dir`, or makes one. A damaged index is set aside and rebuilt from the layout. Blocks.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let files = Files::create(dir)?;
        let lock = lock(&files.private().join("lock"), dir)?;
        let written = layout::written_at(&files.layout_index());
        let (index, opened) = Index::open(&files.private(), written)?;
        let inner = Inner {
            space: space::Space::new(dir, options.floor, options.cap),
            pool: pool::Pool::new(options.threads),
            gc: gc::State::default(),
            evict: evict::State::default(),
            uses: cache::Uses::default(),
            damages: fsck::Damages::default(),
            known: known::Known::default(),
            claims: claims::Claims::default(),
            arrivals: Mutex::default(),
            gate: RwLock::new(()),
            layout: layout::State::default(),
            files,
            index,
            options,
            _lock: lock,
        };
        if inner.index.sequence() != written {
            // What changed before a crash is not in it yet.
            inner.layout.changed();
        }
        if let Opened::Empty { set_aside } = opened {
            let count = inner.rebuild()?;
            if let Some(aside) = set_aside {
                log::error!(
                    "the index was damaged: it is now {}, and {count} manifests were taken from the layout",
                    aside.display()
                );
            } else if count > 0 {
                log::warn!("there was no index: {count} manifests were taken from the layout");
            }
            inner.index.complete()?;
            inner.layout.changed();
            inner.refresh_layout()?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        self.inner.files.root()
    }

    /// Where the process that has the store listens for commands.
    pub fn control_socket(root: &Path) -> PathBuf {
        root.join(".satellite/control.sock")
    }

    /// Whether the store holds a blob, and its size. One `stat`.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.inner.files.stat(digest)?.map(|s| s.size))
    }

    /// A blob's content; `None` if it is not in the store.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        Ok(self.inner.files.open(digest)?.map(|(file, size)| Blob { file: Arc::new(file), size }))
    }

    /// Whether `repository` has the blob (uploaded, mounted, or named by one of its manifests).
    pub fn is_linked(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let rest = digest.key();
        Ok(self.inner.index.has(&index::key(Kind::Link, repository, &rest))?
            || self.inner.index.has(&index::key(Kind::Manifest, repository, &rest))?)
    }

    /// As [`is_linked`](Self::is_linked), with the size that the blob must have, where that is known.
    pub fn linked(&self, repository: &Repository, digest: &Digest) -> Result<Option<Option<u64>>> {
        let rest = digest.key();
        if let Some(size) = self.inner.index.raw(&index::key(Kind::Link, repository, &rest))? {
            return Ok(Some(index::link_size(&size)));
        }
        let key = index::key(Kind::Manifest, repository, &rest);
        Ok(self.inner.index.get::<index::ManifestRecord>(&key)?.map(|r| Some(r.size)))
    }

    /// Gives `repository` a blob that the store has. `false`: the store does not have it.
    pub async fn mount(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                let _gate = inner.gate.read().unwrap_or_else(PoisonError::into_inner);
                inner.touch(&digest);
                let Some(stat) = inner.files.stat(&digest)? else { return Ok(false) };
                inner.link(&repository, &digest, stat.size)?;
                Ok(true)
            })
            .await
    }

    /// Says that somebody asked for a blob and may build on it: it is not collected within the grace period.
    pub fn touch(&self, digest: &Digest) {
        self.inner.touch(digest);
    }

    /// Takes a blob from `repository`. Its bytes go with the next collection, if nobody else has it. A blob that one of
    /// the repository's manifests names stays: [`Error::BlobInUse`]. `false`: the repository does not have it.
    ///
    /// Reads all its manifests, since nothing else says who names a blob.
    pub async fn unlink_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (inner, repository, digest) = (self.inner.clone(), repository.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                // Exclusive: a manifest that is put at the same time must find the link, or make it.
                let _gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
                let key = index::key(Kind::Link, &repository, &digest.key());
                if !inner.index.has(&key)? {
                    return Ok(false);
                }
                if let Some(manifest) = inner.user_of(&repository, &digest)? {
                    return Err(Error::BlobInUse { repository, digest, manifest });
                }
                let mut batch = Batch::default();
                batch.delete(key);
                inner.index.commit(batch)?;
                Ok(true)
            })
            .await
    }

    /// Removes one record, durably. `false`: it is not there.
    async fn remove_record(&self, key: Vec<u8>) -> Result<bool> {
        let inner = self.inner.clone();
        self.inner
            .pool
            .run(move || {
                let _gate = inner.gate.read().unwrap_or_else(PoisonError::into_inner);
                if !inner.index.has(&key)? {
                    return Ok(false);
                }
                let mut batch = Batch::default();
                batch.delete(key);
                inner.commit_visible(batch)?;
                Ok(true)
            })
            .await
    }

    /// Bytes that blobs may still take: free on the file system, less the reserve and what is promised to transfers.
    pub fn available(&self) -> Result<u64> {
        self.inner.space.available()
    }

    /// Whether the index refuses to write although the disk would: after a failed write it works again only when it is
    /// opened anew.
    pub async fn is_stuck(&self) -> Result<bool> {
        if !self.inner.index.has_failed() {
            return Ok(false);
        }
        let inner = self.inner.clone();
        self.inner
            .pool
            .run(move || {
                if inner.index.commit(Batch::default()).is_ok() {
                    return Ok(false);
                }
                let probe = inner.files.private().join("probe");
                files::write_durable(&probe, &[0; 64 << 10])?;
                std::fs::remove_file(&probe).at("remove", &probe)?;
                Ok(true)
            })
            .await
    }

    /// Counts blobs and bytes. Reads the folders, so it is not for every request.
    pub async fn usage(&self) -> Result<Usage> {
        let inner = self.inner.clone();
        self.inner
            .pool
            .run(move || {
                let mut usage =
                    Usage { free: inner.space.free()?, index_syncs: inner.index.syncs(), ..Usage::default() };
                inner.files.each_blob(|_, stat| {
                    usage.blobs += 1;
                    usage.bytes += stat.size;
                    Ok(())
                })?;
                Ok(usage)
            })
            .await
    }
}

impl Inner {
    /// Links and names verified and synced data: the last steps of the order that makes it durable. The link goes first,
    /// for it shows nothing while there is no file; the other way round, a kill between the two would leave an upload
    /// that is gone and a blob that its repository does not have.
    fn publish_blob(
        &self,
        from: &Path,
        digest: &Digest,
        size: u64,
        repository: Option<&Repository>,
    ) -> Result<()> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.touch(digest);
        repository.map_or(Ok(()), |r| self.link(r, digest, size))?;
        let replaced = if self.space.cap().is_some() { self.files.stat(digest)? } else { None };
        self.files.name_blob(from, digest)?;
        self.space.freed(replaced.map_or(0, |s| s.size));
        Ok(())
    }

    /// Commits what `index.json` shows too: it is behind then.
    fn commit_visible(&self, mut batch: Batch) -> Result<()> {
        batch.count_it();
        self.index.commit(batch)?;
        self.layout.changed();
        Ok(())
    }

    fn link(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<()> {
        let key = index::key(Kind::Link, repository, &digest.key());
        if self.index.has(&key)? {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(key, index::link_record(size));
        self.index.commit(batch)
    }
}

/// Seconds since 1970 by the wall clock: for display and history only.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Takes the store for this process, or says who has it. A server that is just stopping is given half a second.
fn lock(path: &Path, root: &Path) -> Result<File> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).at("open", path)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() < Duration::from_millis(500) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = (&mut file).take(20).read_to_string(&mut text);
                return Err(Error::Locked { path: root.into(), pid: text.trim().parse().ok() });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(e).at("lock", path),
        }
    }
    file.set_len(0).at("write", path)?;
    writeln!(file, "{}", std::process::id()).at("write", path)?;
    Ok(file)
}
