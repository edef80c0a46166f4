//! The store, served: registry, pull-through, scrub, collections and the control socket, for `satellite serve` and for
//! `satellite run` alike.
//!
//! | file | does |
//! |---|---|
//! | `housekeeping` | keeps the layout fresh and the garbage small |
//! | `mend` | fetches again what the scrub finds damaged |
//! | `metrics` | counters of all of it |
//! | `anew` | a new process in the place of this one |
//! | `descriptors` | how many files may be open |

mod anew;
mod descriptors;
mod housekeeping;
mod mend;
mod metrics;
mod watch;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_lite::future;
use satellite_core::{
    net::{
        Executor,
        server::{Limits, Server, TlsAcceptor},
    },
    proxy::{self, Policy, Proxy},
    registry::{Access, Metrics, Names, NamesCell, Registry, Settings},
    replicate::{Connect, Replicator},
    store::{Options, ScrubOptions, Store},
    transfer::{self, Engine},
};

use crate::{
    control::server::ControlServer,
    exit::{Code, Failure, Result},
    ops::Context,
    signals::stop_signal,
};

pub(crate) use anew::begin_anew;
pub(crate) use watch::Watch;
use watch::Watched;

/// How a store is served.
pub(crate) struct Plan {
    pub(crate) data_dir: PathBuf,
    /// None: not at all, as beside an external registry.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) access: Access,
    pub(crate) settings: Settings,
    pub(crate) store: Options,
    /// Without a byte for so long, a connection upstream is given up.
    pub(crate) stall: Duration,
    pub(crate) scrub: Option<ScrubOptions>,
    pub(crate) pull_through: Option<PullThrough>,
    pub(crate) live: Live,
}

/// What clients ask for and is not here.
pub(crate) struct PullThrough {
    /// Clients of registries that say [`proxy::loop_name`] in `Via`.
    pub(crate) connect: Arc<dyn Connect>,
    /// That name.
    pub(crate) name: String,
    pub(crate) revalidate: Duration,
    pub(crate) policy: Policy,
}

/// What may change while it is served.
pub(crate) struct Live {
    /// What clients' names of other registries' images mean here.
    pub(crate) names: Names,
    /// Most bytes a second from upstream.
    pub(crate) limit_rate: Option<u64>,
    /// Zero: never.
    pub(crate) gc_interval: Duration,
}

/// Why it is not served any more.
pub(crate) enum Ended {
    /// The system or the user wished it.
    Stopped,
    /// A new process has to begin, for this reason.
    Anew(String),
}

/// How often garbage is collected; changed from outside.
#[derive(Default)]
pub(crate) struct GcInterval(AtomicU64);

