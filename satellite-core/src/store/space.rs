//! Room on the disk: reserved before the first byte is fetched, refused in time, so that the index can always write.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::error::{Context, Error, Result};

/// Free space of the data directory's file system, less what is promised to transfers under way.
pub(super) struct Space {
    root: PathBuf,
    /// Bytes that are never given out, for index, checkpoints and manifests.
    floor: u64,
    promised: Arc<AtomicU64>,
}

/// Room promised to one transfer; what is left of it is given back when it is dropped.
pub(super) struct Reservation {
    promised: Arc<AtomicU64>,
    left: u64,
}

impl Space {
    pub(super) fn new(root: &Path, floor: u64) -> Self {
        Self { root: root.into(), floor, promised: Arc::default() }
    }

    /// Free bytes on the file system, those promised included.
    pub(super) fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from).at("look at", &self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Free bytes that are neither the reserve nor promised.
    pub(super) fn available(&self) -> Result<u64> {
        Ok(self.free()?.saturating_sub(self.floor).saturating_sub(self.promised.load(Ordering::SeqCst)))
    }

    /// Reserves `bytes`, or says what is needed and what there is.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let others = self.promised.fetch_add(bytes, Ordering::SeqCst);
        let reservation = Reservation { promised: self.promised.clone(), left: bytes };
        let has = self.free()?.saturating_sub(self.floor).saturating_sub(others);
        if has < bytes {
            return Err(Error::NoSpace { path: self.root.clone(), needs: bytes, has });
        }
        Ok(reservation)
    }
}

impl Reservation {
    /// `bytes` were written: the file system counts them now.
    pub(super) fn used(&mut self, bytes: u64) {
        let taken = bytes.min(self.left);
        self.left -= taken;
        self.promised.fetch_sub(taken, Ordering::SeqCst);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.left, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_promised_is_not_promised_twice() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), 0);
        let half = space.free().unwrap() / 2 + 1;
        let first = space.reserve(half).unwrap();
        let Err(Error::NoSpace { needs, has, .. }) = space.reserve(half).map(drop) else {
            panic!("promised twice")
        };
        assert!(needs == half && has < half);
        drop(first);
        let mut again = space.reserve(half).unwrap();
        again.used(half + 5);
        assert_eq!(space.promised.load(Ordering::SeqCst), 0);
        assert!(Space::new(dir.path(), u64::MAX).reserve(1).is_err());
    }
}
