//! Checking the store: every name against its bytes, every record against its files.

use std::{
    fmt,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, PoisonError},
};

use serde::{Deserialize, Serialize};
use smol::channel::{Receiver, Sender};

use super::{
    Blob, Inner, ManifestInfo, Store,
    error::{Context, Result},
    files::{random_u64, sync_dir},
    index::{self, Batch, Kind},
    scrub::{Pace, slices},
};
use crate::oci::{Digest, Manifest, Repository};

/// Findings that wait to be mended.
const MAX_DAMAGES: usize = 256;
/// Files kept in quarantine, and their bytes.
const MAX_QUARANTINE: usize = 64;
const MAX_QUARANTINE_BYTES: u64 = 256 << 20;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// A file whose bytes are not what its name says. With repair it is in quarantine.
    CorruptBlob {
        /// Its name.
        digest: Digest,
        /// What its bytes are.
        actual: Digest,
    },
    /// A manifest whose file is missing or damaged. With repair it is out of the repository, with its tags.
    LostManifest {
        /// Where.
        repository: Repository,
        /// Which.
        digest: Digest,
    },
    /// A blob that a manifest needs and the store does not have. Pulling the image again mends it.
    MissingBlob {
        /// Where.
        repository: Repository,
        /// Who needs it.
        manifest: Digest,
        /// Which.
        digest: Digest,
    },
    /// A file or folder among the blobs that is none. Mended, it is in quarantine.
    StrayFile {
        /// Where it is.
        path: String,
    },
    /// A tag that points to no manifest. With repair it is gone.
    DanglingTag {
        /// Where.
        repository: Repository,
        /// Which.
        tag: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CorruptBlob { digest, actual } => {
                write!(f, "corrupt blob {digest}: its bytes are {actual}")
            }
            Self::LostManifest { repository, digest } => write!(f, "lost manifest {repository}@{digest}"),
            Self::MissingBlob { repository, manifest, digest } => {
                write!(f, "missing blob {digest}, needed by {repository}@{manifest}")
            }
            Self::DanglingTag { repository, tag } => write!(f, "tag {repository}:{tag} points to nothing"),
            Self::StrayFile { path } => write!(f, "{path} is no blob"),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckReport {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Manifests checked.
    pub manifests: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Whether it was mended as far as it can be without the network.
    pub repaired: bool,
}

/// What a check does about what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mend {
    /// Nothing.
    Nothing,
    /// Damaged and stray files are set aside, so that nobody gets them and they can be fetched again.
    SetAside,
    /// Besides, records that lead nowhere are removed: what cannot be fetched again.
    All,
}

/// What was found damaged, for whoever fetches it again. Bounded: what does not fit is found again by the next check.
pub(super) struct Damages(Sender<Finding>, Receiver<Finding>);

impl Default for Damages {
    fn default() -> Self {
        let (sender, receiver) = smol::channel::bounded(MAX_DAMAGES);
        Self(sender, receiver)
    }
}

impl Damages {
    pub(super) fn tell(&self, finding: Finding) {
        log::warn!("{finding}");
        let _ = self.0.try_send(finding);
    }
}

impl Store {
    /// Reads every blob and checks every record, and mends what it is told to. `progress` is called after each blob with
    /// blobs and bytes so far.
    pub async fn fsck(
        &self,
        mend: Mend,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<FsckReport> {
        let inner = self.inner.clone();
        let turn = self.inner.layout.turn.lock_arc().await;
        let job = move || {
            let _turn = turn;
            inner.fsck(mend, progress)
        };
        self.inner.pool.run(job).await
    }

    /// Checks every record, and no blob's bytes: what is left to do after damaged content was fetched again.
    pub async fn check_records(&self, mend: Mend) -> Result<FsckReport> {
        let inner = self.inner.clone();
        self.inner.pool.run(move || inner.check_records(mend)).await
    }

    /// What checks and readers find damaged from now on, each to one receiver.
    pub fn damages(&self) -> Receiver<Finding> {
        self.inner.damages.1.clone()
    }

    /// Sets a blob aside whose file is not as long as it must be: it is missing then, and can be fetched again.
    pub async fn set_aside(&self, blob: &Blob, digest: &Digest) -> Result<()> {
        let (inner, file, digest) = (self.inner.clone(), blob.file.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                if inner.quarantine(&file, &digest)? {
                    let actual = Pace::full().hash(&file, digest.algorithm());
                    let actual = actual.at("read", &inner.files.blob(&digest))?.unwrap_or(digest.clone());
                    inner.damages.tell(Finding::CorruptBlob { digest, actual });
                }
                Ok(())
            })
            .await
    }
}