impl GcInterval {
    fn get(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.0.load(Ordering::Relaxed))).filter(|every| !every.is_zero())
    }

    fn set(&self, every: Duration) {
        self.0.store(u64::try_from(every.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Changes what may change of a store that is served, and tells of it.
#[derive(Clone)]
pub(crate) struct Handle {
    store: Store,
    context: Arc<Context>,
    names: Arc<NamesCell>,
    proxy: Option<Proxy>,
    gc_interval: Arc<GcInterval>,
    watch: Arc<Watch>,
}

impl Handle {
    /// Whether a client came here for something.
    pub(crate) fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }

    /// Changes what can change.
    pub(crate) fn set(&self, live: Live) {
        self.names.set(live.names);
        self.context.throttle().set_rate(live.limit_rate);
        self.gc_interval.set(live.gc_interval);
    }

    /// Another policy of pulling through, where there is one at all.
    pub(crate) async fn set_policy(&self, policy: Policy) {
        if let Some(proxy) = &self.proxy {
            proxy.set_policy(policy);
            housekeeping::forget_denied(proxy).await;
        }
    }

    /// Bytes that the file system has left for content.
    pub(crate) fn free(&self) -> u64 {
        self.store.available().unwrap_or(0)
    }
}

/// A store that is served, or is about to be.
pub(crate) struct Serving {
    /// First, so that its socket is gone before the store is free for another process, which makes its own.
    control: ControlServer,
    pub(crate) store: Store,
    pub(crate) context: Arc<Context>,
    pub(crate) metrics: Arc<Metrics>,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    handle: Handle,
    server: std::sync::Mutex<Option<Server>>,
    executor: Executor,
    scrub: Option<ScrubOptions>,
    stats: Arc<satellite_core::net::server::Stats>,
}

impl Serving {
    /// Listens, opens the store and binds the control socket; nothing is answered yet.
    ///
    /// # Errors
    /// An address that is taken; a store that cannot be opened.
    pub(crate) fn bind(plan: Plan, executor: &Executor) -> Result<Self> {
        let failed = |e: std::io::Error| Failure::new(Code::Failed, format!("cannot serve: {e}"));
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for address in &plan.listen {
            let bound = TcpListener::bind(address).and_then(|l| Ok((l.local_addr()?, l)));
            let (actual, listener) =
                bound.map_err(|e| Failure::new(Code::Failed, format!("cannot listen on {address}: {e}")))?;
            addresses.push(actual);
            listeners.push(listener);
        }
        descriptors::raise_descriptor_limit();
        let store = Store::open(&plan.data_dir, plan.store)?;
        let metrics = Arc::new(Metrics::default());
        let context = Arc::new(Context::new(store.clone(), executor.clone(), plan.live.limit_rate));
        let names = Arc::new(NamesCell::new(plan.live.names));
        let mut registry = Registry::new(store.clone(), plan.access, plan.settings, metrics.clone())
            .with_names(names.clone());
        let proxy = plan.pull_through.map(|through| {
            let stall = transfer::Options { stall: plan.stall, ..transfer::Options::default() };
            let engine = Engine::new(store.clone(), context.throttle(), stall);
            let options = proxy::Options { revalidate: through.revalidate, ..proxy::Options::default() };
            let PullThrough { connect, name, policy, .. } = through;
            Proxy::new(engine, connect, executor.clone(), policy, options, &name)
        });
        if let Some(proxy) = &proxy {
            registry = registry.with_upstream(Arc::new(proxy.clone()));
        }
        let watch = Arc::<Watch>::default();
        let watched = Watched { registry, watch: watch.clone() };
        let server =
            Server::new(listeners, Arc::new(watched), Limits::default(), plan.tls).map_err(failed)?;
        let control = ControlServer::bind(store.root()).map_err(failed)?;
        let gc_interval = Arc::<GcInterval>::default();
        gc_interval.set(plan.live.gc_interval);
        let handle =
            Handle { store: store.clone(), context: context.clone(), names, proxy, gc_interval, watch };
        Ok(Self {
            stats: server.stats(),
            server: std::sync::Mutex::new(Some(server)),
            executor: executor.clone(),
            scrub: plan.scrub,
            store,
            context,
            metrics,
            addresses,
            handle,
            control,
        })
    }

    /// To change what may change.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until the process is told to stop, or `beside` or the store say that it has to end. `mender` fetches again
    /// what has rotted.
    pub(crate) fn run(&self, mender: &Replicator, beside: impl Future<Output = Ended>) -> Ended {
        let scrub = self.scrub.and_then(|options| {
            self.store.scrub(options).map_err(|e| log::error!("there is no thread for the scrub: {e}")).ok()
        });
        let mended = Arc::<AtomicU64>::default();
        let gauges = metrics::Gauges::new(
            &self.metrics,
            self.stats.clone(),
            &self.store,
            self.handle.proxy.as_ref(),
            (scrub.as_ref(), mended.clone()),
        );
        let jobs = async {
            let keep = housekeeping::keep(&self.store, self.handle.proxy.as_ref(), &self.handle.gc_interval);
            let control = self.control.run(&self.executor, self.context.clone());
            let mend = Box::pin(mend::mend(&self.store, mender, &mended));
            future::zip(future::zip(control, keep), future::zip(mend, gauges.keep())).await;
            std::future::pending().await
        };
        let stuck = async {
            housekeeping::stuck(&self.store).await;
            Ended::Anew("the index stopped after a failed write, and the disk can be written again".into())
        };
        let signal = async {
            stop_signal().await;
            Ended::Stopped
        };
        let mut ended = Ended::Stopped;
        let server = self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        smol::block_on(self.executor.run(async {
            let stop = async {
                let all = future::or(future::or(signal, stuck), future::or(Box::pin(beside), jobs));
                ended = Box::pin(all).await;
                log::info!("stopping: no new connections, running answers may end");
            };
            match server {
                Some(server) => Box::pin(server.run(&self.executor, stop)).await,
                None => stop.await,
            }
            if let Err(e) = self.store.refresh_layout().await {
                log::error!("index.json could not be written: {e}");
            }
        }));
        drop(scrub);
        ended
    }
}
