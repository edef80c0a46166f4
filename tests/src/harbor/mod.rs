//! A Harbor stand-in: answers as a real one was recorded to answer, and fails in the ways that one can.
//!
//! It does what a fleet server and its satellites use: projects, robots with real rights, the token service, pushing and
//! pulling content-addressed artifacts, tags, quotas, immutability rules, sessions with CSRF tokens. It does it in memory,
//! on one thread a connection. `tests/tests/harbor_standin.rs` replays the recorded calls against it.
//!
//! ```no_run
//! use satellite_tests::harbor::{Fault, Harbor, Part};
//!
//! let harbor = Harbor::start();
//! harbor.project("library", true);
//! let _ = (harbor.url(), Harbor::ADMIN, harbor.password());
//! harbor.fail(Fault::Down(Part::Postgres));
//! harbor.heal();
//! assert!(harbor.robots().is_empty() && harbor.artifacts().is_empty());
//! ```
//!
//! | file | is |
//! |---|---|
//! | `server`, `message` | sockets, requests and answers |
//! | `state` | what it holds |
//! | `login`, `rights` | who somebody is, and what that one may do |
//! | `token` | the token service |
//! | `fault` | failures on demand |
//! | `query`, `clock` | pages and filters of lists; its own time |
//! | `api/`, `v2/` | a file a resource |
//!
//! Not as the real one: tokens are signed with a keyed digest in place of RSA, and no password costs 100 ms of CPU unless
//! [`Options::password_cost`] says so.

mod api;
mod clock;
mod fault;
mod login;
mod message;
mod query;
mod rights;
mod server;
mod state;
mod token;
mod v2;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use fault::{Fault, Part};

use fault::Faults;
use state::State;

/// How a stand-in behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a name is frozen after a wrong password; 1.5 s in a real one.
    pub freeze: Duration,
    /// How long every call takes while Redis is down; 2 to 9 s in a real one.
    pub redis: Duration,
    /// How long the password of a user (not a robot) takes to check; 0.1 s in a real one.
    pub password_cost: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            freeze: Duration::from_millis(150),
            redis: Duration::from_millis(200),
            password_cost: Duration::ZERO,
        }
    }
}

/// A running stand-in. Dropping it ends it.
#[derive(Debug)]
pub struct Harbor {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    stop: AtomicBool,
    /// Wakes those that a fault keeps waiting.
    woken: Condvar,
}

/// A call that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// GET and so on.
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    /// The name in `Authorization: Basic`, `bearer`, or nothing.
    pub user: String,
    /// What was answered; 0 while there is no answer, or if none was given.
    pub status: u16,
}

/// A robot account, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Robot {
    /// Its number.
    pub id: u64,
    /// With the prefix: the login.
    pub name: String,
    /// The description.
    pub description: String,
    /// Its secret, in clear.
    pub secret: String,
    /// Days from its creation; -1: for ever.
    pub duration: i64,
    /// Unix seconds; -1: never.
    pub expires_at: i64,
    /// Whether it is switched off.
    pub disabled: bool,
    /// `project:resource:action` of each right, sorted; `*` for all projects, `/` for the system.
    pub rights: Vec<String>,
}

/// An artifact of a repository, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// With the project: `satellite/group-state/g1/state`.
    pub repository: String,
    /// Of the manifest.
    pub digest: String,
    /// What names it, sorted.
    pub tags: Vec<String>,
}

impl Harbor {
    /// The administrator's name.
    pub const ADMIN: &str = "admin";

    /// Starts one with default options and the project `library`.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts one with these options.
    pub fn with(options: Options) -> Self {
        Self::on("127.0.0.1:0".parse().expect("an address"), options)
    }

