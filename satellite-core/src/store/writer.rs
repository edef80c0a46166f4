//! The one way bytes become a blob: append, checkpoint, commit. Uploads and transfers both use it.
//!
//! Pieces are gathered to 256 KiB, written here and hashed on another thread meanwhile. Every 3 MiB, or every second of
//! progress, data and then a checkpoint are synced beside the reception. Commit: hash compared → data synced → an
//! upload's link committed → renamed → folder synced → acknowledged.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::{
    Inner,
    arrival::{Arrival, Outcome},
    checkpoint::{Checkpoint, CheckpointFile},
    claims::Claim,
    error::{Context, Error, Result},
    space::Reservation,
};
use crate::oci::{Algorithm, Digest, Hasher, Repository};

/// Bytes gathered before they are written and hashed: larger falls out of the cache, smaller pays for thread hops.
const BATCH: usize = 256 << 10;
/// Below this, hashing here is cheaper than on another thread.
const HASH_INLINE: usize = 32 << 10;
/// One checkpoint may be on its way while the bytes of the next come: twice this, and what the socket holds, can be lost.
const CHECKPOINT_BYTES: u64 = 3 << 20;
/// Bytes behind the last checkpoint that stay in the page cache: a large blob shall not push out what is pulled.
const KEEP_CACHED: u64 = 8 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);

type Job<T> = smol::Task<T>;

/// The hash, here or on its way on another thread.
enum Hash {
    Here(Box<Hasher>),
    Away(Job<Box<Hasher>>),
    /// Only while it is being waited for; a writer dropped then is not used again.
    Lost,
}

/// Receives one blob.
pub struct Writer {
    inner: Arc<Inner>,
    /// Taken back before the arrival ends: who waited for that may want to write next.
    claim: Option<Claim>,
    id: String,
    path: PathBuf,
    checkpoints: PathBuf,
    file: Arc<File>,
    repository: Option<Repository>,
    batch: Vec<Bytes>,
    gathered: usize,
    written: u64,
    hash: Hash,
    ck: Option<CheckpointFile>,
    syncing: Option<Job<Result<CheckpointFile>>>,
    checkpointed: u64,
    last_checkpoint: Instant,
    reservation: Reservation,
    arrival: Option<Arc<Arrival>>,
}

impl Writer {
    /// Begins, or goes on at the newest checkpoint (`resume`). Blocks.
    pub(super) fn open(
        inner: &Arc<Inner>,
        claim: Claim,
        algorithm: Algorithm,
        repository: Option<Repository>,
        resume: Resume,
    ) -> Result<Self> {
        let path = inner.files.partials().join(claim.id());
        let checkpoints = path.with_extension("ck");
        let found = match resume {
            Resume::New => None,
            Resume::IfThere | Resume::Must => CheckpointFile::open(&checkpoints)?,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let resumed = found.and_then(|(ck, checkpoint)| {
            let hasher = checkpoint.hasher()?;
            let file = options.clone().open(&path).ok()?;
            // Shorter than its checkpoint says: not what was written.
            (file.metadata().ok()?.len() >= checkpoint.offset).then_some((ck, checkpoint, hasher, file))
        });
        let (ck, offset, hasher, file, repository) = match resumed {
            Some((ck, checkpoint, hasher, file)) => {
                // Bytes beyond the checkpoint may not have reached the disk.
                let excess = file.metadata().at("look at", &path)?.len().saturating_sub(checkpoint.offset);
                file.set_len(checkpoint.offset).at("shorten", &path)?;
                inner.space.freed(excess);
                (ck, checkpoint.offset, hasher, file, checkpoint.repository)
            }
            None if matches!(resume, Resume::Must) => return Err(Error::UploadUnknown(claim.id().into())),
            None => {
                let old = fs::metadata(&path).map_or(0, |m| m.len());
                let file = options.create(true).truncate(true).open(&path).at("create", &path)?;
                inner.space.freed(old);
                let hasher = Hasher::new(algorithm);
                let mut ck = CheckpointFile::create(&checkpoints)?;
                // Not synced: an upload that has no byte yet costs nothing to begin again.
                ck.save(&Checkpoint::new(0, &hasher, repository.clone()), false)?;
                (ck, 0, hasher, file, repository)
            }
        };
        Ok(Self {
            reservation: inner.space.reserve(0)?,
            inner: inner.clone(),
            id: claim.id().into(),
            claim: Some(claim),
            path,
            checkpoints,
            file: Arc::new(file),
            repository,
            batch: Vec::new(),
            gathered: 0,
            written: offset,
            hash: Hash::Here(Box::new(hasher)),
            ck: Some(ck),
            syncing: None,
            checkpointed: offset,
            last_checkpoint: Instant::now(),
            arrival: None,
        })
    }

    /// Lets readers follow it as `digest`.
    pub(super) fn announce(&mut self, digest: &Digest) -> Arc<Arrival> {
        let arrival =
            Arc::new(Arrival::new(digest.clone(), self.file.clone(), self.written, self.inner.pool.clone()));
        self.arrival = Some(arrival.clone());
        arrival
    }

    /// Name of the upload.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.written + self.gathered as u64
    }

