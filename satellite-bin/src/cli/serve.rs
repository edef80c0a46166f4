//! `satellite serve`

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_io::Timer;
use clap::Args;
use futures_lite::future;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use satellite_core::{
    net::{
        Executor,
        server::{Limits, Server, Stats, TlsAcceptor},
    },
    proxy::Proxy,
    registry::{Access, Gauge, Htpasswd, Metrics, Names, NamesCell, Registry, Rule, Settings},
    store::{Options, Store},
};

use super::{
    DataDir, UpstreamArgs,
    pull_through::{ProxyGauges, PullThrough},
    scrub::{self, ScrubArgs, ScrubGauges},
};
use crate::{
    control::server::ControlServer,
    exit::{Code, Failure, Result},
    human,
    ops::Context,
    output,
    signals::stop_signal,
};

/// How often it is looked whether the index stopped after a failed write.
const STUCK_EVERY: Duration = Duration::from_secs(5);
/// How often `index.json` is brought up to date, if anything changed.
const LAYOUT_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    dir: DataDir,
    /// Address to listen on; port 0 takes a free one. May be given more than once
    #[arg(long, default_value = "127.0.0.1:8585", value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Let whoever connects from this machine push and delete without a password
    #[arg(long)]
    trust_loopback: bool,
    /// Who may push and delete: a file of NAME:HASH lines made with `htpasswd -B`; read again when it changes
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Ask for a password for pulls too
    #[arg(long, requires = "htpasswd")]
    private: bool,
    /// Serve HTTPS with this certificate chain (PEM); read again when it changes
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Refuse every push and delete
    #[arg(long)]
    read_only: bool,
    /// Accept manifests whose content is not all here
    #[arg(long)]
    allow_sparse: bool,
    /// Serve what clients ask for as HOST/PREFIX/… from PROJECT/PREFIX/…, where it was replicated: docker.io=dockerhub.
    /// The longest prefix counts; may be given more than once
    #[arg(long, value_name = "HOST[/PREFIX]=PROJECT[/PREFIX]")]
    map: Vec<Rule>,
    /// Most bytes a second from upstream, shared by all pulls that this process does
    #[arg(long, value_parser = human::parse_rate, value_name = "RATE")]
    limit_rate: Option<u64>,
    #[command(flatten)]
    pull_through: PullThrough,
    #[command(flatten)]
    upstream: UpstreamArgs,
    #[command(flatten)]
    scrub: ScrubArgs,
    /// Most bytes of content, of what is on its way included; what was only pulled through makes room, least recently
    /// used first, and what is replicated or pushed is never evicted. Default: all but 32 MiB of the disk
    #[arg(long, value_parser = human::parse_size, value_name = "SIZE")]
    capacity: Option<u64>,
    /// Evict nothing that was asked for within this time: somebody may be pulling it
    #[arg(long, default_value = "30s", value_parser = human::parse_duration, value_name = "TIME")]
    keep_used: Duration,
    /// Collect garbage this often; 0 never
    #[arg(long, default_value = "6h", value_parser = human::parse_duration, value_name = "TIME")]
    gc_interval: Duration,
    /// Write the address to this file once requests are answered
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Log every request
    #[arg(long)]
    pub(super) access_log: bool,
}

