//! What each job does, and what one tells another.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::future;
use satellite_core::fleet::SyncAnswer;
use smol::unblock;

use super::{
    build, mirrors,
    status::{CenterStatus, ConfigStatus, Gauges, Status},
};
use crate::{
    agent::{
        audit::{Audit, Event},
        cause::Trouble,
        identity::Identity,
        life::{self, Troubles},
        report::{Answered, BeatInput, Pace, Reporter},
        schedule::{Clock, Job, JobHandle, Options, Schedule, Windows},
        settings::{Change, Config, LOOK_EVERY, RegistryMode, Settings},
        state::{Registries, StateJob},
    },
    control, logging,
    serving::{Ended, Handle},
};

/// How often the runtimes are looked at again: one may have been installed.
const RUNTIMES: Duration = Duration::from_secs(900);
/// A fleet whose power comes back does not come all at once.
const APART: Duration = Duration::from_secs(2);
/// How often clock, edits of the file and numbers are looked at.
const LOOK: Duration = LOOK_EVERY;
/// What Ground Control said is good for so long, and for so many of the pauses between heartbeats.
const TOLD: (Duration, u32) = (Duration::from_secs(600), 3);

/// What an agent is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) identity: Arc<Identity>,
    pub(super) reporter: Reporter,
    pub(super) state: StateJob,
    pub(super) clock: Arc<Clock>,
    pub(super) audit: Audit,
    pub(super) troubles: Arc<Troubles>,
    pub(super) gauges: Gauges,
    pub(super) live: Handle,
    pub(super) registries: [Arc<Registries>; 2],
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) own_level: bool,
}

/// The agent.
pub(crate) struct Agent {
    parts: Parts,
    begun: Instant,
    register: JobHandle,
    replicate: JobHandle,
    heartbeat: JobHandle,
    runtimes: JobHandle,
    /// Until they are begun.
    jobs: Mutex<Option<[Job; 4]>>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What Ground Control said last, and when.
    told: Option<(SyncAnswer, Instant)>,
    answered: Option<String>,
    activity: String,
    runtimes: Option<String>,
    pace: Pace,
}

impl Agent {
    pub(super) fn new(parts: Parts) -> Self {
        let settings = parts.config.settings();
        let job = |name, schedule: Schedule, jitter| {
            Job::new(name, schedule, Options { jitter, ..Options::default() }, parts.clock.clone())
        };
        let register = job("register", settings.register.clone(), APART);
        let replicate = job("state", settings.replicate.clone(), Duration::ZERO);
        let heartbeat = job("heartbeat", settings.heartbeat.clone(), APART);
        let runtimes = job("runtimes", Schedule::every(RUNTIMES), Duration::ZERO);
        confine(&replicate.handle(), &settings);
        let shared = Shared { activity: "starting".into(), ..Shared::default() };
        Self {
            register: register.handle(),
            replicate: replicate.handle(),
            heartbeat: heartbeat.handle(),
            runtimes: runtimes.handle(),
            jobs: Mutex::new(Some([register, replicate, heartbeat, runtimes])),
            begun: Instant::now(),
            shared: Mutex::new(shared),
            parts,
        }
    }

    /// Does everything at its times. Ends when a new process has to begin.
    pub(super) async fn work(self: &Arc<Self>) -> Ended {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let jobs = async {
            if let Some([register, replicate, heartbeat, runtimes]) = jobs {
                let register =
                    Box::pin(register.run(async || self.told_of("register", self.register()).await));
                let replicate =
                    Box::pin(replicate.run(async || Box::pin(self.told_of("state", self.replicate())).await));
                let heartbeat =
                    Box::pin(heartbeat.run(async || self.told_of("heartbeat", self.report()).await));
                let runtimes = Box::pin(runtimes.run(async || self.told_of("runtimes", self.mirror()).await));
                future::zip(future::zip(register, replicate), future::zip(heartbeat, runtimes)).await;
            }
            future::pending().await
        };
        let beside = async {
            future::zip(future::zip(life::watchdog(), self.look()), self.parts.audit.run()).await;
            future::pending().await
        };
        future::or(self.reconfigure(), future::or(jobs, beside)).await
    }

    /// The last thing.
    pub(super) fn close(&self) {
        smol::block_on(self.parts.audit.flush());
    }

    /// Notes how a job ended.
    async fn told_of(
        &self,
        job: &'static str,
        work: impl Future<Output = Result<(), Trouble>>,
    ) -> Result<(), Trouble> {
        let result = work.await;
        match &result {
            Ok(()) => self.parts.troubles.clear(job),
            Err(trouble) => self.parts.troubles.note(job, trouble),
        }
        result
    }

