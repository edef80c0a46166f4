//! Where things lie in the data directory, and the order in which they become durable.
//!
//! ```text
//! DIR/oci-layout  DIR/index.json  DIR/blobs/<algorithm>/<hex>     an OCI image layout (image-spec)
//! DIR/.satellite/lock             who has the store
//! DIR/.satellite/index/           sled
//! DIR/.satellite/partial/         uploads and transfers under way, with their checkpoints
//! DIR/.satellite/quarantine/      damaged and stray files that were set aside; the oldest go beyond 64
//! DIR/.satellite/scrub            the last blob that the scrub looked at
//! DIR/.satellite/control.sock     of the process that has the store
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::error::{Context, Result};
use crate::oci::{Algorithm, Digest};

/// Paths of a store.
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folders of a new store; an old one is left as it is.
    pub(super) fn create(root: &Path) -> Result<Self> {
        let files = Self { root: root.into() };
        fs::create_dir_all(root).at("create", root)?;
        let private = files.private();
        for (dir, mode) in [
            (private.clone(), 0o700),
            (private.join("partial"), 0o700),
            (private.join("quarantine"), 0o700),
            (root.join("blobs"), 0o755),
            (root.join("blobs/sha256"), 0o755),
            (root.join("blobs/sha512"), 0o755),
        ] {
            match fs::DirBuilder::new().mode(mode).create(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                other => other.at("create", &dir)?,
            }
        }
        let marker = root.join("oci-layout");
        if !marker.exists() {
            write_durable(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(files)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn private(&self) -> PathBuf {
        self.root.join(".satellite")
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.private().join("partial")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.private().join("quarantine")
    }

    pub(super) fn scrub_position(&self) -> PathBuf {
        self.private().join("scrub")
    }

    pub(super) fn layout_index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn blob_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    /// Size and age of a blob; `None` if there is no regular file of its name (a symlink is none of ours).
    pub(super) fn stat(&self, digest: &Digest) -> Result<Option<Stat>> {
        let path = self.blob(digest);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => {
                Ok(Some(Stat { size: meta.size(), modified: meta.modified().ok() }))
            }
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("look at", &path),
        }
    }

    /// Opens a blob for reading.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.blob(digest);
        let opened = OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(ELOOP) => {
                return Ok(None);
            }
            Err(e) => return Err(e).at("open", &path),
        };
        let meta = file.metadata().at("look at", &path)?;
        Ok(meta.is_file().then(|| (file, meta.size())))
    }

    /// Gives synced data its name. Order: the caller synced the file; here it is renamed and the folder synced; only
    /// then may a manifest name it, or anybody be told.
    pub(super) fn name_blob(&self, from: &Path, digest: &Digest) -> Result<()> {
        let to = self.blob(digest);
        fs::rename(from, &to).at("rename to", &to)?;
        sync_dir(&self.blob_dir(digest.algorithm()))
    }

    /// Stores small content under its name, durably. The same bytes again cost nothing: `false`.
    pub(super) fn put_small(&self, digest: &Digest, bytes: &[u8]) -> Result<bool> {
        let path = self.blob(digest);
        // Same name and same size is not proof of same bytes after a crash of somebody else's making: compare.
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(false);
        }
        write_durable(&path, bytes).map(|()| true)
    }

    /// Removes what writes that were killed left. Nothing may be written meanwhile. Returns how many.
    pub(super) fn sweep_temporary(&self) -> Result<u64> {
        let mut gone = 0;
        let dirs = Algorithm::ALL.map(|a| self.blob_dir(a));
        for dir in dirs.iter().map(PathBuf::as_path).chain([self.root()]) {
            for entry in fs::read_dir(dir).at("list", dir)? {
                let entry = entry.at("list", dir)?;
                let name = entry.file_name();
                if is_temporary(&name.to_string_lossy()) && fs::remove_file(entry.path()).is_ok() {
                    gone += 1;
                }
            }
        }
        Ok(gone)
    }

    /// Every regular file that is named like a blob. Foreign files and folders are passed over.
    pub(super) fn each_blob(&self, mut found: impl FnMut(Digest, Stat) -> Result<()>) -> Result<()> {
        for algorithm in Algorithm::ALL {
            let dir = self.blob_dir(algorithm);
            for entry in fs::read_dir(&dir).at("list", &dir)? {
                let entry = entry.at("list", &dir)?;
                let name = entry.file_name();
                let Ok(digest) = format!("{algorithm}:{}", name.to_string_lossy()).parse::<Digest>() else {
                    continue;
                };
                match entry.metadata() {
                    Ok(meta) if meta.is_file() => {
                        found(digest, Stat { size: meta.size(), modified: meta.modified().ok() })?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Blobs of one sixteenth of an algorithm's folder, by the first digit of their names, in order; and whatever else is
    /// there under that digit, or, in the first sixteenth, under no digit at all. Of a large store not all is in memory.
    pub(super) fn slice(&self, algorithm: Algorithm, digit: u8) -> Result<(Vec<Digest>, Vec<PathBuf>)> {
        let dir = self.blob_dir(algorithm);
        let (mut blobs, mut strays) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let first = name.bytes().next().unwrap_or_default();
            let home = if b"123456789abcdef".contains(&first) { first } else { b'0' };
            if home != digit {
                continue;
            }
            let regular = entry.file_type().is_ok_and(|t| t.is_file());
            match format!("{algorithm}:{name}").parse::<Digest>() {
                Ok(digest) if regular => blobs.push(digest),
                _ if regular && is_temporary(&name) => {}
                // Of the file system, where a disk of its own is mounted here.
                _ if name == "lost+found" => {}
                _ => strays.push(entry.path()),
            }
        }
        blobs.sort_unstable();
        Ok((blobs, strays))
    }
}

#[cfg(target_os = "linux")]
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
const ELOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();

/// What the file system knows of a blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
}

/// Replaces a file so that after a power cut it is the old one or the new one: write beside it, sync, rename, sync the folder.
pub(super) fn write_durable(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:08x}.tmp", random_u64() as u32));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    if let Err(e) = write() {
        let _ = fs::remove_file(&temporary);
        return Err(e).at("write", path);
    }
    path.parent().map_or(Ok(()), sync_dir)
}

/// Whether a name is one of [`write_durable`]'s: that of a blob or of the layout's index, with its ending.
fn is_temporary(name: &str) -> bool {
    let Some((stem, tag)) = name.strip_suffix(".tmp").and_then(|n| n.rsplit_once('.')) else { return false };
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    tag.len() == 8
        && hex(tag)
        && (stem == "index.json" || stem == "oci-layout" || (stem.len() >= 64 && hex(stem)))
}

/// Makes names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at("sync", dir)
}

/// Unpredictable enough for names nobody shall collide with or guess.
pub(super) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        // Without a random source (very early boot) time and address still tell names of one store apart.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return now.as_nanos() as u64 ^ (&raw const bytes as u64).rotate_left(32);
    }
    u64::from_le_bytes(bytes)
}
