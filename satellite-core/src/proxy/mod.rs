//! Pull-through: what a client asks for and the store lacks is fetched from an upstream that the policy allows, once,
//! and streamed while it is stored.
//!
//! `policy` says what may be fetched, pure; `manifests` finds out what a tag names now; `blobs` has blobs fetched by the
//! transfer engine; `flight` makes one job of what many ask for. Clients never see the upstream's credentials, and the
//! upstream never sees theirs.
//!
//! An image becomes whole in the store once a client pulls a layer of it: the rest is fetched behind. Asking for its
//! manifest alone, as inspecting tools do, costs the manifest and the config.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_lock::Semaphore;

use crate::{
    net::Executor,
    oci::{Digest, Reference, Repository, Tag},
    registry::{Found, Upstream},
    replicate::Connect,
    store::{self, ManifestInfo, Store},
    transfer::Engine,
};

mod blobs;
mod flight;
mod manifests;
mod policy;

pub use policy::{Allowed, Policy, Rule, RuleError};

use flight::Flights;

/// Tags whose last look upstream is remembered.
const MAX_SEEN: usize = 4096;

/// How a pull-through behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// A tag is looked up anew when it was last looked up longer ago. Default five minutes.
    pub revalidate: Duration,
    /// Longest wait of a client for the upstream's first byte; afterwards it is told to look elsewhere, and what was
    /// begun goes on. Default ten seconds: clients fall back on an answer, and hang without one.
    pub patience: Duration,
    /// The same where there is an older answer to give. Default two seconds.
    pub patience_stale: Duration,
    /// An upstream that could not be reached is not asked again for this long. Default fifteen seconds.
    pub away: Duration,
    /// Blobs fetched at once. Default 8.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            revalidate: Duration::from_secs(300),
            patience: Duration::from_secs(10),
            patience_stale: Duration::from_secs(2),
            away: Duration::from_secs(15),
            concurrency: 8,
        }
    }
}

/// What a pull-through did since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Manifests and blobs that were asked for, and fetched.
    pub fetched: AtomicU64,
    /// Tags that were looked up and had not changed.
    pub unchanged: AtomicU64,
    /// Tags that were given out as they are, because the upstream was away.
    pub stale: AtomicU64,
    /// Requests that no rule allows.
    pub denied: AtomicU64,
    /// Requests that the upstream, or the way to it, or the store did not satisfy.
    pub failed: AtomicU64,
    /// Bytes of blobs that came from upstreams.
    pub received: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// The pull-through of one store. Clones are the same one.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    engine: Engine,
    connect: Arc<dyn Connect>,
    executor: Executor,
    policy: RwLock<Arc<Policy>>,
    options: Options,
    name: String,
    counters: Arc<Counters>,
    /// Looks at manifests under way, by host, repository and reference.
    looks: Flights<manifests::Look>,
    /// Blobs under way, by digest.
    fetches: Flights<bool>,
    /// Images that are being completed.
    completions: Flights<bool>,
    manifest_places: Semaphore,
    blob_places: Semaphore,
    completion_places: Semaphore,
    memory: Mutex<Memory>,
}

/// What is remembered of upstreams, by a clock that does not jump.
#[derive(Default)]
struct Memory {
    seen: HashMap<(String, Repository, Tag), Instant>,
    away: HashMap<String, Instant>,
}

impl Proxy {
    /// A pull-through into `engine`'s store, under `policy`. `name` is what [`loop_name`] gave to those who connect.
    pub fn new(
        engine: Engine,
        connect: Arc<dyn Connect>,
        executor: Executor,
        policy: Policy,
        options: Options,
        name: &str,
    ) -> Self {
        Self(Arc::new(Inner {
            blob_places: Semaphore::new(options.concurrency.max(1)),
            // A manifest has up to 4 MiB, and is in memory while it is looked at.
            manifest_places: Semaphore::new(4),
            completion_places: Semaphore::new(2),
            engine,
            connect,
            executor,
            policy: RwLock::new(Arc::new(policy)),
            options,
            name: name.into(),
            counters: Arc::default(),
            looks: Flights::default(),
            fetches: Flights::default(),
            completions: Flights::default(),
            memory: Mutex::default(),
        }))
    }

    /// Another policy, from the next request on. What is under way goes on; what the new one does not allow is forgotten
    /// by [`forget_denied`](Self::forget_denied).
    pub fn set_policy(&self, policy: Policy) {
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What it did so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.0.counters.clone()
    }

    /// Forgets the tags that the policy does not allow any more; what they named goes with the next collection.
    pub async fn forget_denied(&self) -> Result<usize, store::Error> {
        let (store, policy) = (self.0.store(), self.0.policy());
        let mut forgotten = 0;
        for repository in store.cached_repositories() {
            let repository = repository?;
            for item in store.cached_tags(&repository) {
                let (host, tag, digest) = item?;
                if !policy.allows_tag(&host, &repository, &tag) {
                    store.forget_cached_tag(&repository, &host, &tag).await?;
                    store.forget_cached(&repository, &digest).await?;
                    forgotten += 1;
                }
            }
        }
        Ok(forgotten)
    }
}

/// A name for this process, to be sent upstream in `Via` (RFC 9110 §7.6.3): a request that comes back is a loop.
pub fn loop_name() -> String {
    format!("satellite-{:016x}", fastrand::u64(..))
}

impl Inner {
    fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn store(&self) -> &Store {
        self.engine.store()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an upstream could not be reached just now.
    fn is_away(&self, host: &str) -> bool {
        self.memory().away.get(host).is_some_and(|t| t.elapsed() < self.options.away)
    }

    fn reached(&self, host: &str, reached: bool) {
        let mut memory = self.memory();
        if reached {
            memory.away.remove(host);
        } else if memory.away.insert(host.into(), Instant::now()).is_none() {
            log::warn!("{host} cannot be reached: what is here of it is served as it is");
        }
    }

    /// Whether a tag was looked up lately.
    fn is_fresh(&self, host: &str, repository: &Repository, tag: &Tag) -> bool {
        let key = (host.to_string(), repository.clone(), tag.clone());
        self.memory().seen.get(&key).is_some_and(|t| t.elapsed() < self.options.revalidate)
    }

    fn saw(&self, host: &str, repository: &Repository, tag: &Tag) {
        let mut memory = self.memory();
        if memory.seen.len() >= MAX_SEEN {
            let limit = self.options.revalidate;
            memory.seen.retain(|_, t| t.elapsed() < limit);
            if memory.seen.len() >= MAX_SEEN {
                // Those that are forgotten are looked up once more.
                memory.seen.clear();
            }
        }
        memory.seen.insert((host.to_string(), repository.clone(), tag.clone()), Instant::now());
    }
}

#[async_trait::async_trait]
impl Upstream for Proxy {
    fn knows(&self, host: &str) -> bool {
        self.0.policy().knows(host)
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    async fn manifest(
        &self,
        host: Option<&str>,
        repository: &Repository,
        reference: &Reference,
        whole: bool,
    ) -> Option<ManifestInfo> {
        let host = self.0.policy().host(host)?.to_string();
        self.0.manifest(&host, repository, reference, whole).await
    }

    async fn blob(
        &self,
        host: Option<&str>,
        repository: &Repository,
        digest: &Digest,
        body: bool,
    ) -> Option<Found> {
        let host = self.0.policy().host(host)?.to_string();
        self.0.blob(&host, repository, digest, body).await
    }
}