    async fn register(&self) -> Result<(), Trouble> {
        if self.parts.identity.account().is_some() {
            return Ok(());
        }
        let flow = if self.parts.config.settings().spiffe.files.is_some() { "spiffe_ztr" } else { "ztr" };
        let center = self.parts.config.settings().ground_control.to_string();
        if let Err(trouble) = self.parts.identity.register().await {
            self.parts.audit.record(Event::not_registered(flow, &center, &trouble));
            return Err(trouble);
        }
        let name = self.parts.identity.name().unwrap_or_default();
        log::info!("registered as {name}");
        self.parts.audit.satellite(&name);
        self.parts.audit.record(Event::registered(flow, &center));
        self.heartbeat.now();
        self.replicate.now();
        Ok(())
    }

    async fn replicate(&self) -> Result<(), Trouble> {
        if self.parts.identity.account().is_none() {
            return Ok(());
        }
        let told = self.told();
        let before = self.parts.state.done();
        self.shared().activity = "replicating".into();
        let result = self.parts.state.run(told.as_ref()).await;
        self.shared().activity = match &result {
            Ok(()) => "state synced successfully".into(),
            Err(trouble) => format!("state not in sync: {}", trouble.cause),
        };
        let done = self.parts.state.done();
        let changed = done.received > 0
            || (done.state_digest, done.missing, done.retired)
                != (before.state_digest, before.missing, before.retired);
        if changed {
            log::info!("{} images wanted, {} of them missing", done.wanted, done.missing);
            self.heartbeat.now();
        }
        let configured = self.configure(told.as_ref()).await;
        result.and(configured)
    }

    /// Takes what Ground Control published for this satellite.
    async fn configure(&self, told: Option<&SyncAnswer>) -> Result<(), Trouble> {
        let config = &self.parts.config;
        let Some((json, digest)) = self.parts.state.config(told, &config.running_digest()).await? else {
            self.parts.troubles.clear("config");
            return Ok(());
        };
        let config = config.clone();
        match unblock(move || config.offer(&json, &digest)).await {
            Ok(Change::Swapped) => {
                self.parts.audit.record(Event::configured("remote", &[]));
                self.heartbeat.now();
            }
            Ok(Change::Nothing) => {}
            // The state is in sync all the same.
            Err(trouble) => {
                self.parts.troubles.note("config", &trouble);
                self.parts.audit.record(Event::not_configured("remote", &trouble));
                return Ok(());
            }
        }
        self.parts.troubles.clear("config");
        Ok(())
    }

    async fn report(&self) -> Result<(), Trouble> {
        if self.parts.identity.account().is_none() {
            return Ok(());
        }
        let result = self.parts.reporter.beat(self.said().await?).await;
        self.keep_pace(&result);
        let good = result.is_ok();
        let config = self.parts.config.clone();
        if let Err(trouble) = unblock(move || config.heard(good)).await {
            self.parts.troubles.note("config", &trouble);
            self.parts.audit.record(Event::not_configured("remote", &trouble));
        }
        let answered = match result {
            Ok(answered) => answered,
            Err(trouble) => {
                // What it said before may not be so any more: the registry is asked.
                self.shared().told = None;
                return Err(trouble);
            }
        };
        let differs = answered.answer.as_ref().is_some_and(|told| self.is_behind(told));
        {
            let mut shared = self.shared();
            shared.answered = Some(format!("{:.0}", self.parts.clock.now()));
            shared.told = answered.answer.map(|told| (told, Instant::now()));
        }
        if answered.renewed {
            self.parts.audit.record(Event::renewed());
        }
        if answered.renewed || answered.news && differs {
            self.replicate.now();
        }
        answered.renewal.map_or(Ok(()), Err)
    }

    /// How long it is until the next heartbeat.
    fn keep_pace(&self, result: &Result<Answered, Trouble>) {
        let heard = result.as_ref().is_ok_and(|a| a.answer.is_some());
        let news = result.as_ref().is_ok_and(|a| a.news || a.renewed);
        self.shared().pace.answered(heard, news, self.parts.clock.monotonic());
        self.heartbeat.reschedule(self.beats());
    }

