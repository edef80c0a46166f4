//! What of `satellite serve` is about reading everything again: the flags, and mending what is found.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_io::Timer;
use clap::Args;
use futures_lite::FutureExt;
use satellite_core::{
    registry::{Gauge, Metrics},
    replicate::Replicator,
    store::{Finding, Scrub, ScrubOptions, Scrubbed, Store},
};

use crate::human;

/// What could not be mended is tried again this often.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// Findings that wait for another try; of more, the next pass finds those that were forgotten.
const MAX_PENDING: usize = 256;

#[derive(Args)]
pub(super) struct ScrubArgs {
    /// Read everything again in the background at this rate, at most, and fetch again what has rotted; 0 never
    #[arg(long, default_value = "2MB", value_parser = parse_rate, value_name = "RATE")]
    scrub_rate: u64,
    /// Time from the end of one such pass to the beginning of the next
    #[arg(long, default_value = "7d", value_parser = human::parse_duration, value_name = "TIME")]
    scrub_interval: Duration,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { human::parse_rate(text) }
}

impl ScrubArgs {
    /// Begins to scrub, if that is wanted.
    pub(super) fn start(&self, store: &Store) -> Option<Scrub> {
        if self.scrub_rate == 0 {
            return None;
        }
        let options =
            ScrubOptions { rate: self.scrub_rate, interval: self.scrub_interval, ..ScrubOptions::default() };
        store.scrub(options).map_err(|e| log::error!("there is no thread for the scrub: {e}")).ok()
    }
}

/// Mends what is found damaged, for as long as it runs; what cannot be mended now is tried again.
pub(super) async fn mend(store: &Store, replicator: &Replicator, mended: &AtomicU64) {
    let damages = store.damages();
    let mut pending: VecDeque<(Instant, Finding)> = VecDeque::new();
    loop {
        let due = pending.front().map(|(at, _)| *at + AGAIN);
        let again = async {
            match due {
                Some(due) => drop(Timer::at(due).await),
                None => std::future::pending::<()>().await,
            }
            None
        };
        let next = async { damages.recv().await.ok() }.or(again).await;
        let Some(finding) = next.or_else(|| pending.pop_front().map(|(_, finding)| finding)) else { return };
        match replicator.heal(&finding).await {
            Ok(true) => {
                mended.fetch_add(1, Ordering::Relaxed);
                log::info!("mended: {finding}");
            }
            Ok(false) => {}
            Err(e) => {
                log::warn!("cannot be mended now: {finding}: {e}");
                if pending.len() < MAX_PENDING && !pending.iter().any(|(_, f)| *f == finding) {
                    pending.push_back((Instant::now(), finding));
                }
            }
        }
    }
}

/// The scrub's counters among the metrics.
pub(super) struct ScrubGauges {
    done: Option<Arc<Scrubbed>>,
    mended: Arc<AtomicU64>,
    gauges: [Gauge; 4],
}

impl ScrubGauges {
    pub(super) fn new(metrics: &Metrics, scrub: Option<&Scrub>, mended: Arc<AtomicU64>) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help);
        Self {
            done: scrub.map(Scrub::done),
            mended,
            gauges: [
                gauge("scrubbed_bytes", "Bytes read again since the start"),
                gauge("scrub_passes", "Passes over everything since the start"),
                gauge("scrub_findings", "What was found wrong since the start"),
                gauge("mended", "Damaged content fetched again since the start"),
            ],
        }
    }

    pub(super) fn refresh(&self) {
        let set = |gauge: &Gauge, n: u64| {
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        let [bytes, passes, findings, mended] = &self.gauges;
        if let Some(done) = &self.done {
            set(bytes, done.bytes.load(Ordering::Relaxed));
            set(passes, done.passes.load(Ordering::Relaxed));
            set(findings, done.findings.load(Ordering::Relaxed));
        }
        set(mended, self.mended.load(Ordering::Relaxed));
    }
}
