//! How the agent is.

use satellite_core::registry::{Gauge, Metrics};
use serde::{Deserialize, Serialize};

use crate::agent::{life::Noted, schedule, state::Done};

/// How the agent is: `satellite status --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it began.
    pub uptime_s: u64,
    /// Its resident memory.
    pub memory_bytes: u64,
    /// The satellite's name, once registered.
    pub name: Option<String>,
    /// `HOST:PORT`s that it listens on.
    pub listen: Vec<String>,
    /// Ground Control.
    pub ground_control: CenterStatus,
    /// What it shall hold, and does.
    pub state: Done,
    /// Images in the store, or in the user's own registry.
    pub images: usize,
    /// Bytes that the file system has left.
    pub free_bytes: u64,
    /// The configuration.
    pub config: ConfigStatus,
    /// The jobs.
    pub jobs: Vec<JobStatus>,
    /// What was done to the runtimes last.
    pub runtimes: Option<String>,
    /// What is wrong now.
    pub troubles: Vec<Noted>,
    /// What was wrong, oldest first.
    pub past: Vec<Noted>,
}

/// How a job goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub schedule: String,
    /// Whether it is at work.
    pub running: bool,
    /// When it succeeded last, RFC 3339.
    pub succeeded: Option<String>,
    /// How long it took last, in milliseconds.
    pub took_ms: u64,
    /// Failures since it succeeded.
    pub failures: u32,
    /// When it runs next, RFC 3339.
    pub next: Option<String>,
    /// Why it failed last, if it did.
    pub cause: Option<String>,
}

impl From<schedule::Status> for JobStatus {
    fn from(status: schedule::Status) -> Self {
        let took = status.last_duration.unwrap_or_default().as_millis();
        Self {
            name: status.name.into(),
            schedule: status.schedule,
            running: status.running,
            succeeded: status.last_success.map(|at| format!("{at:.0}")),
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
            failures: status.failures,
            next: status.next_due.map(|at| format!("{at:.0}")),
            cause: status.last_trouble.map(|t| t.cause.to_string()),
        }
    }
}

/// Ground Control, as seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CenterStatus {
    /// Where it is.
    pub url: String,
    /// When it answered a heartbeat last, RFC 3339.
    pub answered: Option<String>,
}

/// The configuration that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its file's directory.
    pub dir: String,
    /// Digest of the published one; empty: none was published.
    pub digest: String,
    /// Whether it has still to prove itself.
    pub on_trial: bool,
}

/// The agent's numbers among the registry's metrics.
pub(super) struct Gauges {
    registered: Gauge,
    wanted: Gauge,
    missing: Gauge,
    troubles: Gauge,
    answered: Gauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| metrics.gauge(&format!("agent_{name}"), help);
        Self {
            registered: gauge("registered", "1 once Ground Control gave an account"),
            wanted: gauge("images_wanted", "Images that the state names"),
            missing: gauge("images_missing", "Of these, those that are not here"),
            troubles: gauge("troubles", "Jobs that something is wrong with now"),
            answered: gauge("answered_seconds", "When Ground Control answered last, seconds since the epoch"),
        }
    }

    pub(super) fn set(&self, status: &Status) {
        let clamp = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.registered.set(i64::from(status.name.is_some()));
        self.wanted.set(clamp(status.state.wanted));
        self.missing.set(clamp(status.state.missing));
        self.troubles.set(clamp(status.troubles.len()));
        let answered = status.ground_control.answered.as_deref();
        let answered = answered.and_then(|t| t.parse::<jiff::Timestamp>().ok());
        self.answered.set(answered.map_or(0, jiff::Timestamp::as_second));
    }
}
