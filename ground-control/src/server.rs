//! The server, put together, run and stopped.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use satellite_core::{
    net::{
        Executor,
        client::{ClientConfig, surf_client},
        message::Handler,
        server::{Limits as ServerLimits, Server, Stats, TlsAcceptor},
    },
    registry,
    remote::Secret,
    store::{Options, Store},
};

use crate::{
    app::{App, Users},
    audit::Audit,
    auth::{self, Keys, Limits, Passwords, Reader, SYSTEM_ADMIN, random_token},
    beats::{self, Writer},
    central::{self, Central, Embedded, Harbor, HarborSettings, Plain, PlainSettings},
    db::{self, Db, keys, users},
    housekeeping,
    http::Service,
    metrics::Metrics,
    outbox::Outbox,
    router,
    settings::{CentralSettings, Settings},
};

/// How long a database server that is not there yet is waited for.
const DATABASE: Duration = Duration::from_secs(60);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The database.
    #[error("{0}")]
    Database(#[from] db::Error),
    /// The data directory.
    #[error("data directory {0}: {1}")]
    Data(String, String),
    /// TLS files.
    #[error("{0}")]
    Tls(#[from] satellite_core::net::server::TlsError),
    /// Central's settings.
    #[error("central: {0}")]
    Central(#[from] central::Error),
    /// The HTTP client.
    #[error("{0}")]
    Client(#[from] satellite_core::net::client::ClientError),
    /// The audit log.
    #[error("the audit log cannot be opened: {0}")]
    Audit(std::io::Error),
    /// The first administrator's password is not good enough.
    #[error("ADMIN_PASSWORD: {0}")]
    Password(String),
    /// Anything else of the system's.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What was made and has to be told once.
#[derive(Debug)]
pub struct News {
    /// Where it listens, scheme and all.
    pub urls: Vec<String>,
    /// The first administrator's password, if it was made here.
    pub admin_password: Option<Secret>,
}

/// A server that listens and does not answer yet.
pub struct Ready {
    app: Arc<App>,
    server: Server,
    stats: Arc<Stats>,
    writer: Writer,
    reader: Reader,
    embedded: Option<Arc<Embedded>>,
    executor: Executor,
}

/// Puts everything together, and listens.
///
/// # Errors
/// [`Error`]
pub async fn prepare(settings: Settings, executor: &Executor) -> Result<(Ready, News), Error> {
    let tls = settings.tls.as_ref().map(|tls| {
        let acceptor = TlsAcceptor::from_files(&tls.certificate, &tls.key)?;
        match &tls.client_ca {
            Some(ca) => acceptor.with_clients(ca, !tls.required),
            None => Ok(acceptor),
        }
    });
    let tls = tls.transpose()?;
    let audit = Audit::open(&settings.audit).map_err(Error::Audit)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (listeners, addresses) = listen(&settings.listen)?;
    raise_descriptor_limit(settings.connections);
    let db = open(&settings).await?;
    let report = db.migrate().await?;
    if report.from != report.to {
        log::info!(from = report.from, to = report.to; "database tables brought up to date");
    }
    if db.dialect() == db::Dialect::Sqlite {
        let mut tx = db.begin().await?;
        db::outbox::forget_leases(&mut tx).await?;
        tx.commit().await?;
    }
    let keys = shared_keys(&db, &settings).await?;
    let metrics = Arc::new(Metrics::new());
    let accounts = Arc::new(Users(OnceLock::new()));
    let url = settings.public_url.clone().unwrap_or_else(|| own_url(scheme, &addresses));
    let (central, embedded, registry) = central(&settings, &url, &db, &accounts, executor)?;
    let passwords = Passwords::new(keys.clone());
    let admin_password = first_admin(&db, &settings, &passwords).await?;
    let (directory, reader) = auth::directory(db.clone());
    // Where there are no robots many satellites have one login, which is not for looking up in crowds.
    let shared = matches!(settings.central, CentralSettings::Plain { .. });
    let (beats, writer) = beats::queue(db.clone(), Arc::clone(&metrics));
    let outbox = Outbox::new(
        db.clone(),
        Arc::clone(&central),
        settings.robot_days,
        settings.outbox_lease,
        executor.clone(),
        Arc::clone(&metrics),
    );
    let limits = ServerLimits {
        connections: settings.connections,
        // A connection kept from one heartbeat to the next costs more memory than a new one costs time.
        header_time: Duration::from_secs(15),
        idle: settings.idle,
        buffer_bytes: 64 << 10,
        ..ServerLimits::default()
    };
    let app = Arc::new(App {
        directory: (!shared).then_some(directory),
        limits: Limits::new(settings.satellite_limit),
        settings,
        db,
        central,
        keys,
        passwords,
        beats,
        outbox,
        audit,
        metrics,
        executor: executor.clone(),
    });
    let _ = accounts.0.set(Arc::downgrade(&app));
    let service = Service::new(router::routes(Arc::clone(&app)), registry);
    let server = Server::new(listeners, Arc::new(service), limits, tls)?;
    let stats = server.stats();
    let urls = addresses.iter().map(|a| format!("{scheme}://{a}")).collect();
    let ready = Ready { app, server, stats, writer, reader, embedded, executor: executor.clone() };
    Ok((ready, News { urls, admin_password }))
}

impl Ready {
    /// Answers until `stop` is ready; then running answers end, and what was acknowledged is written.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { app, server, stats, writer, reader, embedded, executor } = self;
        let writing = executor.spawn(writer.run());
        let reading = executor.spawn(reader.run());
        let working = {
            let outbox = app.outbox.clone();
            executor.spawn(async move { outbox.work().await })
        };
        let filing = {
            let embedded = embedded.clone();
            executor.spawn(async move {
                while let Some(embedded) = &embedded {
                    async_io::Timer::after(Duration::from_secs(1)).await;
                    if let Err(e) = embedded.refresh().await {
                        log::error!("the embedded registry's index.json could not be written: {e}");
                    }
                }
            })
        };
        let keeping = {
            let (app, embedded) = (Arc::clone(&app), embedded.clone());
            executor.spawn(async move { housekeeping::keep(&app, embedded.as_deref()).await })
        };
        let counting = {
            let app = Arc::clone(&app);
            executor.spawn(async move {
                loop {
                    app.metrics.connections.set(i64::try_from(stats.open()).unwrap_or(i64::MAX));
                    async_io::Timer::after(Duration::from_secs(5)).await;
                }
            })
        };
        server.run(&executor, stop).await;
        for task in [working, keeping, counting, filing] {
            task.cancel().await;
        }
        writing.cancel().await;
        reading.cancel().await;
        if let Some(embedded) = &embedded
            && let Err(e) = embedded.refresh().await
        {
            log::error!("the embedded registry's index.json could not be written: {e}");
        }
        app.db.close().await;
    }
}

/// The database that the settings name; a data directory is made for the default one.
///
/// # Errors
/// [`Error::Data`], [`Error::Database`]
pub async fn open(settings: &Settings) -> Result<Db, Error> {
    if settings.database_is_default {
        private_dir(&settings.data_dir)?;
    }
    Ok(Db::connect(settings.database_url.expose(), settings.database_connections, DATABASE).await?)
}

fn private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::Data(path.display().to_string(), e.to_string()))
}

fn listen(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), Error> {
    let (mut listeners, mut actual) = (Vec::new(), Vec::new());
    for address in addresses {
        let bound = TcpListener::bind(address).and_then(|l| Ok((l.local_addr()?, l)));
        let (local, listener) = bound.map_err(|e| Error::Listen(*address, e))?;
        // A fleet that comes back all at once.
        if let Err(e) = rustix::net::listen(&listener, 4096) {
            log::warn!("the queue of new connections stays short: {e}");
        }
        listeners.push(listener);
        actual.push(local);
    }
    Ok((listeners, actual))
}

/// What satellites on this machine can reach; others need `PUBLIC_URL`.
fn own_url(scheme: &str, addresses: &[SocketAddr]) -> String {
    let Some(first) = addresses.first() else { return format!("{scheme}://localhost") };
    if first.ip().is_unspecified() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        return format!("{scheme}://{host}:{}", first.port());
    }
    format!("{scheme}://{first}")
}

