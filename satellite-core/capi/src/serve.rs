//! The store, served as an OCI registry by a thread of the library.
#![allow(unsafe_code)]

use std::{
    convert::Infallible,
    ffi::{c_char, c_int},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use futures_lite::future::{block_on, or};
use rustix::{
    net::{SocketType, sockopt},
    process::{Resource, getrlimit},
};
use satellite_core::{
    net::{
        Executor,
        server::{Limits, Server, TlsAcceptor},
    },
    registry::{Access, Htpasswd, Metrics, Registry, Settings},
    store::Store,
};
use smol::{
    Timer,
    channel::{Receiver, Sender, bounded},
};

use crate::{
    boundary::{STACK, aside, descriptor, optional, prefixed, run, set, text},
    codes::{Failure, Outcome, SATELLITE_PANIC, bad, system},
    handles::{self, Object, ServerHandle, StoreHandle, store},
};

/// In satellite_service: clients on this machine may push and delete without credentials.
pub const SATELLITE_TRUST_LOOPBACK: u32 = 1;
/// In satellite_service: pulling needs credentials, too.
pub const SATELLITE_PRIVATE: u32 = 2;
/// In satellite_service: nobody may push or delete.
pub const SATELLITE_READ_ONLY: u32 = 4;

/// How often `index.json` is brought up to date, if anything changed.
const LAYOUT_EVERY: Duration = Duration::from_secs(1);
/// Descriptors that are left to the rest of the program.
const LEFT: u64 = 100;

/// How a store is served. Zero and NULL for what has a default: anybody may pull, and nobody may change anything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Service {
    /// sizeof(struct satellite_service).
    pub size: usize,
    /// "ADDRESS:PORT" to listen on, "127.0.0.1:0" for any port, "[::]:5000" for all; NULL: `socket` is used.
    pub address: *const c_char,
    /// A TCP socket that listens already, if `address` is NULL. It stays the caller's, who may close it at once; as
    /// long as it is not closed, clients may wait in it after the registry has stopped. It becomes non-blocking.
    pub socket: c_int,
    /// SATELLITE_TRUST_LOOPBACK, SATELLITE_PRIVATE, SATELLITE_READ_ONLY.
    pub flags: u32,
    /// Connections at once; each takes two descriptors. 0: 500, or as many as the limit on open files leaves.
    pub connections: u32,
    /// Seconds that running answers may take after satellite_server_stop. 0: 20.
    pub drain_seconds: u32,
    /// File of names and passwords as `htpasswd -B` makes it, for those who may push and delete; NULL: nobody.
    pub htpasswd: *const c_char,
    /// File of a certificate and its intermediates in PEM; NULL: plain HTTP.
    pub tls_certificate: *const c_char,
    /// File of its key.
    pub tls_key: *const c_char,
}

/// A registry that runs.
pub(crate) struct Running {
    port: u16,
    thread: JoinHandle<()>,
    /// Nothing is ever sent: the server ends when this does.
    _stop: Sender<Infallible>,
}

/// Serves the store as an OCI registry, on a thread of the library, until satellite_server_stop. When it returns, clients
/// can connect. It keeps the store open; satellite_store_gc is the caller's to call.
///
/// Feature: serve. Threads: any; a store may be served several times.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_serve(
    handle: StoreHandle,
    service: *const Service,
    server: *mut ServerHandle,
) -> c_int {
    run(|| {
        set("server", server, 0)?;
        let store = store(handle)?;
        let service = prefixed("service", service)?;
        let plan = Plan::read(&service)?;
        let running = aside(|| plan.start(store))?;
        set("server", server, handles::insert(Object::Server(running))?)
    })
}

/// The port that it listens on.
///
/// Feature: serve. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_server_port(server: ServerHandle, port: *mut u16) -> c_int {
    run(|| {
        let of = |o: &Object| if let Object::Server(running) = o { Some(running.port) } else { None };
        set("port", port, handles::get("server", server, of)?)
    })
}

/// Stops it: new clients are refused, idle connections closed, running answers may end within `drain_seconds`. Returns
/// when all have ended.
///
/// Feature: serve. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_server_stop(server: ServerHandle) -> c_int {
    run(|| match handles::remove("server", server, |o| matches!(o, Object::Server(_)))? {
        Object::Server(running) => running.stop(),
        _ => Ok(()),
    })
}