    /// The repository it is uploaded to.
    pub fn repository(&self) -> Option<&Repository> {
        self.repository.as_ref()
    }

    /// Reserves room for `bytes` more, evicting what nobody holds if need be. Fails with [`Error::NoSpace`] before
    /// anything is written. What is not reserved so is reserved batch by batch.
    pub async fn reserve(&mut self, bytes: u64) -> Result<()> {
        let short = bytes.saturating_sub(self.reservation.left());
        if short > 0 {
            self.reservation.join(self.inner.room(short).await?);
        }
        Ok(())
    }

    /// Takes the next bytes. They are held (256 KiB at most; 32 KiB while somebody follows) until a batch is full or a
    /// second has passed.
    pub async fn append(&mut self, piece: Bytes) -> Result<()> {
        self.gathered += piece.len();
        self.batch.push(piece);
        if self.gathered >= BATCH
            || self.last_checkpoint.elapsed() >= CHECKPOINT_TIME
            || self.is_followed() && self.gathered >= HASH_INLINE
        {
            self.flush().await?;
            if self.written - self.checkpointed >= CHECKPOINT_BYTES
                || self.last_checkpoint.elapsed() >= CHECKPOINT_TIME
            {
                self.start_checkpoint().await?;
            }
        }
        Ok(())
    }