impl Serve {
    pub(super) fn run(&self) -> Result<()> {
        // What can fail for the command line's sake fails before the store is touched.
        let usage = |e: &dyn std::fmt::Display| Failure::new(Code::Usage, e);
        let users = self.htpasswd.as_deref().map(Htpasswd::open).transpose().map_err(|e| usage(&e))?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(TlsAcceptor::from_files(certificate, key).map_err(|e| usage(&e))?)
            }
            _ => None,
        };
        let names = Arc::new(NamesCell::new(Names::new(self.map.iter().cloned()).map_err(|e| usage(&e))?));
        let policy = self.pull_through.policy(&self.upstream)?;
        let upstream = self.upstream.read()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &self.listen {
            let bound = TcpListener::bind(address).and_then(|l| Ok((l.local_addr()?, l)));
            let (actual, listener) =
                bound.map_err(|e| Failure::new(Code::Failed, format!("cannot listen on {address}: {e}")))?;
            addresses.push(actual);
            listeners.push(listener);
        }
        raise_descriptor_limit();
        let options = Options { cap: self.capacity, running: self.keep_used, ..Options::default() };
        let store = Store::open(&self.dir.data_dir, options)?;
        let executor: Executor = Arc::new(smol::Executor::new());
        let access = Access { trust_loopback: self.trust_loopback, users, private: self.private };
        let settings =
            Settings { read_only: self.read_only, sparse: self.allow_sparse, ..Settings::default() };
        let metrics = Arc::new(Metrics::default());
        let context = Arc::new(Context::new(store.clone(), executor.clone(), self.limit_rate));
        let mut registry = Registry::new(store.clone(), access, settings, metrics.clone()).with_names(names);
        let mut proxy = None;
        if let Some(policy) = policy {
            let made =
                self.pull_through.proxy(policy, &store, context.throttle(), upstream.clone(), &executor)?;
            registry = registry.with_upstream(Arc::new(made.clone()));
            proxy = Some(made);
        }
        let failed = |e: std::io::Error| Failure::new(Code::Failed, format!("cannot serve: {e}"));
        let server = Server::new(listeners, Arc::new(registry), Limits::default(), tls).map_err(failed)?;
        let control = ControlServer::bind(store.root()).map_err(failed)?;
        for address in &addresses {
            output::line(&format!("listening on {scheme}://{address}"));
        }
        if let (Some(path), Some(first)) = (&self.ready_file, addresses.first()) {
            fs::write(path, format!("{scheme}://{first}\n"))
                .map_err(|e| Failure::new(Code::Failed, format!("cannot write {}: {e}", path.display())))?;
        }
        let scrub = self.scrub.start(&store);
        let mended = Arc::<AtomicU64>::default();
        let mender = context.replicator(None, upstream, None)?;
        let scrubbed = ScrubGauges::new(&metrics, scrub.as_ref(), mended.clone());
        let gauges = Gauges::new(&metrics, server.stats(), &store, proxy.as_ref(), scrubbed);
        let beside = async {
            let jobs =
                future::zip(control.run(&executor, context), self.housekeeping(&store, proxy.as_ref()));
            let jobs = Box::pin(future::zip(jobs, scrub::mend(&store, &mender, &mended)));
            let jobs = async {
                jobs.await;
            };
            let jobs = future::or(jobs, gauges.keep());
            future::or(jobs, stuck(&store)).await;
        };
        let mut stopped = false;
        smol::block_on(executor.run(async {
            let served = server.run(&executor, async {
                let signal = async {
                    stop_signal().await;
                    true
                };
                let beside = async {
                    beside.await;
                    false
                };
                stopped = future::or(signal, beside).await;
                log::info!("stopping: no new connections, running answers may end");
            });
            Box::pin(served).await;
            if let Err(e) = store.refresh_layout().await {
                log::error!("index.json could not be written: {e}");
            }
        }));
        drop(control);
        drop(scrub);
        if stopped {
            return Ok(());
        }
        drop((store, mender, proxy));
        drop(executor);
        Err(begin_anew(self.upstream.password_stdin))
    }

    /// Keeps the layout fresh and the garbage small, for as long as the server runs.
    async fn housekeeping(&self, store: &Store, proxy: Option<&Proxy>) {
        if let Err(e) = store.keep_cap().await {
            log::error!("what is here could not be counted: {e}");
        }
        if let Some(proxy) = proxy {
            match proxy.forget_denied().await {
                Ok(0) => {}
                Ok(tags) => log::info!("{tags} cached tags are not allowed any more and are forgotten"),
                Err(e) => log::error!("cached tags could not be looked through: {e}"),
            }
        }
        let mut last_gc = std::time::Instant::now();
        loop {
            Timer::after(LAYOUT_EVERY).await;
            if let Err(e) = store.refresh_layout().await {
                log::error!("index.json could not be written: {e}");
            }
            if !self.gc_interval.is_zero() && last_gc.elapsed() >= self.gc_interval {
                last_gc = std::time::Instant::now();
                match store.gc(None).await {
                    Ok(report) => {
                        log::info!(
                            "garbage: {} blobs deleted, {}; {} held, {} cached",
                            report.blobs,
                            human::size(report.bytes),
                            human::size(report.held_bytes),
                            human::size(report.cached_bytes)
                        );
                    }
                    Err(e) => log::error!("garbage could not be collected: {e}"),
                }
            }
        }
    }
}

