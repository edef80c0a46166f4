//! Making room: what nothing holds goes first, then what nobody asked for for longest.
//!
//! An eviction is a collection that keeps no more than a number of bytes: tags, pins, leases and what was touched within
//! [`Options::running`](super::Options::running) are kept in any case, cached manifests as far as there is room, the most
//! recently used first. One turn serves all who wait for room.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    GcReport, Inner, Store,
    error::{Context, Result},
    space::Reservation,
};

/// More than is asked for is evicted, so that not every blob that comes needs a walk through the index: a 32nd of the cap.
const SLACK: u64 = 32;
/// ... or of the file system where there is no cap, at most this.
const MAX_SLACK: u64 = 256 << 20;
/// After an eviction that could not make the room asked for, the next one waits: it would find the same.
const IN_VAIN: Duration = Duration::from_secs(2);
/// Between two lines in the log about a cap that what is held does not fit under.
const COMPLAIN_EVERY: Duration = Duration::from_secs(3600);
/// Passes over the store for one demand.
const ROUNDS: usize = 3;

/// Evictions so far.
#[derive(Default)]
pub(super) struct State(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    in_vain: Option<Instant>,
    complained: Option<Instant>,
    evicted: (u64, u64),
}

impl State {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Makes room for `bytes` if it can by evicting, and says how many there are then. For whoever plans: a writer does
    /// it by itself.
    pub async fn make_room(&self, bytes: u64) -> Result<u64> {
        match self.inner.room(bytes).await {
            Ok(reservation) => drop(reservation),
            Err(e) if e.is_no_space() => {}
            Err(e) => return Err(e),
        }
        self.available()
    }

    /// Evicts until the cap holds, which may be lower than it was when this store was last open. What is held stays,
    /// and the log says so if that is too much.
    pub async fn keep_cap(&self) -> Result<()> {
        drop(self.inner.room(0).await?);
        if self.inner.space.room()?.over == 0 {
            return Ok(());
        }
        let (inner, turn) = (self.inner.clone(), self.inner.gc.turn.lock_arc().await);
        let job = move || {
            let _turn = turn;
            inner.evict(0)?;
            if inner.space.room()?.over > 0 {
                inner.complain();
            }
            Ok(())
        };
        self.inner.pool.run(job).await
    }

    /// Most bytes that the store may take, if that was said.
    pub fn cap(&self) -> Option<u64> {
        self.inner.space.cap()
    }

    /// Blobs evicted since the store was opened, and their bytes.
    pub fn evicted(&self) -> (u64, u64) {
        self.inner.evict.inside().evicted
    }
}

impl Inner {
    /// Reserves room, evicting if there is none.
    pub(super) async fn room(self: &Arc<Self>, bytes: u64) -> Result<Reservation> {
        if self.space.is_uncounted() {
            let inner = self.clone();
            self.pool.run(move || inner.space.count_once(|| inner.count())).await?;
        }
        let refused = match self.space.reserve(bytes) {
            Err(e) if e.is_no_space() => e,
            other => return other,
        };
        if self.evict.inside().in_vain.is_some_and(|t| t.elapsed() < IN_VAIN) {
            return Err(refused);
        }
        let turn = self.gc.turn.lock_arc().await;
        // Whoever had the turn before may have made enough for all.
        if let Ok(reservation) = self.space.reserve(bytes) {
            return Ok(reservation);
        }
        let inner = self.clone();
        let job = move || {
            let _turn = turn;
            inner.evict(bytes)
        };
        self.pool.run(job).await?;
        let reserved = self.space.reserve(bytes);
        if reserved.is_err() {
            self.evict.inside().in_vain = Some(Instant::now());
            self.complain();
        }
        reserved
    }

    /// Bytes that the cap is about: blobs, blobs under way, quarantine.
    pub(super) fn count(&self) -> Result<u64> {
        let mut bytes = 0;
        self.files.each_blob(|_, stat| {
            bytes += stat.size;
            Ok(())
        })?;
        for dir in [self.files.partials(), self.files.quarantine()] {
            for entry in fs::read_dir(&dir).at("list", &dir)? {
                let entry = entry.at("list", &dir)?;
                if entry.file_name().to_string_lossy().ends_with(".ck") {
                    continue;
                }
                bytes += entry.metadata().ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
            }
        }
        Ok(bytes)
    }

    /// Sees to it that `needs` bytes can be reserved, if that can be. Blocks; the caller has the turn.
    fn evict(&self, needs: u64) -> Result<()> {
        let slack = self.space.cap().map_or(MAX_SLACK, |cap| (cap / SLACK).min(MAX_SLACK));
        for round in 0..ROUNDS {
            let room = self.space.room()?;
            // The slack is a wish; what is needed, a must.
            let wish = if round == 0 { slack } else { 0 };
            let short = needs.saturating_add(wish).saturating_add(room.over).saturating_sub(room.has);
            if short == 0 {
                break;
            }
            let before = room;
            let report = self.collect(self.options.running, Some(short))?;
            self.note(&report);
            if self.space.room()?.has >= needs {
                break;
            }
            if report.blobs == 0 && self.clear_remains()? == 0 && self.space.room()?.has <= before.has {
                break;
            }
        }
        Ok(())
    }

    fn note(&self, report: &GcReport) {
        if report.blobs > 0 {
            log::info!("made room: {} blobs, {} bytes evicted", report.blobs, report.bytes);
        }
        let mut inside = self.evict.inside();
        inside.evicted.0 += report.blobs;
        inside.evicted.1 += report.bytes;
    }

    /// Damaged blobs that were set aside, and what abandoned transfers left: the last to go, since a transfer's bytes
    /// were paid for. Returns the bytes freed.
    fn clear_remains(&self) -> Result<u64> {
        let mut freed = 0;
        let dir = self.files.quarantine();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let size = entry.metadata().ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
            if fs::remove_file(entry.path()).is_ok() {
                freed += size;
            }
        }
        self.space.freed(freed);
        let (_, bytes) = self.sweep_partials(self.options.grace)?;
        Ok(freed + bytes)
    }

    /// Corrects the books after a collection: files may have come or gone by other hands.
    pub(super) fn recount(&self) -> Result<()> {
        if let Some(before) = self.space.used() {
            let actual = self.count()?;
            self.space.correct(before, actual);
        }
        Ok(())
    }

    fn complain(&self) {
        let (Some(cap), Some(used)) = (self.space.cap(), self.space.used()) else { return };
        let mut inside = self.evict.inside();
        if inside.complained.is_some_and(|t| t.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        inside.complained = Some(Instant::now());
        log::warn!(
            "{used} bytes of the cap of {cap} are taken by what must stay: nothing is fetched that does not fit; \
             raise the cap or remove images"
        );
    }
}
