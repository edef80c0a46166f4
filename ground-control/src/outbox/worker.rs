//! Who does which row when.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::future::or;
use smol::channel::bounded;

use super::{Inner, Kind, Outbox, Outcome, steps::Failure};
use crate::{
    central::Error,
    db::{self, now, outbox},
};

/// The longest that a step may take.
const STEP: Duration = Duration::from_secs(90);
/// How long a request waits for its own rows.
const PATIENCE: Duration = Duration::from_secs(12);
/// Rows done side by side by one process.
const AT_ONCE: i64 = 4;
/// How often a worker looks for what others put.
const LOOK: Duration = Duration::from_secs(2);
/// Between tries, at least and at most; the second for what central refused for good.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
const REFUSED: Duration = Duration::from_secs(60);

/// Before the next try, after so many.
pub fn delay(attempts: i64, refused: bool) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempts.clamp(1, 20).saturating_sub(1));
    let base = doubled.min(LONGEST).max(if refused { REFUSED } else { FIRST });
    // A quarter of it is chance, so that what failed together is not tried together.
    base.mul_f64(0.75 + 0.5 * f64::from(chance()))
}

fn chance() -> f32 {
    let mut bytes = [0; 2];
    let _ = getrandom::fill(&mut bytes);
    f32::from(u16::from_le_bytes(bytes)) / f32::from(u16::MAX)
}

impl Outbox {
    /// Does these rows now, in order, and waits a bounded time for them. They go on if the request does not.
    pub async fn run_now(&self, rows: &[(Kind, &str)]) -> Vec<Outcome> {
        let rows: Vec<(Kind, String)> = rows.iter().map(|(k, n)| (*k, (*n).to_string())).collect();
        let count = rows.len();
        let (sender, outcomes) = bounded(count.max(1));
        let this = self.clone();
        let work = async move {
            for (kind, name) in rows {
                let outcome = this.run_one(kind, &name).await;
                let _ = sender.try_send(outcome);
            }
        };
        self.inner.executor.spawn(work).detach();
        let mut all = Vec::with_capacity(count);
        let end = Instant::now() + PATIENCE;
        while all.len() < count {
            let late = async {
                Timer::at(end).await;
                None
            };
            match or(async { outcomes.recv().await.ok() }, late).await {
                Some(outcome) => all.push(outcome),
                None => break,
            }
        }
        all.resize(count, Outcome::Pending);
        self.wake();
        all
    }

    async fn run_one(&self, kind: Kind, name: &str) -> Outcome {
        let lease = self.inner.lease_name();
        let claimed = async {
            let mut tx = self.inner.db.begin().await?;
            let entry =
                outbox::claim_one(&mut tx, kind.as_str(), name, &lease, db::micros(self.inner.lease)).await?;
            tx.commit().await?;
            Ok::<_, db::Error>(entry)
        };
        match claimed.await {
            Ok(Some(entry)) => self.inner.run(entry, &lease).await,
            Ok(None) => self.inner.others(kind, name).await,
            Err(e) => {
                log::warn!(kind = kind.as_str(), name; "the outbox cannot be read: {e}");
                Outcome::Pending
            }
        }
    }

    /// Does what is due, for ever.
    pub async fn work(&self) {
        let inner = &self.inner;
        loop {
            let woken = inner.wake.listen();
            match inner.round().await {
                Ok(0) => {
                    let pause = inner.pause().await;
                    or(woken, async {
                        Timer::after(pause).await;
                    })
                    .await;
                }
                Ok(_) => {}
                Err(e) => {
                    log::warn!("the outbox cannot be read: {e}");
                    Timer::after(LOOK).await;
                }
            }
        }
    }
}

impl Inner {
    fn lease_name(&self) -> String {
        format!("{}/{}", self.owner, crate::auth::random_hex())
    }