    /// When heartbeats are sent: as configured, and more seldom where nothing happens.
    fn beats(&self) -> Schedule {
        let settings = self.parts.config.settings();
        let Some(base) = settings.heartbeat.period() else { return settings.heartbeat.clone() };
        let now = self.parts.clock.monotonic();
        let period = self.shared().pace.period(base, settings.edge.idle_heartbeat, now);
        if period == base { settings.heartbeat.clone() } else { Schedule::every(period) }
    }

    /// Whether something else should run than does.
    fn is_behind(&self, told: &SyncAnswer) -> bool {
        let differs = |should: &str, is: &str| !should.is_empty() && should != is;
        let states = self.parts.state.states();
        differs(&told.state_digest, &self.parts.state.done().state_digest)
            || differs(&told.config_digest, &self.parts.config.running_digest())
            || told.states.iter().any(|(url, digest)| states.get(url).is_some_and(|is| is != digest))
    }

    async fn said(&self) -> Result<BeatInput, Trouble> {
        let settings = self.parts.config.settings();
        let images = self.parts.state.held().await?;
        let done = self.parts.state.done();
        let mut input = BeatInput {
            activity: self.shared().activity.clone(),
            schedule: settings.heartbeat.clone(),
            state_digest: done.state_digest,
            config_digest: self.parts.config.running_digest(),
            states: self.parts.state.states(),
            images,
            last_sync: Duration::from_millis(done.took_ms),
            last_error: self.parts.troubles.worst(),
            collect: settings.collect,
        };
        self.shared().pace.look(&input, self.parts.clock.monotonic());
        input.schedule = self.beats();
        Ok(input)
    }

    async fn mirror(&self) -> Result<(), Trouble> {
        let (config, bound) = (self.parts.config.clone(), self.parts.addresses.first().copied());
        let watch = self.parts.live.watch();
        let said = unblock(move || mirrors::apply(&config, bound, Some(&watch))).await?;
        if let Some(said) = said {
            log::info!("{said}");
            self.shared().runtimes = Some(said);
        }
        Ok(())
    }

    /// Clock, edits and numbers.
    async fn look(&self) {
        loop {
            let config = self.parts.config.clone();
            let edits = unblock(move || config.look()).await;
            if let Ok(Change::Swapped) = edits {
                self.parts.audit.record(Event::configured("file", &[]));
            }
            let time = match (self.parts.clock.keep().await, self.parts.clock.trouble()) {
                (Err(trouble), _) | (Ok(()), Some(trouble)) => Err(trouble),
                (Ok(()), None) => Ok(()),
            };
            for (job, result) in [("clock", time), ("config-file", edits.map(drop))] {
                match result {
                    Ok(()) => self.parts.troubles.clear(job),
                    Err(trouble) => self.parts.troubles.note(job, &trouble),
                }
            }
            let status = self.status();
            self.parts.gauges.set(&status);
            life::say(&line(&status));
            Timer::after(LOOK).await;
        }
    }

    /// Ends when what changed needs a new process.
    async fn reconfigure(&self) -> Ended {
        let config = &self.parts.config;
        let mut before = config.settings();
        loop {
            let changed = config.changed();
            let now = config.settings();
            if !Arc::ptr_eq(&before, &now) {
                if let Some(what) = needs_new_process(&before, &now) {
                    return Ended::Anew(format!("the configuration changed {what}"));
                }
                self.apply(&now).await;
                before = now;
            }
            changed.await;
        }
    }

    async fn apply(&self, settings: &Settings) {
        if self.parts.own_level {
            logging::set_level(settings.log_level);
        }
        self.register.reschedule(settings.register.clone());
        self.heartbeat.reschedule(self.beats());
        self.replicate.reschedule(settings.replicate.clone());
        confine(&self.replicate, settings);
        let (audit, wanted) = (self.parts.audit.clone(), settings.audit.clone());
        match unblock(move || audit.configure(&wanted)).await {
            Ok(()) => self.parts.troubles.clear("audit"),
            Err(trouble) => self.parts.troubles.note("audit", &trouble),
        }
        self.parts.state.set(build::options(settings));
        for registries in &self.parts.registries {
            registries.set(build::reach(settings));
        }
        match (build::live(settings), build::policy(&settings.edge)) {
            (Ok(live), Ok(policy)) => {
                self.parts.live.set(live);
                self.parts.live.set_policy(policy).await;
            }
            // Both were checked when the configuration was taken.
            (Err(failure), _) | (_, Err(failure)) => log::error!("{}", failure.message),
        }
        self.runtimes.now();
        self.replicate.now();
        self.heartbeat.now();
    }