impl Inner {
    fn fsck(&self, mend: Mend, mut progress: impl FnMut(u64, u64)) -> Result<FsckReport> {
        let mut report = FsckReport { repaired: mend != Mend::Nothing, ..FsckReport::default() };
        self.check_blobs(mend, &Pace::full(), None, |digest, bytes, finding| {
            report.blobs += u64::from(digest.is_some());
            report.bytes += bytes;
            report.findings.extend(finding);
            progress(report.blobs, report.bytes);
        })?;
        let records = self.check_records(mend)?;
        report.manifests = records.manifests;
        report.findings.extend(records.findings);
        Ok(report)
    }

    /// Reads blobs in the order of their names, those after `from`. `visit` gets each with its bytes and what is wrong
    /// with it, and strays without a digest. Gives the last blob if the pace said to end.
    #[allow(clippy::option_option)]
    pub(super) fn check_blobs(
        &self,
        mend: Mend,
        pace: &Pace,
        from: Option<&Digest>,
        mut visit: impl FnMut(Option<&Digest>, u64, Option<Finding>),
    ) -> Result<Option<Option<Digest>>> {
        let mut last = from.cloned();
        let place = |d: &Digest| (d.algorithm(), d.hex().bytes().next().unwrap_or_default());
        let first = from.map(place);
        for (algorithm, digit) in slices().skip_while(|s| first.is_some_and(|f| f != *s)) {
            let (blobs, strays) = self.files.slice(algorithm, digit)?;
            for path in strays {
                // One that cannot be moved (a mount, say) keeps nobody from reading the rest.
                if mend != Mend::Nothing
                    && let Err(e) = self.put_aside(&path)
                {
                    log::warn!("{e}");
                }
                visit(None, 0, Some(Finding::StrayFile { path: path.display().to_string() }));
            }
            let after = from.filter(|f| place(f) == (algorithm, digit));
            for digest in blobs.into_iter().filter(|d| after.is_none_or(|a| d > a)) {
                // Collected since it was listed.
                let Some((file, size)) = self.files.open(&digest)? else { continue };
                let Some(actual) = pace.hash(&file, algorithm).at("read", &self.files.blob(&digest))? else {
                    return Ok(Some(last));
                };
                let wrong = actual != digest
                    && (mend == Mend::Nothing || self.quarantine(&Arc::new(file), &digest)?);
                let finding = wrong.then(|| Finding::CorruptBlob { digest: digest.clone(), actual });
                visit(Some(&digest), size, finding);
                last = Some(digest);
            }
        }
        Ok(None)
    }

    /// Moves a blob's file into quarantine, unless it was written anew since it was opened: `false`.
    fn quarantine(&self, file: &File, digest: &Digest) -> Result<bool> {
        let path = self.files.blob(digest);
        {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let now = fs::symlink_metadata(&path);
            if now.ok().map(|m| m.ino()) != file.metadata().ok().map(|m| m.ino()) {
                return Ok(false);
            }
            let aside = self.files.quarantine().join(format!("{}-{}", digest.algorithm(), digest.hex()));
            let replaced = fs::symlink_metadata(&aside).map_or(0, |m| m.len());
            fs::rename(&path, &aside).at("set aside", &path)?;
            self.space.freed(replaced);
            sync_dir(&self.files.blob_dir(digest.algorithm()))?;
        }
        self.bound_quarantine()?;
        Ok(true)
    }

