//! What can go wrong in the store, each naming the object.

use std::{io, path::PathBuf};

use crate::oci::{Digest, ManifestError, Reference, Repository};

/// A result of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the store {path} is in use by another process{}: stop it, or let it do the work", pid_text(*.pid))]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who, as it wrote in the lock file.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not enough room, so nothing was begun.
    #[error("no room in {path}: {needs} bytes are needed, {has} are free {}; {}",
        cap.map_or("above the reserve".into(), |cap| format!("under the cap of {cap} and above the reserve")),
        if cap.is_some() { "raise the cap or remove images" } else { "free space or remove images" }
    )]
    NoSpace {
        /// The data directory.
        path: PathBuf,
        /// Bytes needed.
        needs: u64,
        /// Bytes there are.
        has: u64,
        /// The cap on what the store may take, if there is one.
        cap: Option<u64>,
    },
    /// The index refused.
    #[error("the index of the store failed: {0}")]
    Index(#[from] sled::Error),
    /// A record of the index is not readable.
    #[error(
        "the index of the store has a damaged record ({0}): stop the satellite and remove .satellite/index \
         from the data directory, and it is rebuilt from index.json"
    )]
    Record(&'static str),
    /// The bytes are not what their name says.
    #[error("content is {actual}, expected {expected}: nothing was stored")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("{digest} should have {expected} bytes, got {actual}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// Announced.
        expected: u64,
        /// Received.
        actual: u64,
    },
    /// Nobody has it.
    #[error("blob {0} is not in the store")]
    BlobUnknown(Digest),
    /// Nobody has it.
    #[error("{0}: {1} is not in the store")]
    ManifestUnknown(Repository, Reference),
    /// A manifest names what is not here.
    #[error("manifest {manifest} needs {missing}, which is not in the store")]
    Incomplete {
        /// The manifest.
        manifest: Digest,
        /// The first thing missing.
        missing: Digest,
    },
    /// An image would lose a blob.
    #[error("{digest} is part of {manifest} in {repository}: remove that first")]
    BlobInUse {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
        /// A manifest that names it.
        manifest: Digest,
    },
    /// No such upload, or of another repository.
    #[error("upload {0} is unknown")]
    UploadUnknown(String),
    /// Somebody is writing to it.
    #[error("upload {0} is in use by another request")]
    UploadBusy(String),
    /// A piece of an upload that does not follow the last.
    #[error("upload {id} is at byte {at}, not at {given}")]
    UploadOffset {
        /// The upload.
        id: String,
        /// Where it is.
        at: u64,
        /// Where the client thinks it is.
        given: u64,
    },
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Somebody else was fetching it and gave up.
    #[error("the transfer of {0} was given up: {1}")]
    Abandoned(Digest, String),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|p| format!(" (pid {p})")).unwrap_or_default()
}

impl Error {
    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Index(sled::Error::Io(source)) => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// Says what was tried with which path.
pub(super) trait Context<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.into(), source })
    }
}
