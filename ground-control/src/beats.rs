//! Heartbeats on their way into the database: gathered from all requests, written in batches, and acknowledged once
//! they are committed. While one batch is being written the next one gathers, so batches grow with the load.

use std::{sync::Arc, time::Duration};

use async_io::Timer;
use smol::channel::{Receiver, Sender, bounded};

use crate::{
    db::{
        self, Db, Dialect,
        events::{self, Event},
        heartbeats::{self, Beat},
        images,
    },
    metrics::Metrics,
};

/// Beats that may wait; more are told to come again.
const QUEUE: usize = 16_384;
/// Most of one batch.
const BATCH: usize = 256;
/// How long the first of a batch waits for company.
const GATHER: Duration = Duration::from_millis(4);

/// How often a batch is tried again that another replica's stood in the way of.
const RIVALS: usize = 3;

/// What changed with a beat, beyond that it came.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its activity, digests, interval or images are others than before: worth a line of the history.
    pub history: bool,
    /// What happened.
    pub events: Vec<Event>,
    /// Its images with their sizes, and their hash, where they are others than before.
    pub images: Option<(std::collections::BTreeMap<String, i64>, String)>,
}

struct Job {
    beat: Beat,
    change: Option<Change>,
    done: Sender<bool>,
}

/// The near end of the queue.
#[derive(Clone)]
pub struct Beats {
    jobs: Sender<Box<Job>>,
}

/// The far end: to be run by somebody.
pub struct Writer {
    jobs: Receiver<Box<Job>>,
    db: Db,
    metrics: Arc<Metrics>,
}

/// Why a beat was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Too many wait.
    Full,
    /// The database did not take it.
    Failed,
}

/// Both ends.
pub fn queue(db: Db, metrics: Arc<Metrics>) -> (Beats, Writer) {
    let (sender, jobs) = bounded(QUEUE);
    (Beats { jobs: sender }, Writer { jobs, db, metrics })
}

impl Beats {
    /// Writes one, with others; done when it is committed.
    pub async fn write(&self, beat: Beat, change: Option<Change>) -> Result<(), Lost> {
        let (done, written) = bounded(1);
        self.jobs.try_send(Box::new(Job { beat, change, done })).map_err(|_| Lost::Full)?;
        match written.recv().await {
            Ok(true) => Ok(()),
            _ => Err(Lost::Failed),
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }
}

impl Writer {
    /// Writes for as long as anybody may send.
    pub async fn run(self) {
        while let Ok(first) = self.jobs.recv().await {
            Timer::after(GATHER).await;
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            self.metrics.beats(batch.len());
            let mut written = self.write(&batch).await;
            for _ in 0..RIVALS {
                if !written.as_ref().is_err_and(db::Error::is_rivalry) {
                    break;
                }
                written = self.write(&batch).await;
            }
            match written {
                Ok(()) => {
                    for job in &batch {
                        let _ = job.done.try_send(true);
                    }
                }
                Err(e) => self.one_by_one(&batch, &e).await,
            }
        }
    }

    /// One bad apple, such as a satellite that was deleted meanwhile, must not cost the others theirs.
    async fn one_by_one(&self, batch: &[Box<Job>], first: &db::Error) {
        let away = matches!(first, db::Error::Away(_));
        for job in batch {
            let alone = std::slice::from_ref(job);
            let good = !away
                && match self.write(alone).await {
                    Ok(()) => true,
                    Err(e) => {
                        log::warn!(satellite = job.beat.satellite_id; "a heartbeat was not written: {e}");
                        false
                    }
                };
            let _ = job.done.try_send(good);
        }
        if away {
            log::warn!("heartbeats were not written: {first}");
        }
    }

    async fn write(&self, batch: &[Box<Job>]) -> db::Result<()> {
        let mut beats: Vec<Beat> = batch.iter().map(|job| job.beat.clone()).collect();
        let mut changed: Vec<&Job> =
            batch.iter().map(|job| &**job).filter(|job| job.change.is_some()).collect();
        changed.sort_by_key(|job| job.beat.satellite_id);
        let mut tx = self.db.begin().await?;
        if self.db.dialect() == Dialect::Postgres {
            let mut ids: Vec<i64> = beats.iter().map(|beat| beat.satellite_id).collect();
            ids.sort_unstable();
            ids.dedup();
            heartbeats::hold(&mut tx, &ids).await?;
        }
        heartbeats::write(&mut tx, &mut beats).await?;
        for job in changed {
            let Some(change) = &job.change else { continue };
            let hash = match &change.images {
                Some((held, hash)) => {
                    images::replace(&mut tx, job.beat.satellite_id, held).await?;
                    Some(hash.as_str())
                }
                None => None,
            };
            if change.history {
                heartbeats::record(&mut tx, &job.beat, hash).await?;
            }
            events::put(&mut tx, job.beat.satellite_id, &change.events).await?;
        }
        tx.commit().await
    }
}
