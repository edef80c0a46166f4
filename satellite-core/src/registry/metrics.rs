//! Counters of the registry, and gauges that others add, in the text format of Prometheus.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{Duration, Instant},
};

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge as PrometheusGauge},
    registry::Registry as Collection,
};

use crate::store::{Store, Usage};

/// Counting blobs reads the folders: not at every scrape.
const USAGE_AGE: Duration = Duration::from_secs(60);

/// A number that goes up and down.
pub type Gauge = PrometheusGauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

/// What a registry counts.
pub struct Metrics {
    collection: Mutex<Collection>,
    requests: Family<RequestLabels, Count>,
    sent: Count,
    received: Count,
    blobs: Gauge,
    bytes: Gauge,
    free: Gauge,
    syncs: Gauge,
    usage: async_lock::Mutex<Option<(Instant, Usage)>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut collection = Collection::with_prefix("satellite");
        let requests = Family::default();
        collection.register("requests", "Requests by route, method and status", requests.clone());
        let (sent, received) = (Count::default(), Count::default());
        collection.register("sent_bytes", "Bytes of bodies in answers begun", sent.clone());
        collection.register("received_bytes", "Bytes of uploaded blobs", received.clone());
        let gauge = |collection: &mut Collection, name: &str, help: &str| {
            let gauge = Gauge::default();
            collection.register(name, help, gauge.clone());
            gauge
        };
        Self {
            blobs: gauge(&mut collection, "blobs", "Blobs in the store, manifests included"),
            bytes: gauge(&mut collection, "stored_bytes", "Bytes of the blobs in the store"),
            free: gauge(&mut collection, "free_bytes", "Bytes free on the store's file system"),
            syncs: gauge(&mut collection, "index_syncs", "Syncs of the index since the start"),
            collection: Mutex::new(collection),
            requests,
            sent,
            received,
            usage: async_lock::Mutex::new(None),
        }
    }
}

impl Metrics {
    /// Adds a gauge of somebody else's.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.collection.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, gauge.clone());
        gauge
    }

    pub(super) fn request(&self, route: &'static str, method: &Method, status: u16, bytes: u64) {
        // Methods that nobody defined must not make a series each.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.sent.inc_by(bytes);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// The text of all of them.
    pub(super) async fn render(&self, store: &Store) -> String {
        let mut usage = self.usage.lock().await;
        if usage.is_none_or(|(at, _)| at.elapsed() > USAGE_AGE) {
            match store.usage().await {
                Ok(now) => *usage = Some((Instant::now(), now)),
                Err(e) => log::warn!("the store cannot be counted: {e}"),
            }
        }
        if let Some((_, now)) = *usage {
            let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            self.blobs.set(clamp(now.blobs));
            self.bytes.set(clamp(now.bytes));
            self.free.set(clamp(now.free));
            self.syncs.set(clamp(now.index_syncs));
        }
        let mut text = String::new();
        let collection = self.collection.lock().unwrap_or_else(PoisonError::into_inner);
        if encode(&mut text, &collection).is_err() {
            text.clear();
        }
        text
    }
}
