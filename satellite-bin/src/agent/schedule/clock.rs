//! The time of day, as far as it is known: gateways without a battery start in 1970.
//!
//! The last time that was believed is kept on disk. A machine's clock that is before it, or after any time this program
//! will see, is not believed: time then goes on from the last known by the monotonic clock, until the machine's clock is
//! set or somebody trusted says what time it is. Nothing is to be deleted or let expire by a time that is not sure.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::ticks::{Sleep, Ticks};
use crate::agent::{
    cause::{Cause, Trouble},
    identity::put,
};

/// 2026-06-01: no clock that is right says less.
pub(super) const EARLIEST: Timestamp = Timestamp::constant(1_780_272_000, 0);
/// 2076-01-01: a clock that says more was never set.
const LATEST: Timestamp = Timestamp::constant(3_345_062_400, 0);
/// Written this often, to spare flash; and only of a clock that made no leap for so long.
const KEEP: Duration = Duration::from_secs(600);
/// What a clock may be off without being wrong: by certificates and logs nobody notices more.
const SLACK: Duration = Duration::from_secs(3600);
/// A step of the clock against the monotonic one is a leap.
const LEAP: Duration = Duration::from_secs(60);
const FILE: &str = "last-time";

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The best that is known; never before the last time known.
    pub at: Timestamp,
    /// Whether things may be deleted or expire by it.
    pub sure: bool,
}

/// The time of day over restarts, and the monotonic clock.
pub struct Clock {
    ticks: Arc<dyn Ticks>,
    file: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// What the disk, or whoever was trusted, says; and when, by the monotonic clock.
    at: Timestamp,
    when: Duration,
    /// Whether somebody trusted said it in this life.
    witnessed: bool,
    /// Since when the machine's clock has gone without leap.
    steady: (Timestamp, Duration),
    written: Option<Duration>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.read()).finish()
    }
}

impl Clock {
    /// With the last known time in `dir`, if there is one. Blocks.
    pub fn open(dir: &Path, ticks: Arc<dyn Ticks>) -> Self {
        let file = dir.join(FILE);
        let at = match std::fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse() {
                Ok(at) if (EARLIEST..LATEST).contains(&at) => at,
                _ => {
                    log::warn!("{}: is no time, and is not heeded", file.display());
                    EARLIEST
                }
            },
            Err(_) => EARLIEST,
        };
        let (wall, when) = (ticks.wall(), ticks.monotonic());
        let known = Known { at, when, witnessed: false, steady: (wall, when), written: None };
        Self { ticks, file, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.ticks.monotonic()
    }

    /// Waits, by the monotonic clock.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.ticks.sleep(time)
    }

    /// What time it is, as far as is known.
    pub fn read(&self) -> Reading {
        let known = self.known();
        let wall = self.ticks.wall();
        let floor = known.at + self.ticks.monotonic().saturating_sub(known.when);
        if known.wrong(wall, floor) {
            Reading { at: floor, sure: known.witnessed }
        } else {
            Reading { at: wall, sure: true }
        }
    }

    /// [`read`](Self::read), sure or not.
    pub fn now(&self) -> Timestamp {
        self.read().at
    }

    /// What is wrong with the machine's clock, if anything is.
    pub fn trouble(&self) -> Option<Trouble> {
        let known = self.known();
        let wall = self.ticks.wall();
        let floor = known.at + self.ticks.monotonic().saturating_sub(known.when);
        known.wrong(wall, floor).then(|| {
            let than = if known.witnessed { "it is" } else { "it was before already, at least" };
            let message =
                format!("the machine's clock says {wall:.0}, but {than} {floor:.0}: nothing is let expire");
            Trouble::new(Cause::CLOCK_WRONG, message)
        })
    }

    /// Somebody trusted says what time it is: Ground Control over TLS. Gives whether that was news.
    pub fn witness(&self, at: Timestamp) -> bool {
        if !(EARLIEST..LATEST).contains(&at) {
            return false;
        }
        let mut known = self.known();
        let floor = known.at + self.ticks.monotonic().saturating_sub(known.when);
        let news = !known.witnessed || apart(floor, at) > SLACK;
        (known.at, known.when, known.witnessed) = (at, self.ticks.monotonic(), true);
        if news {
            known.written = None;
        }
        news
    }

    /// Keeps the time for the next start, when that is due; call it as often as you like.
    ///
    /// # Errors
    /// [`Cause::CLOCK_WRONG`] names the file that cannot be written.
    pub async fn keep(&self) -> Result<(), Trouble> {
        let Some(at) = self.due() else { return Ok(()) };
        let file = self.file.clone();
        let wrote = smol::unblock(move || {
            put(&file, format!("{at:.0}\n").as_bytes())
                .map_err(|e| Trouble::new(Cause::CLOCK_WRONG, format!("{}: {e}", file.display())))
        });
        wrote.await?;
        self.known().written = Some(self.monotonic());
        Ok(())
    }

    /// The time to write, where one is due: only one that is sure, of a clock that did not leap lately.
    fn due(&self) -> Option<Timestamp> {
        let Reading { at, sure } = self.read();
        let mut known = self.known();
        let (wall, now) = (self.ticks.wall(), self.ticks.monotonic());
        if apart(known.steady.0 + now.saturating_sub(known.steady.1), wall) > LEAP {
            known.steady = (wall, now);
        }
        let steady = known.witnessed || now.saturating_sub(known.steady.1) >= KEEP;
        let due = known.written.is_none_or(|w| now.saturating_sub(w) >= KEEP);
        (sure && steady && due).then_some(at)
    }
}

