//! What Prometheus reads at `/metrics`.

use std::{sync::Mutex, sync::PoisonError, sync::atomic::AtomicU64, time::Duration};

use http::Method;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::fleet::health::State;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    kind: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Health {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pool {
    state: &'static str,
}

/// Counters and gauges.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Request, Counter>,
    seconds: Histogram,
    steps: Family<Step, Counter>,
    beats: Counter,
    batches: Counter,
    satellites: Family<Health, Gauge>,
    /// Rows of the outbox that are not done.
    pub outbox_pending: Gauge,
    /// Of these, those that failed at least once.
    pub outbox_failing: Gauge,
    /// Seconds since the oldest of them changed.
    pub outbox_age: Gauge,
    pool: Family<Pool, Gauge>,
    /// 1 while central says that it is well.
    pub central_up: Gauge,
    /// Heartbeats that wait to be written.
    pub beats_waiting: Gauge,
    /// Connections open.
    pub connections: Gauge,
    /// Seconds since the epoch at which the process began.
    started: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at nothing.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("ground_control");
        let seconds =
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]);
        let new = Self {
            requests: Family::default(),
            seconds,
            steps: Family::default(),
            beats: Counter::default(),
            batches: Counter::default(),
            satellites: Family::default(),
            outbox_pending: Gauge::default(),
            outbox_failing: Gauge::default(),
            outbox_age: Gauge::default(),
            pool: Family::default(),
            central_up: Gauge::default(),
            beats_waiting: Gauge::default(),
            connections: Gauge::default(),
            started: Gauge::default(),
            registry: Mutex::default(),
        };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        new.started.set(since.as_secs_f64());
        registry.register("requests", "Requests answered, by route", new.requests.clone());
        registry.register("request_seconds", "Time from head to answer", new.seconds.clone());
        registry.register("outbox_steps", "Objects at central brought in line, or not", new.steps.clone());
        registry.register("heartbeats", "Heartbeats written", new.beats.clone());
        registry.register("heartbeat_batches", "Transactions they took", new.batches.clone());
        registry.register(
            "heartbeats_waiting",
            "Heartbeats that wait to be written",
            new.beats_waiting.clone(),
        );
        registry.register("satellites", "Satellites by state", new.satellites.clone());
        registry.register("outbox_pending", "Objects at central out of line", new.outbox_pending.clone());
        registry.register("outbox_failing", "Of these, failed at least once", new.outbox_failing.clone());
        registry.register(
            "outbox_oldest_seconds",
            "Since the oldest of them changed",
            new.outbox_age.clone(),
        );
        registry.register("database_connections", "Connections to the database", new.pool.clone());
        registry.register("central_up", "Whether central is well", new.central_up.clone());
        registry.register("connections_open", "Connections of clients", new.connections.clone());
        registry.register("start_time_seconds", "When the process began", new.started.clone());
        Self { registry: Mutex::new(registry), ..new }
    }

    /// One more request.
    pub fn request(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let method = match method.as_str() {
            m @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => m,
            _ => "other",
        };
        self.requests.get_or_create(&Request { method: method.into(), route: route.into(), status }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// One more try to bring an object in line.
    pub fn step(&self, kind: &str, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.steps.get_or_create(&Step { kind: kind.into(), outcome }).inc();
    }

    /// One more batch of heartbeats.
    pub fn beats(&self, count: usize) {
        self.batches.inc();
        self.beats.inc_by(count as u64);
    }

    /// How the fleet is.
    pub fn census(&self, counts: &[(State, i64)]) {
        for (state, count) in counts {
            self.satellites.get_or_create(&Health { state: state.as_str() }).set(*count);
        }
    }

    /// How the pool is.
    pub fn pool(&self, open: u32, idle: usize) {
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        self.pool.get_or_create(&Pool { state: "idle" }).set(idle);
        self.pool.get_or_create(&Pool { state: "busy" }).set(i64::from(open).saturating_sub(idle).max(0));
    }

    /// All of it in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a text does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}
