//! Something that is done at its times for ever.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_listener::Event;
use futures_lite::{FutureExt, future};
use jiff::Timestamp;

use super::{
    clock::Clock,
    text::Schedule,
    window::{Opening, Windows},
};
use crate::agent::cause::{Cause, Trouble};

/// First wait after a failure, and shortest.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after a failure of what goes by a cron line.
const LONGEST: Duration = Duration::from_secs(3600);
/// What hangs on the time of day looks at it this often: it may be set.
const LOOK: Duration = Duration::from_secs(60);
/// Most that is added to a wait that the other side asked for, so that a fleet does not come back as one.
const SPREAD: Duration = Duration::from_secs(30);

/// How a job differs from one that runs at once and at any time of day.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first run comes after a random part of this.
    pub jitter: Duration,
    /// When it may run.
    pub windows: Windows,
}

/// Something that is done at its times for ever; the work is given to [`run`](Self::run).
///
/// The first run comes at once, the next by the schedule. A period counts from start to start, and what was missed is not
/// made up for. After a failure the wait is random, from a second up to a limit that doubles with each failure until it is
/// the period. Runs never overlap, and a panic is a failure like others where the program was built to unwind.
#[derive(Debug)]
pub struct Job(JobHandle);

/// Wakes a job, changes it, and says how it goes. All clones are of the same job.
#[derive(Clone, Debug)]
pub struct JobHandle(Arc<Shared>);

/// How a job goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// When it runs.
    pub schedule: String,
    /// Whether it runs now.
    pub running: bool,
    /// Runs that ended.
    pub runs: u64,
    /// Begin of the last or present run.
    pub last_start: Option<Timestamp>,
    /// End of the last run.
    pub last_end: Option<Timestamp>,
    /// End of the last run that went well.
    pub last_success: Option<Timestamp>,
    /// How long the last run took; while it runs, how long it has.
    pub last_duration: Option<Duration>,
    /// Why the last run failed, if it did.
    pub last_trouble: Option<Trouble>,
    /// Failures since the last run that went well.
    pub failures: u32,
    /// When it runs next, as far as is known now; `None` while it runs.
    pub next_due: Option<Timestamp>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    clock: Arc<Clock>,
    /// Something changed that may move the next run.
    changed: Event,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    windows: Windows,
    /// By the schedule.
    due: Due,
    /// A try after a failure, by the monotonic clock.
    retry: Option<Duration>,
    /// The other side wants to be left alone until then.
    not_before: Duration,
    asked: Asked,
    /// Begin of the last run: by the monotonic clock.
    began: Option<Duration>,
    running: bool,
    runs: u64,
    last_start: Option<Timestamp>,
    last_end: Option<Timestamp>,
    last_success: Option<Timestamp>,
    last_duration: Option<Duration>,
    last_trouble: Option<Trouble>,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    /// By the monotonic clock.
    At(Duration),
    /// The first time of the cron line after this one.
    After(Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    No,
    /// As soon as it may.
    Now,
    /// Whatever speaks against it.
    Anyway,
}

impl Job {
    /// A job that waits for its work. `name` is for people and metrics.
    pub fn new(name: &'static str, schedule: Schedule, options: Options, clock: Arc<Clock>) -> Self {
        let first = clock.monotonic() + between(Duration::ZERO, options.jitter);
        let state = State {
            schedule,
            windows: options.windows,
            due: Due::At(first),
            retry: None,
            not_before: Duration::ZERO,
            asked: Asked::No,
            began: None,
            running: false,
            runs: 0,
            last_start: None,
            last_end: None,
            last_success: None,
            last_duration: None,
            last_trouble: None,
            failures: 0,
        };
        Self(JobHandle(Arc::new(Shared { name, clock, changed: Event::new(), state: Mutex::new(state) })))
    }

    /// Wakes it, changes it, and says how it goes.
    pub fn handle(&self) -> JobHandle {
        self.0.clone()
    }

    /// Does `work` at its times. Ends never; to stop it, drop it.
    pub async fn run<F: AsyncFnMut() -> Result<(), Trouble>>(self, mut work: F) -> Infallible {
        let shared = &*self.0.0;
        loop {
            shared.until_due().await;
            let running = shared.begin();
            let done = AssertUnwindSafe(async { work().await }).catch_unwind().await;
            shared.end(done.unwrap_or_else(|payload| Err(panicked(shared.name, &*payload))));
            drop(running);
            // What never waits must not keep others from running.
            future::yield_now().await;
        }
    }
}

impl JobHandle {
    /// Runs it as soon as its windows and the other side allow, what seemed hopeless too; if it runs already, once more after
    /// that. Several calls before a run are one.
    pub fn now(&self) {
        self.ask(Asked::Now);
    }

    /// The same at once, outside of windows too: somebody wants to see it run.
    pub fn now_anyway(&self) {
        self.ask(Asked::Anyway);
    }

    fn ask(&self, asked: Asked) {
        let mut state = self.0.state();
        state.asked = state.asked.max(asked);
        drop(state);
        self.0.changed.notify(usize::MAX);
    }