/// Ends when the index has to be opened anew, which only a new process does.
async fn stuck(store: &Store) {
    loop {
        Timer::after(STUCK_EVERY).await;
        match store.is_stuck().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) => log::error!("the index cannot be written: {e}"),
        }
    }
}

/// Puts a new process of the same program in the place of this one. Returns only if that fails.
/// A password that was read from standard input cannot be read again: then whoever gave it has to start it.
fn begin_anew(with_password: bool) -> Failure {
    if with_password {
        let text =
            "the index stopped after a failed write, and the disk can be written again: start it again";
        return Failure::new(Code::Store, text);
    }
    log::error!("the index stopped after a failed write, and the disk can be written again: starting anew");
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    Failure::new(Code::Store, format!("cannot start anew after a failed write of the index: {error}"))
}

/// A connection takes a socket and a file: as many as the limits allow must fit.
fn raise_descriptor_limit() {
    let wanted = 2 * Limits::default().connections as u64 + 200;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|c| *c < wanted) else { return };
    let raised = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if raised < wanted || setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_err() {
        log::warn!(
            "only {} files may be open ({wanted} wanted): raise the limit of open files",
            raised.max(current)
        );
    }
}

/// The HTTP server's counters among the metrics.
struct Gauges {
    stats: Arc<Stats>,
    open: Gauge,
    accepted: Gauge,
    refused: Gauge,
    sent: Gauge,
    evicted: [Gauge; 2],
    store: Store,
    proxy: Option<ProxyGauges>,
    scrub: ScrubGauges,
}

impl Gauges {
    fn new(
        metrics: &Metrics,
        stats: Arc<Stats>,
        store: &Store,
        proxy: Option<&Proxy>,
        scrub: ScrubGauges,
    ) -> Self {
        Self {
            stats,
            store: store.clone(),
            scrub,
            proxy: proxy.map(|p| ProxyGauges::new(metrics, p.counters())),
            evicted: [
                metrics.gauge("evicted_blobs", "Blobs evicted to make room since the start"),
                metrics.gauge("evicted_bytes", "Their bytes"),
            ],
            open: metrics.gauge("connections_open", "Connections open now"),
            accepted: metrics.gauge("connections_accepted", "Connections accepted since the start"),
            refused: metrics
                .gauge("connections_refused", "Connections refused since the start: one too many"),
            sent: metrics.gauge("socket_sent_bytes", "Bytes sent since the start, heads included"),
        }
    }

    async fn keep(&self) {
        let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        loop {
            self.open.set(clamp(self.stats.open() as u64));
            self.accepted.set(clamp(self.stats.accepted()));
            self.refused.set(clamp(self.stats.refused()));
            self.sent.set(clamp(self.stats.bytes_sent()));
            let (blobs, bytes) = self.store.evicted();
            self.evicted[0].set(clamp(blobs));
            self.evicted[1].set(clamp(bytes));
            self.scrub.refresh();
            if let Some(proxy) = &self.proxy {
                proxy.refresh();
            }
            Timer::after(Duration::from_secs(1)).await;
        }
    }
}
