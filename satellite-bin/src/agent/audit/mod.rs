//! The audit log: what was done to this satellite and by it, one line of JSON each, in the reference's form.
//!
//! | file | does |
//! |---|---|
//! | `event` | [`Event`]: what happened |
//! | `sink` | where lines go: a file, the machine's syslog, a syslog server |
//! | `rotated` | a file that is set aside when it is full |
//!
//! Off unless the settings say otherwise. Nobody waits for it: events queue up, and what overflows is counted and told.
//! Uses `agent::cause`, `agent::schedule::Clock` and the types of `settings::Audit`. OpenTelemetry is not spoken.

mod event;
mod rotated;
mod sink;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_listener::Event as Wake;

use super::{
    cause::{Cause, Trouble},
    schedule::Clock,
    settings,
};
pub use event::Event;
use sink::Sink;

/// Most events that wait to be written.
const MAX_QUEUE: usize = 512;
/// The same failure is written down once in this time: registration is tried every few seconds.
const QUIET: Duration = Duration::from_secs(600);
/// Most failures that are remembered for that.
const MAX_QUIET: usize = 64;

/// The audit log; all clones are the same.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

struct Shared {
    clock: Arc<Clock>,
    queue: Mutex<Queue>,
    /// Held while lines are written, so that they stay in order.
    sink: Mutex<Option<Sink>>,
    arrived: Wake,
}

#[derive(Default)]
struct Queue {
    on: bool,
    events: VecDeque<String>,
    lost: u64,
    quiet: BTreeMap<String, Duration>,
    satellite: String,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Audit(on: {})", self.0.queue().on)
    }
}

impl Audit {
    /// Off, until [`configure`](Self::configure) says otherwise.
    pub fn new(clock: Arc<Clock>) -> Self {
        let shared = Shared { clock, queue: Mutex::default(), sink: Mutex::default(), arrived: Wake::new() };
        Self(Arc::new(shared))
    }

    /// Opens what the settings say, and writes there from now on. What is queued goes to where it was meant to. Blocks.
    ///
    /// # Errors
    /// [`Cause::AUDIT_FAILED`]: nothing can be written there; all stays as it was.
    pub fn configure(&self, settings: &settings::Audit) -> Result<(), Trouble> {
        let failed = |message: String| Trouble::new(Cause::AUDIT_FAILED, message).slowly();
        let next = match (&settings.syslog, &settings.otel) {
            _ if !settings.enabled => None,
            (Some(syslog), otel) => {
                if let Some(endpoint) = otel {
                    log::warn!(
                        "audit.otel: nothing is sent to {endpoint}: OpenTelemetry is not spoken, syslog is"
                    );
                }
                Some(Sink::open(syslog).map_err(|e| failed(format!("the audit log cannot be opened: {e}")))?)
            }
            (None, _) => {
                let message = "audit.syslog is off, and OpenTelemetry is not spoken: switch audit.syslog on";
                return Err(failed(message.into()));
            }
        };
        self.0.drain();
        self.0.queue().on = next.is_some();
        *self.0.sink() = next;
        Ok(())
    }

    /// Whose log it is, as soon as that is known.
    pub fn satellite(&self, name: &str) {
        self.0.queue().satellite = name.chars().take(255).collect();
    }

    /// Writes down what happened, soon.
    pub fn record(&self, event: Event) {
        let (clock, mut queue) = (&self.0.clock, self.0.queue());
        if !queue.on {
            return;
        }
        if let Some(key) = event.repeats() {
            let now = clock.monotonic();
            queue.quiet.retain(|_, at| now.saturating_sub(*at) < QUIET);
            if queue.quiet.contains_key(&key) || queue.quiet.len() >= MAX_QUIET {
                return;
            }
            queue.quiet.insert(key, now);
        }
        if queue.events.len() >= MAX_QUEUE {
            queue.lost += 1;
            return;
        }
        let line = event.line(clock.now(), &queue.satellite);
        queue.events.push_back(line);
        drop(queue);
        self.0.arrived.notify(1);
    }

    /// Writes for ever what is recorded.
    pub async fn run(&self) -> std::convert::Infallible {
        loop {
            let arrived = self.0.arrived.listen();
            self.flush().await;
            arrived.await;
        }
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        if !self.0.queue().events.is_empty() {
            let shared = Arc::clone(&self.0);
            smol::unblock(move || shared.drain()).await;
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sink(&self) -> MutexGuard<'_, Option<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain(&self) {
        let mut sink = self.sink();
        let (lines, lost, satellite) = {
            let mut queue = self.queue();
            (std::mem::take(&mut queue.events), std::mem::take(&mut queue.lost), queue.satellite.clone())
        };
        let Some(sink) = sink.as_mut() else { return };
        let told = (lost > 0).then(|| Event::lost(lost).line(self.clock.now(), &satellite));
        for (n, line) in lines.iter().chain(&told).enumerate() {
            if let Err(e) = sink.write(line, self.clock.now()) {
                log::error!("the audit log cannot be written: {e}");
                self.queue().lost += lost + lines.len().saturating_sub(n) as u64;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