    /// From now on by another schedule; the last run counts for it, a failure's wait stays. The same schedule changes
    /// nothing.
    pub fn reschedule(&self, schedule: Schedule) {
        let mut state = self.0.state();
        if state.schedule == schedule {
            return;
        }
        state.schedule = schedule;
        if let Some(began) = state.began {
            state.due = state.next(began, &self.0.clock);
        }
        drop(state);
        self.0.changed.notify(usize::MAX);
    }

    /// From now on in other windows.
    pub fn confine(&self, windows: Windows) {
        self.0.state().windows = windows;
        self.0.changed.notify(usize::MAX);
    }

    /// How it goes.
    pub fn status(&self) -> Status {
        let clock = &self.0.clock;
        let mut state = self.0.state();
        let now = clock.now();
        let wait =
            if state.running { None } else { Some(state.wait(clock).map_or(Duration::ZERO, |w| w.time)) };
        let running = state.began.filter(|_| state.running).map(|b| clock.monotonic().saturating_sub(b));
        Status {
            name: self.0.name,
            schedule: state.schedule.to_string(),
            running: state.running,
            runs: state.runs,
            last_start: state.last_start,
            last_end: state.last_end,
            last_success: state.last_success,
            last_duration: running.or(state.last_duration),
            last_trouble: state.last_trouble.clone(),
            failures: state.failures,
            next_due: wait.and_then(|w| now.checked_add(w).ok()),
        }
    }
}

/// Says that a run is over, also of one that was dropped.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running = false;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_due(&self) {
        loop {
            let changed = self.changed.listen();
            let Some(wait) = self.state().wait(&self.clock) else { return };
            let time = if wait.by_wall { wait.time.min(LOOK) } else { wait.time };
            changed.or(self.clock.sleep(time)).await;
        }
    }

    fn begin(&self) -> Running<'_> {
        let mut state = self.state();
        let now = self.clock.monotonic();
        state.asked = Asked::No;
        state.retry = None;
        state.running = true;
        state.began = Some(now);
        state.last_start = Some(self.clock.now());
        state.due = state.next(now, &self.clock);
        Running(self)
    }

    fn end(&self, result: Result<(), Trouble>) {
        let mut state = self.state();
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        state.runs += 1;
        state.last_end = Some(wall);
        state.last_duration = state.began.map(|b| now.saturating_sub(b));
        state.not_before = Duration::ZERO;
        match result {
            Ok(()) => {
                state.failures = 0;
                state.last_success = Some(wall);
                state.last_trouble = None;
            }
            Err(trouble) => {
                state.failures = state.failures.saturating_add(1);
                // Whoever runs the job says so where people look, and says it once.
                log::debug!("{}: {trouble}", self.name);
                let cap = state.schedule.period().unwrap_or(LONGEST).max(FIRST);
                let limit = FIRST.saturating_mul(1 << state.failures.min(30)).min(cap);
                state.retry = Some(now + between(FIRST, limit));
                if let Some(wait) = trouble.retry_after {
                    state.not_before = now + wait + between(Duration::ZERO, SPREAD.min(wait / 10));
                }
                state.last_trouble = Some(trouble);
            }
        }
    }
}

struct Wait {
    time: Duration,
    /// Whether it may change with the time of day.
    by_wall: bool,
}

impl State {
    /// When the schedule wants the run after one that began at `began`.
    fn next(&self, began: Duration, clock: &Clock) -> Due {
        match &self.schedule {
            Schedule::Every(interval) => Due::At(began + interval.duration()),
            Schedule::Cron(_) => Due::After(self.last_start.unwrap_or_else(|| clock.now())),
        }
    }

    /// `None`: it is to run now.
    fn wait(&mut self, clock: &Clock) -> Option<Wait> {
        if self.asked == Asked::Anyway {
            return None;
        }
        let (now, wall) = (clock.monotonic(), clock.now());
        let mut by_wall = false;
        let mut at = match (&mut self.due, &self.schedule) {
            (Due::After(from), Schedule::Cron(cron)) => {
                by_wall = true;
                // The clock may have been put back.
                *from = (*from).min(wall);
                now + cron.after(*from).map_or(LONGEST, |next| until(wall, next))
            }
            (Due::At(at), _) => *at,
            (Due::After(_), Schedule::Every(_)) => now,
        };
        if let Some(retry) = self.retry {
            at = at.min(retry);
        }
        if self.asked == Asked::Now {
            at = now;
        }
        // Not tried in vain was our own idea. Now something is another than it was.
        let hopeless = self.last_trouble.as_ref().is_some_and(|t| t.ours);
        let not_before = if hopeless && self.asked == Asked::Now { now } else { self.not_before };
        let time = at.max(not_before).saturating_sub(now);
        if !time.is_zero() {
            return Some(Wait { time, by_wall });
        }
        match self.windows.at(wall) {
            Opening::Open(_) => None,
            Opening::Closed(opens) => Some(Wait { time: until(wall, opens).max(FIRST), by_wall: true }),
        }
    }
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Any time from `least` to `most`.
fn between(least: Duration, most: Duration) -> Duration {
    let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX - 1);
    least + Duration::from_millis(fastrand::u64(0..=span))
}

fn panicked(name: &str, payload: &(dyn Any + Send)) -> Trouble {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Trouble::new(Cause::LIFE_PANICKED, format!("{name} panicked, which is a bug: {text}"))
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