    /// Moves a file that has no business among the blobs into quarantine.
    fn put_aside(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = self.files.quarantine().join(format!("stray-{:08x}-{name}", random_u64() as u32));
        fs::rename(path, &aside).at("set aside", path)?;
        self.bound_quarantine()
    }

    /// Keeps the newest: who wants to know why a disk rots needs a few, and they take room from what is wanted.
    fn bound_quarantine(&self) -> Result<()> {
        let dir = self.files.quarantine();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let Ok(meta) = entry.metadata() else { continue };
            kept.push((meta.ctime(), meta.ctime_nsec(), meta.len(), meta.is_dir(), entry.path()));
        }
        kept.sort_unstable();
        let mut bytes: u64 = kept.iter().map(|k| k.2).sum();
        let mut left = kept.len();
        for (_, _, size, is_dir, path) in kept {
            if left <= MAX_QUARANTINE && bytes <= MAX_QUARANTINE_BYTES {
                break;
            }
            let gone = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if gone.is_ok() {
                self.space.freed(size);
            }
            left -= 1;
            bytes -= size;
        }
        Ok(())
    }

    pub(super) fn check_records(&self, mend: Mend) -> Result<FsckReport> {
        let mut report = FsckReport { repaired: mend != Mend::Nothing, ..FsckReport::default() };
        let repair = mend == Mend::All;
        for repository in self.index.repositories(Kind::Manifest, None) {
            self.fsck_repository(&repository?, repair, &mut report)?;
        }
        for repository in self.index.repositories(Kind::Tag, None) {
            self.fsck_tags(&repository?, repair, &mut report)?;
        }
        Ok(report)
    }

    fn fsck_repository(&self, repository: &Repository, repair: bool, report: &mut FsckReport) -> Result<()> {
        for info in self.manifests(repository, None) {
            let info = info?;
            report.manifests += 1;
            let Some(manifest) = self.read_whole(&info)? else {
                if repair {
                    // Not one that was put again since it was looked at.
                    let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                    if self.read_whole(&info)?.is_some() {
                        continue;
                    }
                    let mut batch = Batch::default();
                    self.forget_manifest(repository, &info.digest, &mut batch)?;
                    self.commit_visible(batch)?;
                }
                report
                    .findings
                    .push(Finding::LostManifest { repository: repository.clone(), digest: info.digest });
                continue;
            };
            // Pulled through, and its blobs are fetched when somebody wants them.
            if self.is_cached_in_part(repository, &info.digest)? {
                continue;
            }
            for blob in manifest.blobs.iter().filter(|b| !b.is_foreign()) {
                if self.files.stat(&blob.digest)?.is_none_or(|s| s.size != blob.size) {
                    report.findings.push(Finding::MissingBlob {
                        repository: repository.clone(),
                        manifest: info.digest.clone(),
                        digest: blob.digest.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// A manifest, if its bytes are there and what its name says.
    fn read_whole(&self, info: &ManifestInfo) -> Result<Option<Manifest>> {
        let raw = self.read_small(&info.digest, Some(info.size))?;
        let whole = raw.filter(|raw| Digest::of(info.digest.algorithm(), raw) == info.digest);
        Ok(whole.and_then(|raw| Manifest::parse(raw, Some(&info.media_type)).ok()))
    }

    fn fsck_tags(&self, repository: &Repository, repair: bool, report: &mut FsckReport) -> Result<()> {
        for item in self.tags(repository, None) {
            let (tag, digest) = item?;
            if self.index.has(&index::key(Kind::Manifest, repository, &digest.key()))? {
                continue;
            }
            if repair {
                // Not one that was set since it was looked at.
                let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                if self.tag(repository, &tag)?.is_none_or(|t| t.digest.0 != digest)
                    || self.index.has(&index::key(Kind::Manifest, repository, &digest.key()))?
                {
                    continue;
                }
                let mut batch = Batch::default();
                batch.delete(index::key(Kind::Tag, repository, tag.as_str().as_bytes()));
                self.commit_visible(batch)?;
            }
            report
                .findings
                .push(Finding::DanglingTag { repository: repository.clone(), tag: tag.to_string() });
        }
        Ok(())
    }
}