impl Known {
    fn wrong(&self, wall: Timestamp, floor: Timestamp) -> bool {
        // Without witness, the floor is a least; with one, it is the time.
        wall >= LATEST || wall + SLACK < floor || (self.witnessed && apart(wall, floor) > SLACK)
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.duration_since(b).unsigned_abs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::FakeTicks;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_clock_of_1970_goes_on_from_the_last_known_time() {
        let dir = tempfile::tempdir().unwrap();
        let ticks = FakeTicks::at(now());
        let clock = Clock::open(dir.path(), ticks.clone());
        smol::block_on(clock.keep()).unwrap();
        assert!(!dir.path().join(FILE).exists(), "a clock that may leap at once is not kept");
        ticks.pass(KEEP);
        smol::block_on(clock.keep()).unwrap();
        let kept = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(kept.trim(), "2026-11-25T12:10:00Z");
        assert_eq!(clock.read(), Reading { at: now() + KEEP, sure: true });

        let ticks = FakeTicks::at(Timestamp::UNIX_EPOCH);
        let clock = Clock::open(dir.path(), ticks.clone());
        ticks.pass(DAY);
        assert_eq!(clock.read(), Reading { at: now() + KEEP + DAY, sure: false });
        assert_eq!(clock.trouble().unwrap().cause, Cause::CLOCK_WRONG);
        smol::block_on(clock.keep()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), kept, "a guess is not kept");
        // It is set.
        ticks.set(now() + DAY * 30);
        assert_eq!(clock.read(), Reading { at: now() + DAY * 30, sure: true });
        assert_eq!(clock.trouble(), None);
    }

    #[test]
    fn a_time_that_was_kept_wrong_is_mended_by_a_witness() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "2040-01-01T00:00:00Z\n").unwrap();
        let ticks = FakeTicks::at(now());
        let clock = Clock::open(dir.path(), ticks.clone());
        assert!(!clock.read().sure);
        assert!(!clock.witness(Timestamp::UNIX_EPOCH), "nobody is believed who says that");
        assert!(clock.witness(now()) && !clock.witness(now()));
        assert_eq!(clock.read(), Reading { at: now(), sure: true });
        smol::block_on(clock.keep()).unwrap();
        assert!(std::fs::read_to_string(dir.path().join(FILE)).unwrap().starts_with("2026-11-25"));
        // The machine's clock leaps into the future: the witness counts.
        ticks.set(now() + DAY * 4000);
        assert_eq!(clock.read(), Reading { at: now(), sure: true });
        assert!(clock.trouble().is_some());
    }

    #[test]
    fn damaged_files_and_absurd_clocks_are_not_heeded() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "rubbish", "1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Clock::open(dir.path(), FakeTicks::at(now())).read().sure, "{text}");
            let absurd = FakeTicks::at("2099-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(Clock::open(dir.path(), absurd).read(), Reading { at: EARLIEST, sure: false });
        }
    }
}