impl Running {
    fn stop(self) -> Outcome {
        let Self { thread, _stop: stop, .. } = self;
        drop(stop);
        let text = "the registry ended before by a defect of the library; the log says where";
        thread.join().map_err(|_| Failure(SATELLITE_PANIC, text.into()))
    }
}

/// What a [`Service`] asks for.
struct Plan {
    listener: TcpListener,
    access: Access,
    settings: Settings,
    limits: Limits,
    tls: Option<TlsAcceptor>,
}

impl Plan {
    fn read(service: &Service) -> Outcome<Self> {
        let has = |flag| service.flags & flag != 0;
        if has(!(SATELLITE_TRUST_LOOPBACK | SATELLITE_PRIVATE | SATELLITE_READ_ONLY)) {
            return Err(bad(format!("flags {:#x} are not all known", service.flags)));
        }
        let users = match optional("htpasswd", service.htpasswd)? {
            Some(path) => Some(Htpasswd::open(path.as_ref()).map_err(|e| bad(e.to_string()))?),
            None => None,
        };
        let files =
            (optional("tls_certificate", service.tls_certificate)?, optional("tls_key", service.tls_key)?);
        let tls = match files {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(TlsAcceptor::from_files(certificate, key).map_err(|e| bad(e.to_string()))?)
            }
            _ => return Err(bad("tls_certificate and tls_key belong together")),
        };
        let mut limits = Limits { connections: connections(service.connections), ..Limits::default() };
        if service.drain_seconds != 0 {
            limits.drain = Duration::from_secs(service.drain_seconds.into());
        }
        Ok(Self {
            access: Access {
                trust_loopback: has(SATELLITE_TRUST_LOOPBACK),
                users,
                private: has(SATELLITE_PRIVATE),
            },
            settings: Settings { read_only: has(SATELLITE_READ_ONLY), ..Settings::default() },
            limits,
            tls,
            listener: listener(service)?,
        })
    }

    fn start(self, store: Store) -> Outcome<Running> {
        let failed = |e: std::io::Error| system("cannot serve", e);
        let port = self.listener.local_addr().map_err(failed)?.port();
        let registry = Registry::new(store.clone(), self.access, self.settings, Arc::new(Metrics::default()));
        let server =
            Server::new([self.listener], Arc::new(registry), self.limits, self.tls).map_err(failed)?;
        let (stop, stopped) = bounded(1);
        let thread = Builder::new().name("satellite-serve".into()).stack_size(STACK);
        let thread = thread.spawn(move || serve(server, &store, &stopped)).map_err(failed)?;
        Ok(Running { port, thread, _stop: stop })
    }
}

/// Until the other end of `stopped` is dropped.
fn serve(server: Server, store: &Store, stopped: &Receiver<Infallible>) {
    let executor: Executor = Arc::new(smol::Executor::new());
    let stop = async {
        let _: Result<Infallible, _> = stopped.recv().await;
    };
    block_on(executor.run(async {
        Box::pin(server.run(&executor, or(stop, keep_layout(store)))).await;
        if let Err(e) = store.refresh_layout().await {
            log::error!("index.json could not be written: {e}");
        }
    }));
}

/// Never ends.
async fn keep_layout(store: &Store) {
    loop {
        Timer::after(LAYOUT_EVERY).await;
        if let Err(e) = store.refresh_layout().await {
            log::error!("index.json could not be written: {e}");
        }
    }
}

fn listener(service: &Service) -> Outcome<TcpListener> {
    if !service.address.is_null() {
        let address = text("address", service.address)?;
        let parsed: SocketAddr = address.parse().map_err(|_| {
            bad(format!("address {address:?} is not ADDRESS:PORT in numbers, e.g. 127.0.0.1:5000"))
        })?;
        return TcpListener::bind(parsed).map_err(|e| system(&format!("cannot listen on {address}"), e));
    }
    let socket = descriptor("socket", service.socket)?;
    let listens = sockopt::socket_acceptconn(&socket) == Ok(true)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
    let listener = TcpListener::from(socket);
    if !listens || listener.local_addr().is_err() {
        return Err(bad(format!("socket {} is not a TCP socket that listens", service.socket)));
    }
    Ok(listener)
}

/// Each connection takes a socket and a file; a library does not raise the program's limit.
fn connections(wanted: u32) -> usize {
    let wanted = if wanted == 0 { Limits::default().connections } else { wanted as usize };
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fit = usize::try_from(open.saturating_sub(LEFT) / 2).unwrap_or(usize::MAX);
    wanted.min(fit).max(1)
}