    /// Whether somebody waits for what comes: such get it in smaller pieces, sooner.
    fn is_followed(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.is_followed())
    }

    /// Writes what is gathered and sends it to be hashed.
    async fn flush(&mut self) -> Result<()> {
        if self.gathered == 0 {
            return Ok(());
        }
        self.reserve(self.gathered as u64).await?;
        let batch = std::mem::take(&mut self.batch);
        let length = std::mem::take(&mut self.gathered);
        let mut hasher = self.take_hasher().await;
        if length < HASH_INLINE {
            batch.iter().for_each(|piece| hasher.update(piece));
            self.hash = Hash::Here(hasher);
            self.write(&batch)?;
        } else {
            let pieces = batch.clone();
            let hash = move || {
                pieces.iter().for_each(|piece| hasher.update(piece));
                hasher
            };
            let job = self.inner.pool.start(hash).await;
            self.hash = Hash::Away(job);
            self.write(&batch)?;
        }
        let length = length as u64;
        self.written += length;
        self.reservation.used(length);
        if let Some(arrival) = &self.arrival {
            arrival.publish(self.written);
        }
        Ok(())
    }

    fn write(&self, batch: &[Bytes]) -> Result<()> {
        let mut at = self.written;
        for piece in batch {
            self.file.write_all_at(piece, at).at("write", &self.path)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    async fn take_hasher(&mut self) -> Box<Hasher> {
        match std::mem::replace(&mut self.hash, Hash::Lost) {
            Hash::Here(hasher) => hasher,
            Hash::Away(job) => job.await,
            // Unreachable while a writer is used through &mut by one caller; a fresh hash fails the commit safely.
            Hash::Lost => Box::new(Hasher::new(Algorithm::Sha256)),
        }
    }

    /// Syncs data, then the checkpoint, beside what comes next.
    async fn start_checkpoint(&mut self) -> Result<()> {
        let ck = self.finish_checkpoint().await?;
        let hasher = self.take_hasher().await;
        let checkpoint = Checkpoint::new(self.written, &hasher, self.repository.clone());
        self.hash = Hash::Here(hasher);
        self.checkpointed = self.written;
        self.last_checkpoint = Instant::now();
        let (file, path, mut ck) = (self.file.clone(), self.path.clone(), ck);
        // What a client follows, or may soon ask for, is read again: only what is long past is dropped.
        let past = self.written.saturating_sub(KEEP_CACHED);
        let past = if self.is_followed() { 0 } else { past };
        let sync = move || {
            file.sync_data().at("sync", &path)?;
            ck.save(&checkpoint, true)?;
            if let Some(past) = std::num::NonZeroU64::new(past) {
                let _ = rustix::fs::fadvise(&file, 0, Some(past), rustix::fs::Advice::DontNeed);
            }
            Ok(ck)
        };
        self.syncing = Some(self.inner.pool.start(sync).await);
        Ok(())
    }

    async fn finish_checkpoint(&mut self) -> Result<CheckpointFile> {
        if let Some(syncing) = self.syncing.take() {
            return syncing.await;
        }
        match self.ck.take() {
            Some(ck) => Ok(ck),
            // A checkpoint before failed or was given up: begin the file again.
            None => CheckpointFile::create(&self.checkpoints),
        }
    }

    /// Makes every byte taken so far durable, and returns how many there are.
    pub async fn checkpoint(&mut self) -> Result<u64> {
        self.flush().await?;
        if self.written != self.checkpointed || self.syncing.is_some() {
            self.start_checkpoint().await?;
            self.ck = Some(self.finish_checkpoint().await?);
        }
        Ok(self.written)
    }

    /// Gives the blob its name, if its digest is `expected`, and links it to the upload's repository. On a mismatch the
    /// bytes are thrown away. Returns the size.
    pub async fn commit(mut self, expected: &Digest) -> Result<u64> {
        self.flush().await?;
        self.ck = Some(self.finish_checkpoint().await?);
        let hasher = self.take_hasher().await;
        let (inner, file, path) = (self.inner.clone(), self.file.clone(), self.path.clone());
        let (wanted, repository, size) = (expected.clone(), self.repository.clone(), self.written);
        let stored = self
            .inner
            .pool
            .run(move || {
                // Started with another hash function than the client then names: read it again.
                let actual = if hasher.algorithm() == wanted.algorithm() {
                    hasher.finish()
                } else {
                    hash_file(&file, wanted.algorithm()).at("read", &path)?
                };
                if actual != wanted {
                    return Err(Error::DigestMismatch { expected: wanted, actual });
                }
                // Its age counts from now, not from the last byte: an upload may have rested for days.
                file.set_modified(SystemTime::now()).at("date", &path)?;
                file.sync_data().at("sync", &path)?;
                inner.publish_blob(&path, &wanted, size, repository.as_ref())
            })
            .await;
        match stored {
            Ok(()) => {
                let _ = fs::remove_file(&self.checkpoints);
                self.finish(Outcome::Stored(size));
                Ok(size)
            }
            Err(e) => {
                if matches!(e, Error::DigestMismatch { .. }) {
                    self.remove();
                }
                self.finish(Outcome::Failed(e.to_string()));
                Err(e)
            }
        }
    }

    /// Throws the bytes away.
    pub fn discard(mut self, why: &str) {
        self.remove();
        self.finish(Outcome::Failed(why.into()));
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.checkpoints);
        if fs::remove_file(&self.path).is_ok() {
            self.inner.space.freed(self.written);
        }
    }

    /// Lets others write, and tells those who follow how it ended. Nothing is done to the files afterwards.
    fn finish(&mut self, outcome: Outcome) {
        drop(self.claim.take());
        if let Some(arrival) = self.arrival.take() {
            arrival.end(outcome);
            self.inner.forget_arrival(&arrival);
        }
    }

    /// Ends a try that failed, keeping what came for the next one.
    pub async fn park(mut self, why: &str) -> Result<u64> {
        let offset = self.checkpoint().await;
        self.finish(Outcome::Failed(why.into()));
        offset
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish(Outcome::Failed("the transfer was given up".into()));
    }
}

/// What an earlier try left.
#[derive(Clone, Copy)]
pub(super) enum Resume {
    /// Nothing: begin.
    New,
    /// Go on if there is something, else begin.
    IfThere,
    /// Go on, or fail with [`Error::UploadUnknown`].
    Must,
}

/// The digest of a file's content, read in 256 KiB pieces.
pub(super) fn hash_file(file: &File, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; BATCH];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
