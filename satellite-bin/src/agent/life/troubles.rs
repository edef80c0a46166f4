//! What is wrong now, by job, and the last things that were.
//!
//! What goes wrong for weeks is one line in the log at first, and one an hour: a gateway's journal is small.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use heapless::HistoryBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::cause::Trouble;

/// How many are remembered.
const KEPT: usize = 32;
/// How often the same trouble is said again.
const AGAIN: Duration = Duration::from_secs(3600);

/// A trouble that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Whose: `state`, `heartbeat`.
    pub job: String,
    /// Stable code.
    pub cause: String,
    /// For people.
    pub message: String,
    /// When it was first seen, RFC 3339.
    pub since: String,
    /// When it was last seen.
    pub last: String,
    /// How often in between.
    pub times: u64,
}

struct Open {
    noted: Noted,
    trouble: Trouble,
    said: Instant,
}

#[derive(Default)]
struct Inner {
    /// By job.
    open: BTreeMap<String, Open>,
    past: HistoryBuf<Noted, KEPT>,
}

/// All of them.
#[derive(Default)]
pub struct Troubles(Mutex<Inner>);

impl Troubles {
    /// A job failed.
    pub fn note(&self, job: &str, trouble: &Trouble) {
        self.note_at(job, trouble, Instant::now(), Timestamp::now());
    }

    /// True if it was logged.
    fn note_at(&self, job: &str, trouble: &Trouble, at: Instant, now: Timestamp) -> bool {
        let now = second(now);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |n: &Noted| n.cause == trouble.cause.as_str();
        if let Some(Open { noted, trouble: kept, said }) = inner.open.get_mut(job).filter(|o| same(&o.noted))
        {
            kept.clone_from(trouble);
            noted.times += 1;
            noted.last = now;
            noted.message.clone_from(&trouble.message);
            if at.saturating_duration_since(*said) < AGAIN {
                log::debug!("{job}: {trouble}");
                return false;
            }
            *said = at;
            log::warn!("{job}: {trouble} ({} times since {})", noted.times, noted.since);
            return true;
        }
        let noted = Noted {
            job: job.into(),
            cause: trouble.cause.as_str().into(),
            message: trouble.message.clone(),
            since: now.clone(),
            last: now,
            times: 1,
        };
        let open = Open { noted, trouble: trouble.clone(), said: at };
        if let Some(before) = inner.open.insert(job.into(), open) {
            inner.past.write(before.noted);
        }
        log::warn!("{job}: {trouble}");
        true
    }

    /// A job succeeded.
    pub fn clear(&self, job: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Open { noted, .. }) = inner.open.remove(job) {
            log::info!(
                "{job}: well again, after {} ({} times since {})",
                noted.cause,
                noted.times,
                noted.since
            );
            inner.past.write(noted);
        }
    }

    /// What is wrong now.
    pub fn open(&self) -> Vec<Noted> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.open.values().map(|open| open.noted.clone()).collect()
    }

    /// What is to be reported: the newest of what is wrong now, but that Ground Control cannot be reached it need not be
    /// told.
    pub fn worst(&self) -> Option<Trouble> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = inner.open.values().filter(|open| !open.noted.cause.starts_with("center."));
        open.max_by(|a, b| a.noted.since.cmp(&b.noted.since)).map(|open| open.trouble.clone())
    }

    /// What was wrong, oldest first.
    pub fn past(&self) -> Vec<Noted> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.past.oldest_ordered().cloned().collect()
    }
}

fn second(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::cause::Cause;

    #[test]
    fn the_same_trouble_is_said_once_an_hour_and_counted() {
        let (troubles, start, now) = (Troubles::default(), Instant::now(), Timestamp::UNIX_EPOCH);
        let away = |n: u32| Trouble::new(Cause::REGISTRY_UNREACHABLE, format!("try {n}"));
        assert!(troubles.note_at("state", &away(1), start, now));
        for n in 2..100 {
            assert!(!troubles.note_at("state", &away(n), start + Duration::from_secs(n.into()), now));
        }
        assert!(troubles.note_at("state", &away(100), start + AGAIN, now));
        assert_eq!((troubles.open()[0].times, troubles.open()[0].message.as_str()), (100, "try 100"));
        // Another one is news.
        assert!(troubles.note_at("state", &Trouble::new(Cause::DISK_BLOCKED, "full"), start, now));
        assert_eq!(troubles.worst().unwrap().cause, Cause::DISK_BLOCKED);
        troubles.clear("state");
        assert!(troubles.open().is_empty() && troubles.worst().is_none());
        let past: Vec<_> = troubles.past().into_iter().map(|n| n.cause).collect();
        assert_eq!(past, ["registry.unreachable", "disk.blocked"]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_way_to_ground_control_is_not_reported() {
        let troubles = Troubles::default();
        for _ in 0..1000 {
            troubles.note("heartbeat", &Trouble::new(Cause::CENTER_UNREACHABLE, "away"));
            assert!(troubles.worst().is_none());
            troubles.clear("heartbeat");
        }
        assert_eq!(troubles.past().len(), KEPT);
    }
}