/// Told, or made once and kept with what it protects: then whoever has the database can check guesses of robots' secrets,
/// which are too long to guess.
async fn shared_keys(db: &Db, settings: &Settings) -> Result<Keys, Error> {
    if let Some(key) = &settings.secret_key {
        return Ok(Keys::new(key.expose()));
    }
    let mut tx = db.begin().await?;
    let key = keys::get_or_put(&mut tx, "digest", &random_token()).await?;
    tx.commit().await?;
    Ok(Keys::new(&key))
}

type Parts = (Arc<dyn Central>, Option<Arc<Embedded>>, Option<Arc<dyn Handler>>);

fn central(
    settings: &Settings,
    url: &str,
    db: &Db,
    accounts: &Arc<Users>,
    executor: &Executor,
) -> Result<Parts, Error> {
    let client = || {
        let config = ClientConfig { extra_roots: settings.central_ca.clone(), ..ClientConfig::from_env() };
        surf_client(config, executor.clone())
    };
    match &settings.central {
        CentralSettings::Harbor { url, username, password } => {
            let mut harbor = HarborSettings::new(url, username, password.clone());
            harbor.robot_days = settings.robot_days;
            Ok((Arc::new(Harbor::new(harbor, client()?)?), None, None))
        }
        CentralSettings::Plain { url, push, pull } => {
            let (user, password) = push.clone().unwrap_or_else(|| (String::new(), Secret::new("")));
            let plain = PlainSettings { url: url.clone(), user, password, satellites: pull.clone() };
            Ok((Arc::new(Plain::new(plain, client()?)?), None, None))
        }
        CentralSettings::Embedded => {
            let path = settings.data_dir.join("registry");
            private_dir(&settings.data_dir)?;
            let store = Store::open(&path, Options::default())
                .map_err(|e| Error::Data(path.display().to_string(), e.to_string()))?;
            let embedded = Arc::new(Embedded::new(url, store, Arc::new(db.clone()), settings.robot_days)?);
            let numbers = Arc::new(registry::Metrics::default());
            let registry = embedded.registry(Arc::clone(accounts) as Arc<dyn central::Accounts>, numbers);
            Ok((Arc::clone(&embedded) as Arc<dyn Central>, Some(embedded), Some(Arc::new(registry))))
        }
    }
}

