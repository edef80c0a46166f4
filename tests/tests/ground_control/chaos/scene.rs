//! A server between its callers and a Harbor, with a link to that which fails, and which kills.

use super::facts::{Facts, robots_of};
use crate::worlds::{World, postgres, sqlite};
use rustix::process::{Pid, Signal, kill_process};
use satellite_tests::ground_control::{Api, Setup};
use satellite_tests::harbor::Harbor;
use satellite_tests::http::Client;
use satellite_tests::proxy::{Fault, Proxy};
use satellite_tests::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// How long anything may take to come right.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// When a call to Harbor kills the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// Before Harbor hears of it.
    Before,
    /// When Harbor has done it, and nobody heard its answer.
    After,
}

#[derive(Default)]
struct Trigger {
    pid: AtomicI32,
    /// Calls until the kill; 0: never.
    left: AtomicUsize,
    after: AtomicBool,
    fired: AtomicBool,
}

/// A server with its Harbor.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    _link: Proxy,
    world: World,
    pub(crate) harbor: Harbor,
    trigger: Arc<Trigger>,
    session: String,
}

impl Scene {
    pub(crate) fn sqlite() -> Option<Self> {
        Self::start(|change| Some(sqlite(change)))
    }

    pub(crate) fn postgres() -> Option<Self> {
        Self::start(postgres)
    }

    /// A server that `make` starts, between us and a Harbor with the projects `library` and `other`.
    pub(crate) fn start(make: impl FnOnce(Box<dyn Fn(Setup) -> Setup>) -> Option<World>) -> Option<Self> {
        let harbor = Harbor::start();
        harbor.project("other", false);
        let link = Proxy::start(harbor.address());
        let url = format!("http://{}", link.host());
        let password = harbor.password();
        // A killed server's work is taken over soon, so that many kills take little time.
        let world = make(Box::new(move |setup| {
            setup.harbor(&url, Harbor::ADMIN, &password).env("OUTBOX_LEASE", "1s")
        }))?;
        let trigger = Arc::<Trigger>::default();
        link.on({
            let trigger = Arc::clone(&trigger);
            move |_, _| trigger.call()
        });
        let session = world.server.admin().authorization().expect("a session").to_owned();
        Some(Self { name: world.name, _link: link, harbor, world, trigger, session })
    }

    /// From now on the `call`-th call to Harbor kills the server.
    pub(crate) fn kill_at(&self, call: usize, kill: Kill) {
        let Trigger { pid, left, after, fired } = &*self.trigger;
        pid.store(i32::try_from(self.world.server.pid()).unwrap(), SeqCst);
        after.store(kill == Kill::After, SeqCst);
        fired.store(false, SeqCst);
        left.store(call, SeqCst);
    }

    /// Whether the server was killed in the course of a change, which `failed` if it was not answered. What is not
    /// killed by the time when everything has come right is not killed any more.
    pub(crate) fn died(&self, failed: bool, facts: &Facts) -> bool {
        let fired = || self.trigger.fired.load(SeqCst);
        wait::within(LONG, || (fired() || !failed && self.check(facts).is_ok()).then_some(()));
        self.trigger.left.store(0, SeqCst);
        fired()
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        self.trigger.left.store(0, SeqCst);
        self.world.server.revive();
    }

    /// As the administrator, by a session that outlives the server's deaths.
    pub(crate) fn admin(&self) -> Api {
        self.world.server.anonymous().with(&self.session)
    }

    /// A new session, when the old one has ended.
    pub(crate) fn renew(&mut self) {
        self.session = self.world.server.admin().authorization().expect("a session").to_owned();
    }

    /// A client of the Harbor itself, past the link.
    pub(crate) fn client(&self) -> Client {
        self.harbor.client()
    }

    fn check(&self, facts: &Facts) -> Result<(), String> {
        facts.check(&self.admin(), &self.client())
    }

    /// Waits until everything is as it should be.
    #[track_caller]
    pub(crate) fn converges(&self, facts: &Facts) {
        let mut last = String::new();
        let done = wait::within(LONG, || self.check(facts).map_err(|why| last = why).ok());
        assert!(done.is_some(), "{}: not in order after {LONG:?}: {last}", self.name);
    }

    /// Waits until Harbor has no robot of ours.
    #[track_caller]
    pub(crate) fn no_robots(&self) {
        let left = || robots_of(&self.client()).ok().filter(Vec::is_empty);
        assert!(wait::within(LONG, left).is_some(), "{}: {:?}", self.name, robots_of(&self.client()));
    }
}

impl Trigger {
    fn call(&self) -> Fault {
        let due = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if due != Ok(1) {
            return Fault::Pass;
        }
        let pid = Pid::from_raw(self.pid.load(SeqCst)).expect("a process id");
        let _ = kill_process(pid, Signal::KILL);
        self.fired.store(true, SeqCst);
        // The link has the whole request by now.
        if self.after.load(SeqCst) { Fault::Lost } else { Fault::Close }
    }
}
