//! What the scrub finds damaged is fetched again.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::FutureExt;
use satellite_core::{
    replicate::Replicator,
    store::{Finding, Store},
};

/// What could not be mended is tried again this often.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// Findings that wait for another try; of more, the next pass finds those that were forgotten.
const MAX_PENDING: usize = 256;

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
