//! Keeps the layout fresh and the garbage small, for as long as the store is served.

use std::time::{Duration, Instant};

use async_io::Timer;
use satellite_core::{proxy::Proxy, store::Store};

use super::GcInterval;
use crate::human;

/// How often it is looked whether the index stopped after a failed write.
const STUCK_EVERY: Duration = Duration::from_secs(5);
/// How often `index.json` is brought up to date, if anything changed.
const LAYOUT_EVERY: Duration = Duration::from_secs(1);

/// Never ends.
pub(super) async fn keep(store: &Store, proxy: Option<&Proxy>, gc_interval: &GcInterval) {
    if let Err(e) = store.keep_cap().await {
        log::error!("what is here could not be counted: {e}");
    }
    if let Some(proxy) = proxy {
        forget_denied(proxy).await;
    }
    let mut last_gc = Instant::now();
    loop {
        Timer::after(LAYOUT_EVERY).await;
        if let Err(e) = store.refresh_layout().await {
            log::error!("index.json could not be written: {e}");
        }
        if gc_interval.get().is_some_and(|every| last_gc.elapsed() >= every) {
            last_gc = Instant::now();
            collect(store).await;
        }
    }
}

async fn collect(store: &Store) {
    match store.gc(None).await {
        Ok(report) => log::info!(
            "garbage: {} blobs deleted, {}; {} held, {} cached",
            report.blobs,
            human::size(report.bytes),
            human::size(report.held_bytes),
            human::size(report.cached_bytes)
        ),
        Err(e) => log::error!("garbage could not be collected: {e}"),
    }
}

/// Forgets what the policy does not allow any more.
pub(super) async fn forget_denied(proxy: &Proxy) {
    match proxy.forget_denied().await {
        Ok(0) => {}
        Ok(tags) => log::info!("{tags} cached tags are not allowed any more and are forgotten"),
        Err(e) => log::error!("cached tags could not be looked through: {e}"),
    }
}

/// Ends when the index has to be opened anew, which only a new process does.
pub(super) async fn stuck(store: &Store) {
    loop {
        Timer::after(STUCK_EVERY).await;
        match store.is_stuck().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) => log::error!("the index cannot be written: {e}"),
        }
    }
}