/// Where there is no administrator yet: one of the password given, or of one made here.
async fn first_admin(db: &Db, settings: &Settings, passwords: &Passwords) -> Result<Option<Secret>, Error> {
    if users::count(&mut *db.read().await?, SYSTEM_ADMIN).await? > 0 {
        return Ok(None);
    }
    let (password, made) = match &settings.admin_password {
        Some(password) => {
            auth::check_password(&settings.policy, password.expose()).map_err(Error::Password)?;
            (password.clone(), false)
        }
        None => (Secret::new(made_password(settings.policy.min)), true),
    };
    let hash = passwords.hash(password.expose()).await.unwrap_or_default();
    let mut tx = db.begin().await?;
    let made = match users::insert(&mut tx, "admin", &hash, SYSTEM_ADMIN).await {
        Ok(_) => made,
        // Another replica was faster.
        Err(db::Error::Conflict) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    tx.commit().await?;
    Ok(made.then_some(password))
}

/// One of each kind, whatever the policy asks for, and 120 random bits.
fn made_password(min: usize) -> String {
    let mut password = String::from("Gc1-");
    while password.len() < min.max(24) {
        password.push_str(&auth::random_hex()[..4]);
    }
    password
}

/// A connection takes a descriptor; the database and files some more.
fn raise_descriptor_limit(connections: usize) {
    let wanted = connections as u64 + 500;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|c| *c < wanted) else { return };
    let raised = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if raised < wanted || setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_err() {
        log::warn!(
            "only {} files may be open ({wanted} wanted for {connections} connections): raise the limit of open files",
            raised.max(current)
        );
    }
}

/// Runs `work` on `threads` threads until it ends.
pub fn block_on<T>(executor: &Executor, threads: usize, work: impl Future<Output = T>) -> T {
    let (stop, stopped) = smol::channel::bounded::<std::convert::Infallible>(1);
    std::thread::scope(|scope| {
        for n in 1..threads.max(1) {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            let thread = std::thread::Builder::new().name(format!("serve-{n}"));
            let spawned = thread.spawn_scoped(scope, move || {
                let _ = smol::block_on(executor.run(stopped.recv()));
            });
            if let Err(e) = spawned {
                log::warn!("one thread less: {e}");
            }
        }
        let done = smol::block_on(executor.run(work));
        drop(stop);
        done
    })
}