    /// Starts one at an address, as one that comes back where it was.
    pub fn on(address: SocketAddr, options: Options) -> Self {
        let listener = TcpListener::bind(address).expect("an address of 127.0.0.1");
        let address = listener.local_addr().expect("its number");
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(State::new()),
            faults: Mutex::default(),
            calls: Mutex::default(),
            stop: AtomicBool::new(false),
            woken: Condvar::new(),
        });
        server::run(listener, &shared);
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The administrator's password.
    pub fn password(&self) -> String {
        self.shared.state().users[0].password.clone()
    }

    /// Changes it.
    pub fn set_password(&self, password: &str) {
        self.shared.state().users[0].password = password.into();
    }

    /// A client that is the administrator.
    pub fn client(&self) -> crate::http::Client {
        crate::http::Client::new(self.address).basic(Self::ADMIN, &self.password())
    }

    /// Makes a project; one that is there stays as it is. Gives its number.
    pub fn project(&self, name: &str, public: bool) -> u64 {
        self.shared.state().make_project(name, public, -1, Self::ADMIN)
    }

    /// Makes further calls fail, all of them, until [`heal`](Self::heal).
    pub fn fail(&self, fault: Fault) {
        self.shared.faults().add("", "", 0, usize::MAX, fault);
    }

    /// Makes the next `times` calls fail whose method is this (`""`: any) and whose target holds this text.
    pub fn fail_on(&self, method: &str, part_of_target: &str, times: usize, fault: Fault) {
        self.shared.faults().add(method, part_of_target, 0, times, fault);
    }

    /// Lets `calls` calls through, and makes the one after them fail.
    pub fn fail_after(&self, calls: usize, fault: Fault) {
        self.shared.faults().add("", "", calls, 1, fault);
    }

    /// Ends all failures, also for those that wait because of one.
    pub fn heal(&self) {
        *self.shared.faults() = Faults::default();
        self.shared.woken.notify_all();
    }

    /// All robots, by number: to see that none leaked.
    pub fn robots(&self) -> Vec<Robot> {
        let state = self.shared.state();
        state.robots.values().map(|robot| robot.shown(&state)).collect()
    }

    /// All artifacts, by repository and digest; what refers to another one (signatures) too.
    pub fn artifacts(&self) -> Vec<Artifact> {
        let state = self.shared.state();
        let mut all: Vec<Artifact> = state
            .repositories
            .iter()
            .flat_map(|(name, repository)| {
                repository.artifacts.keys().map(|digest| Artifact {
                    repository: name.clone(),
                    digest: digest.clone(),
                    tags: repository.tags_of(digest).map(str::to_owned).collect(),
                })
            })
            .collect();
        all.sort();
        all
    }

    /// Names of all projects.
    pub fn projects(&self) -> Vec<String> {
        self.shared.state().projects.values().map(|project| project.name.clone()).collect()
    }

    /// The manifest that a tag or digest names.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let state = self.shared.state();
        let repository = state.repositories.get(repository)?;
        Some(repository.artifacts.get(repository.digest(reference)?)?.bytes.clone())
    }

    /// The bytes of a blob, whatever repository has it.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.shared.state().blobs.get(digest).map(|bytes| bytes.to_vec())
    }

    /// Calls that came, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the calls that came.
    pub fn forget_calls(&self) {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lets its clock jump: tokens and robots grow old, and its `Date` moves.
    pub fn advance(&self, by: Duration) {
        self.shared.state().clock.advance(by);
    }

    /// Its time, Unix seconds.
    pub fn now(&self) -> i64 {
        self.shared.state().clock.now()
    }

    /// Makes a robot expire now, as its database can be made to.
    pub fn expire_robot(&self, id: u64) {
        let mut state = self.shared.state();
        let now = state.clock.now();
        state.robots.get_mut(&id).expect("that robot").expires_at = now - 1;
    }

    /// Whether a name cannot log in now, because somebody just failed to.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.shared.state().frozen.contains(name)
    }

    /// The number that the next robot gets.
    pub fn set_next_robot(&self, id: u64) {
        self.shared.state().next_robot = id;
    }

    /// The number that the next project gets.
    pub fn set_next_project(&self, id: u64) {
        self.shared.state().next_project = id;
    }
}

impl Drop for Harbor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.woken.notify_all();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
