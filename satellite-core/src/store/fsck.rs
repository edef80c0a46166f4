//! Checking the store: every name against its bytes, every record against its files.

use std::{fs, os::unix::fs::MetadataExt, sync::PoisonError};

use serde::{Deserialize, Serialize};

use super::{
    Inner, ManifestInfo, Store,
    error::{Context, Result},
    files::sync_dir,
    index::{self, Batch, Kind},
    writer::hash_file,
};
use crate::oci::{Digest, Manifest, Repository};

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
    /// A tag that points to no manifest. With repair it is gone.
    DanglingTag {
        /// Where.
        repository: Repository,
        /// Which.
        tag: String,
    },
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

impl Store {
    /// Reads every blob and checks every record. `repair` sets damaged blobs aside and removes records that lead nowhere.
    /// `progress` is called after each blob with blobs and bytes so far.
    pub async fn fsck(
        &self,
        repair: bool,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<FsckReport> {
        let inner = self.inner.clone();
        let turn = self.inner.layout.turn.lock_arc().await;
        let job = move || {
            let _turn = turn;
            inner.fsck(repair, progress)
        };
        self.inner.pool.run(job).await
    }
}

impl Inner {
    fn fsck(&self, repair: bool, mut progress: impl FnMut(u64, u64)) -> Result<FsckReport> {
        let mut report = FsckReport { repaired: repair, ..FsckReport::default() };
        self.files.each_blob(|digest, _| {
            // Collected since it was listed.
            let Some((file, size)) = self.files.open(&digest)? else { return Ok(()) };
            let path = self.files.blob(&digest);
            let actual = hash_file(&file, digest.algorithm()).at("read", &path)?;
            // A check shall not push what is in use out of the page cache.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            report.blobs += 1;
            report.bytes += size;
            if actual != digest {
                if repair {
                    // Not one that was written anew while this one was read.
                    let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                    let now = fs::symlink_metadata(&path);
                    if now.ok().map(|m| m.ino()) != file.metadata().ok().map(|m| m.ino()) {
                        return Ok(());
                    }
                    let aside =
                        self.files.quarantine().join(format!("{}-{}", digest.algorithm(), digest.hex()));
                    fs::rename(&path, &aside).at("set aside", &path)?;
                    sync_dir(&self.files.blob_dir(digest.algorithm()))?;
                }
                report.findings.push(Finding::CorruptBlob { digest, actual });
            }
            progress(report.blobs, report.bytes);
            Ok(())
        })?;
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