    /// Takes some rows and does them side by side; how many.
    async fn round(self: &Arc<Self>) -> db::Result<usize> {
        let lease = self.lease_name();
        let mut tx = self.db.begin().await?;
        let entries =
            outbox::claim(&mut tx, self.db.dialect(), &lease, db::micros(self.lease), AT_ONCE).await?;
        tx.commit().await?;
        let tasks: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                let (this, lease) = (Arc::clone(self), lease.clone());
                self.executor.spawn(async move { this.run(entry, &lease).await })
            })
            .collect();
        let count = tasks.len();
        for task in tasks {
            task.await;
        }
        Ok(count)
    }

    async fn pause(&self) -> Duration {
        let due = async { outbox::next_due(&mut *self.db.read().await?).await };
        match due.await {
            Ok(Some(at)) => {
                let wait = u64::try_from(at - now()).unwrap_or(0);
                Duration::from_micros(wait).clamp(Duration::from_millis(20), LOOK)
            }
            _ => LOOK,
        }
    }

    /// Does a row that is ours, and writes down how that went.
    async fn run(&self, entry: outbox::Entry, lease: &str) -> Outcome {
        let late = async {
            Timer::after(STEP).await;
            Err(Error::transient("timeout", format!("{} {}: no end in time", entry.kind, entry.name)).into())
        };
        let done = or(self.step(&entry), or(late, self.renew(&entry, lease))).await;
        let (kind, name, attempts) = (entry.kind.as_str(), entry.name.as_str(), entry.attempts);
        let outcome = match done {
            Ok(()) => Outcome::Done,
            Err(Failure::Central(e)) => {
                log::warn!(kind, name, attempts, cause = e.code(); "central is not in line yet: {e}");
                Outcome::Failed(e)
            }
            Err(Failure::Database(e)) => {
                log::warn!(kind, name, attempts; "central is not in line yet: {e}");
                Outcome::Failed(Error::transient("database", e.to_string()))
            }
        };
        self.metrics.step(kind, outcome.is_done());
        let written = async {
            let mut tx = self.db.begin().await?;
            match &outcome {
                Outcome::Failed(e) => {
                    let at = now() + db::micros(delay(attempts, !e.is_transient()));
                    outbox::failed(&mut tx, &entry, lease, e.code(), &e.to_string(), at).await?;
                }
                _ => outbox::done(&mut tx, &entry, lease).await?,
            }
            tx.commit().await
        };
        if let Err(e) = written.await {
            // The lease runs out, and it is done again.
            log::warn!(kind, name; "the outbox cannot be written: {e}");
        }
        outcome
    }

    /// Keeps the row ours while we work on it. Never ends.
    async fn renew<T>(&self, entry: &outbox::Entry, lease: &str) -> T {
        loop {
            Timer::after(self.lease / 3).await;
            let renewed = async {
                let mut tx = self.db.begin().await?;
                outbox::renew(&mut tx, entry, lease, db::micros(self.lease)).await?;
                tx.commit().await
            };
            if let Err(e) = renewed.await {
                // Then another process may do the same at the same time, which does no harm.
                log::warn!(kind = entry.kind.as_str(), name = entry.name.as_str(); "a lease was not renewed: {e}");
            }
        }
    }

    /// Somebody else does it already: waits for that.
    async fn others(&self, kind: Kind, name: &str) -> Outcome {
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            let state = async { outbox::state(&mut *self.db.read().await?, kind.as_str(), name).await };
            match state.await {
                Ok(None | Some(outbox::Progress::Done)) => return Outcome::Done,
                Ok(Some(outbox::Progress::Failed(cause))) => {
                    return Outcome::Failed(Error::transient("outbox", cause));
                }
                _ if Instant::now() >= end => return Outcome::Pending,
                _ => {}
            }
            Timer::after(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_apart_within_bounds() {
        for (attempts, refused, least, most) in
            [(1, false, 0.7, 1.3), (3, false, 2.9, 5.1), (30, false, 224.0, 376.0), (1, true, 44.0, 76.0)]
        {
            let d = delay(attempts, refused).as_secs_f64();
            assert!(d >= least && d <= most, "{attempts}: {d}");
        }
    }
}
