//! Room: reserved before the first byte is fetched, refused in time, so that the index can always write and the cap holds.
//!
//! Two bounds, both kept by the same books: free space of the file system above a floor, and, if there is one, a cap on
//! the bytes of blobs, of blobs under way and of what is in quarantine. Whoever writes has reserved what it writes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::error::{Context, Error, Result};

/// The books of one data directory.
#[derive(Clone)]
pub(super) struct Space {
    root: PathBuf,
    /// Free bytes of the file system that are never given out, for index, checkpoints and manifests.
    floor: u64,
    cap: Option<u64>,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    /// Bytes on the disk that the cap is about; unknown until they are counted, and without a cap.
    used: Option<u64>,
    /// Bytes promised and not yet written.
    promised: u64,
}

/// Room promised to one writer; what is left of it is given back when it is dropped.
pub(super) struct Reservation {
    space: Space,
    left: u64,
}

/// How the bounds stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes that may still be promised.
    pub(super) has: u64,
    /// Bytes by which what is written and promised is over one of the bounds already.
    pub(super) over: u64,
}

impl Space {
    pub(super) fn new(root: &Path, floor: u64, cap: Option<u64>) -> Self {
        Self { root: root.into(), floor, cap, books: Arc::default() }
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cap, if there is one.
    pub(super) fn cap(&self) -> Option<u64> {
        self.cap
    }

    /// Whether what is there must be counted before anything can be promised.
    pub(super) fn is_uncounted(&self) -> bool {
        self.cap.is_some() && self.books().used.is_none()
    }

    /// Says what is there. `count` runs once, before anybody has written: whoever writes has reserved, and waits here.
    pub(super) fn count_once(&self, count: impl FnOnce() -> Result<u64>) -> Result<()> {
        let mut books = self.books();
        if self.cap.is_some() && books.used.is_none() {
            books.used = Some(count()?);
        }
        Ok(())
    }

    /// Corrects the books, unless somebody wrote or holds a promise since they showed `before`.
    pub(super) fn correct(&self, before: u64, actual: u64) {
        let mut books = self.books();
        if books.promised == 0 && books.used == Some(before) && before != actual {
            log::info!("{}: {actual} bytes are there, {before} were in the books", self.root.display());
            books.used = Some(actual);
        }
    }

    /// Bytes that the cap is about, as far as they are counted.
    pub(super) fn used(&self) -> Option<u64> {
        self.books().used
    }

    /// Bytes were written that nobody had reserved.
    pub(super) fn took(&self, bytes: u64) {
        let mut books = self.books();
        books.used = books.used.map(|u| u.saturating_add(bytes));
    }

    /// Bytes are gone from the disk.
    pub(super) fn freed(&self, bytes: u64) {
        let mut books = self.books();
        books.used = books.used.map(|u| u.saturating_sub(bytes));
    }

    /// Free bytes on the file system, those promised included.
    pub(super) fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from).at("look at", &self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// How the bounds stand.
    pub(super) fn room(&self) -> Result<Room> {
        let free = self.free()?;
        Ok(self.room_of(free, &self.books()))
    }

    fn room_of(&self, free: u64, books: &Books) -> Room {
        let kept = self.floor.saturating_add(books.promised);
        let (mut has, mut over) = (free.saturating_sub(kept), kept.saturating_sub(free));
        if let Some(cap) = self.cap {
            let taken = books.used.unwrap_or(0).saturating_add(books.promised);
            has = has.min(cap.saturating_sub(taken));
            over = over.max(taken.saturating_sub(cap));
        }
        Room { has, over }
    }

    /// Bytes that may still be promised.
    pub(super) fn available(&self) -> Result<u64> {
        Ok(self.room()?.has)
    }

    /// Reserves `bytes`, or says what is needed and what there is.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let free = self.free()?;
        let mut books = self.books();
        let room = self.room_of(free, &books);
        if room.has < bytes {
            return Err(Error::NoSpace {
                path: self.root.clone(),
                needs: bytes,
                has: room.has,
                cap: self.cap,
            });
        }
        books.promised += bytes;
        drop(books);
        Ok(Reservation { space: self.clone(), left: bytes })
    }
}

impl Reservation {
    /// Bytes of it that are not written yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Adds what another one has left.
    pub(super) fn join(&mut self, mut other: Self) {
        self.left += std::mem::take(&mut other.left);
    }

    /// `bytes` were written: file system and books count them now.
    pub(super) fn used(&mut self, bytes: u64) {
        let taken = bytes.min(self.left);
        self.left -= taken;
        let mut books = self.space.books();
        books.promised -= taken;
        books.used = books.used.map(|u| u.saturating_add(bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.books().promised -= self.left;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_promised_is_not_promised_twice() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), 0, None);
        let half = space.free().unwrap() / 2 + 1;
        let first = space.reserve(half).unwrap();
        let Err(Error::NoSpace { needs, has, .. }) = space.reserve(half).map(drop) else {
            panic!("promised twice")
        };
        assert!(needs == half && has < half);
        drop(first);
        let mut again = space.reserve(half).unwrap();
        again.used(half + 5);
        assert_eq!(space.books().promised, 0);
        assert!(Space::new(dir.path(), u64::MAX, None).reserve(1).is_err());
    }

    #[test]
    fn the_cap_counts_what_is_there_promised_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), 0, Some(1000));
        assert!(space.is_uncounted());
        space.count_once(|| Ok(300)).unwrap();
        space.count_once(|| panic!("counted twice")).unwrap();
        let mut reservation = space.reserve(600).unwrap();
        assert_eq!(space.available().unwrap(), 100);
        assert!(space.reserve(101).is_err());
        reservation.used(200);
        assert_eq!((space.used(), space.available().unwrap()), (Some(500), 100));
        reservation.join(space.reserve(100).unwrap());
        assert_eq!((reservation.left(), space.available().unwrap()), (500, 0));
        drop(reservation);
        space.freed(100);
        assert_eq!((space.used(), space.available().unwrap()), (Some(400), 600));
        space.took(700);
        assert_eq!(space.room().unwrap().over, 100, "more is held than the cap allows");
        space.correct(1100, 50);
        assert_eq!(space.used(), Some(50));
        let held = space.reserve(1).unwrap();
        space.correct(50, 70);
        assert_eq!(space.used(), Some(50), "somebody is writing");
        drop(held);
    }
}