    fn told(&self) -> Option<SyncAnswer> {
        let good = (self.beats().period().unwrap_or_default() * TOLD.1).max(TOLD.0);
        self.shared().told.as_ref().filter(|(_, at)| at.elapsed() < good).map(|(told, _)| told.clone())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> [&JobHandle; 4] {
        [&self.register, &self.replicate, &self.heartbeat, &self.runtimes]
    }
}

/// Replication keeps to the windows; ones that the machine knows no zone of hold it back at no time.
fn confine(replicate: &JobHandle, settings: &Settings) {
    match Windows::new(&settings.edge.windows) {
        Ok(windows) => replicate.confine(windows),
        Err(trouble) => log::error!("{trouble}"),
    }
}

/// What is bound at the start and differs, if anything does.
fn needs_new_process(before: &Settings, now: &Settings) -> Option<&'static str> {
    let place = |settings: &Settings| match &settings.registry {
        RegistryMode::Embedded(own) => Ok((own.listen, own.data_dir.clone(), own.gc_delay)),
        RegistryMode::Own(own) => Err(own.clone()),
    };
    let edge = |s: &Settings| (s.edge.capacity, s.edge.scrub, s.edge.pull_through.revalidate);
    [
        ("how Ground Control is reached", before.address() != now.address()),
        ("who it registers as", before.spiffe != now.spiffe),
        ("where the registry is", before.harbor != now.harbor),
        ("where images go", place(before) != place(now)),
        ("how the store is kept", edge(before) != edge(now)),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

impl control::Agent for Agent {
    fn status(&self) -> Status {
        Self::status(self)
    }

    fn now(&self, job: &str) -> Result<(), String> {
        let jobs = self.handles();
        let Some(found) = jobs.iter().find(|j| j.status().name == job) else {
            let names: Vec<&str> = jobs.iter().map(|j| j.status().name).collect();
            return Err(format!("there is no job {job:?}; there are {}", names.join(", ")));
        };
        found.now_anyway();
        Ok(())
    }
}

impl Agent {
    fn status(&self) -> Status {
        let (config, shared) = (&self.parts.config, self.shared());
        let done = self.parts.state.done();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.begun.elapsed().as_secs(),
            memory_bytes: resident(),
            name: self.parts.identity.name(),
            listen: self.parts.addresses.iter().map(ToString::to_string).collect(),
            ground_control: CenterStatus {
                url: config.settings().ground_control.to_string(),
                answered: shared.answered.clone(),
            },
            images: done.wanted.saturating_sub(done.missing),
            state: done,
            free_bytes: self.parts.live.free(),
            config: ConfigStatus {
                dir: config.dir().display().to_string(),
                digest: config.running_digest(),
                on_trial: config.is_on_trial(),
            },
            jobs: self.handles().iter().map(|job| job.status().into()).collect(),
            runtimes: shared.runtimes.clone(),
            troubles: self.parts.troubles.open(),
            past: self.parts.troubles.past(),
        }
    }
}

fn line(status: &Status) -> String {
    match (&status.name, status.troubles.first()) {
        (None, _) => "not registered yet".into(),
        (Some(name), None) => format!("{name}: {} images, all is well", status.images),
        (Some(name), Some(t)) => {
            format!("{name}: {} images, {} missing; {}", status.images, status.state.missing, t.cause)
        }
    }
}

/// Of this process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|t| t.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::settings::{Flags, Source, check};

    fn settings(app: &serde_json::Value) -> Settings {
        let flags = Flags { ground_control_url: Some("https://gc.test".into()), ..Flags::default() };
        check(&serde_json::json!({"app_config": app}), Source::File, &flags).unwrap().settings
    }

    #[test]
    fn what_can_change_in_place_does() {
        let before = settings(&serde_json::json!({}));
        for (app, anew) in [
            (serde_json::json!({"log_level": "debug", "heartbeat_interval": "@every 10s"}), false),
            (serde_json::json!({"satellite": {"limit_rate": "1MB", "names": ["docker.io=hub"]}}), false),
            (serde_json::json!({"satellite": {"pull_through": {"rules": ["docker.io/**"]}}}), false),
            (serde_json::json!({"satellite": {"capacity": "1GB"}}), true),
            (serde_json::json!({"use_unsecure": true}), true),
            (serde_json::json!({"harbor_registry_url": "https://h.test"}), true),
        ] {
            assert_eq!(needs_new_process(&before, &settings(&app)).is_some(), anew, "{app}");
        }
    }
}
