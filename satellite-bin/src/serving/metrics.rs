//! Counters of everything that serves, among the registry's metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_io::Timer;
use satellite_core::{
    net::server::Stats,
    proxy::{Counters, Proxy},
    registry::{Gauge, Metrics},
    store::{Scrub, Scrubbed, Store},
};

/// The HTTP server's counters among the metrics.
pub(super) struct Gauges {
    stats: Arc<Stats>,
    open: Gauge,
    accepted: Gauge,
    refused: Gauge,
    sent: Gauge,
    evicted: [Gauge; 2],
    store: Store,
    proxy: Option<ProxyGauges>,
    scrub: ScrubGauges,
}

impl Gauges {
    pub(super) fn new(
        metrics: &Metrics,
        stats: Arc<Stats>,
        store: &Store,
        proxy: Option<&Proxy>,
        scrub: (Option<&Scrub>, Arc<AtomicU64>),
    ) -> Self {
        Self {
            stats,
            store: store.clone(),
            scrub: ScrubGauges::new(metrics, scrub.0, scrub.1),
            proxy: proxy.map(|p| ProxyGauges::new(metrics, p.counters())),
            evicted: [
                metrics.gauge("evicted_blobs", "Blobs evicted to make room since the start"),
                metrics.gauge("evicted_bytes", "Their bytes"),
            ],
            open: metrics.gauge("connections_open", "Connections open now"),
            accepted: metrics.gauge("connections_accepted", "Connections accepted since the start"),
            refused: metrics
                .gauge("connections_refused", "Connections refused since the start: one too many"),
            sent: metrics.gauge("socket_sent_bytes", "Bytes sent since the start, heads included"),
        }
    }

    pub(super) async fn keep(&self) {
        let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        loop {
            self.open.set(clamp(self.stats.open() as u64));
            self.accepted.set(clamp(self.stats.accepted()));
            self.refused.set(clamp(self.stats.refused()));
            self.sent.set(clamp(self.stats.bytes_sent()));
            let (blobs, bytes) = self.store.evicted();
            self.evicted[0].set(clamp(blobs));
            self.evicted[1].set(clamp(bytes));
            self.scrub.refresh();
            if let Some(proxy) = &self.proxy {
                proxy.refresh();
            }
            Timer::after(Duration::from_secs(1)).await;
        }
    }
}

/// The proxy's counters among the metrics.
struct ProxyGauges {
    counters: Arc<Counters>,
    gauges: [(Gauge, Read); 6],
}

type Read = fn(&Counters) -> u64;

impl ProxyGauges {
    fn new(metrics: &Metrics, counters: Arc<Counters>) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(&format!("pull_through_{name}"), help);
        Self {
            counters,
            gauges: [
                (gauge("fetched", "Manifests and blobs fetched for clients"), |c| {
                    c.fetched.load(Ordering::Relaxed)
                }),
                (gauge("unchanged", "Tags looked up upstream that had not changed"), |c| {
                    c.unchanged.load(Ordering::Relaxed)
                }),
                (gauge("stale", "Tags served as they are, the upstream being away"), |c| {
                    c.stale.load(Ordering::Relaxed)
                }),
                (gauge("denied", "Requests that no rule allows"), |c| c.denied.load(Ordering::Relaxed)),
                (gauge("failed", "Requests that could not be satisfied"), |c| {
                    c.failed.load(Ordering::Relaxed)
                }),
                (gauge("received_bytes", "Bytes of blobs fetched for clients"), |c| {
                    c.received.load(Ordering::Relaxed)
                }),
            ],
        }
    }

    fn refresh(&self) {
        for (gauge, read) in &self.gauges {
            gauge.set(i64::try_from(read(&self.counters)).unwrap_or(i64::MAX));
        }
    }
}

/// The scrub's counters among the metrics.
struct ScrubGauges {
    done: Option<Arc<Scrubbed>>,
    mended: Arc<AtomicU64>,
    gauges: [Gauge; 4],
}

impl ScrubGauges {
    fn new(metrics: &Metrics, scrub: Option<&Scrub>, mended: Arc<AtomicU64>) -> Self {
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

    fn refresh(&self) {
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
