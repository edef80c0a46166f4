//! An image from a registry into the store.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::{c_char, c_int, c_void},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use futures_lite::future::{block_on, or};
use satellite_core::{
    net::client::{ClientConfig, Proxy, ProxySettings, SurfClient, surf_client},
    oci::{Digest, ImageReference, Platform, PlatformSet},
    remote::{self, Credentials, Registry, Scheme, Secret},
    replicate::{self, Connect, Event, Replicator, Report, Sink},
    store::Store,
    transfer::{self, Engine, Throttle},
};
use smol::Timer;

use crate::{
    boundary::{array, aside_while, optional, parsed, prefixed, run, set, text},
    cancel::{self, Cancel},
    codes::{Failure, Outcome, SATELLITE_ARGUMENT, SATELLITE_STORE, bad},
    handles::{CancelHandle, StoreHandle, store},
    version::SATELLITE_DIGEST_ROOM,
};

/// In satellite_source: plain HTTP, passwords included. Without it only loopback is spoken to so.
pub const SATELLITE_PLAIN_HTTP: u32 = 1;
/// In satellite_source: signatures, SBOMs and what else is about the image is left.
pub const SATELLITE_NO_REFERRERS: u32 = 2;

/// Events that wait for the call-back.
const EVENTS: usize = 64;
/// Without news the call-back is called this often, so that it can cancel.
const TICK: Duration = Duration::from_millis(500);
/// How often it is looked whether all tasks have ended, and how long at most.
const LOOK: Duration = Duration::from_millis(2);
const BOUND: Duration = Duration::from_secs(5);

/// How far a replication is.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Progress {
    /// Bytes to fetch; 0 until the manifests are read.
    pub bytes_total: u64,
    /// Of these, how many are here.
    pub bytes_done: u64,
    /// Bytes that were here before and need not be fetched.
    pub bytes_present: u64,
    /// Blobs to fetch.
    pub blobs_total: u64,
    /// Of these, how many are here whole.
    pub blobs_done: u64,
    /// Tries that failed and were followed by another.
    pub retries: u64,
}

/// Called with how far it is, about ten times a second while bytes come and twice a second while none do, on the thread
/// that called satellite_replicate. Other than 0 cancels, unless all is there already. It may call any function of this
/// library; it must not throw.
pub type ProgressCallback = Option<extern "C" fn(context: *mut c_void, progress: *const Progress) -> c_int>;

/// What is to be replicated, and how. Zero and NULL for what has a default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Source {
    /// sizeof(struct satellite_source).
    pub size: usize,
    /// "HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]".
    pub image: *const c_char,
    /// Name of the account at the registry; NULL: none.
    pub user: *const c_char,
    /// Its password.
    pub password: *const c_char,
    /// File of certification authorities in PEM, trusted besides the system's; with it loopback is spoken to by TLS, too.
    pub ca_file: *const c_char,
    /// "http://[USER:PASSWORD@]HOST[:PORT]" of a proxy; NULL: none. The environment is not read.
    pub proxy: *const c_char,
    /// Platforms of an index to fetch, "linux/arm64,linux/arm/v7" or "all"; NULL: this machine's.
    pub platforms: *const c_char,
    /// SATELLITE_PLAIN_HTTP, SATELLITE_NO_REFERRERS.
    pub flags: u32,
    /// Blobs fetched at once, 64 at most. 0: 4.
    pub concurrency: u32,
    /// Without a byte for so many seconds a connection is given up and another is made. 0: 60.
    pub stall_seconds: u32,
    /// 0.
    pub reserved: u32,
    /// Most bytes a second. 0: no limit.
    pub bytes_per_second: u64,
    /// What another thread can end it by; 0: nothing.
    pub cancel: CancelHandle,
    /// Who is told how far it is; NULL: nobody.
    pub progress: ProgressCallback,
    /// For the call-back.
    pub context: *mut c_void,
}

/// What was replicated.
#[repr(C)]
pub struct Replicated {
    /// The digest of the image.
    pub digest: [c_char; SATELLITE_DIGEST_ROOM],
    /// Bytes of blobs that came over the wire.
    pub received: u64,
    /// Bytes that earlier tries had left.
    pub resumed: u64,
    /// Bytes that were here.
    pub present: u64,
    /// 1 if nothing had to be fetched.
    pub unchanged: u32,
    /// 0.
    pub reserved: [u32; 7],
}

/// Fetches an image into the store and returns when it is there, whole and durable, its tag moved last; or when that
/// failed: what has come of blobs is kept, and the next call goes on from there. `replicated` may be NULL.
///
/// A registry that does not answer is tried for some seconds, a blob whose transfer breaks for some minutes.
///
/// Feature: replicate. Threads: any; any number at a time, and of two that want the same blob one fetches it. The store may be closed
/// meanwhile: this goes on with it.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_replicate(
    handle: StoreHandle,
    source: *const Source,
    replicated: *mut Replicated,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let source = prefixed("source", source)?;
        let job = Job::read(&source)?;
        let report = job.run(&store, source.progress.map(|call| (call, source.context)))?;
        let image = report.images.into_iter().next();
        let image = image.ok_or_else(|| Failure(SATELLITE_STORE, "the image was not reported on".into()))?;
        if let Some(failure) = image.error {
            return Err(failure.into());
        }
        if replicated.is_null() {
            return Ok(());
        }
        let digest = image.digest.map(|d| d.to_string()).unwrap_or_default();
        let out = Replicated {
            digest: array("digest", &digest)?,
            received: report.received,
            resumed: report.resumed,
            present: report.present,
            unchanged: image.unchanged.into(),
            reserved: [0; 7],
        };
        set("replicated", replicated, out)
    })
}

/// What a [`Source`] asks for.
struct Job {
    image: ImageReference,
    options: replicate::Options,
    remote: remote::Options,
    client: ClientConfig,
    limit_rate: Option<u64>,
    cancel: Cancel,
}

impl Job {
    fn read(source: &Source) -> Outcome<Self> {
        let known = SATELLITE_PLAIN_HTTP | SATELLITE_NO_REFERRERS;
        if source.flags & !known != 0 {
            return Err(bad(format!("flags {:#x} are not all known", source.flags)));
        }
        let credentials = match (optional("user", source.user)?, optional("password", source.password)?) {
            (None, None) => Credentials::Anonymous,
            (Some(user), Some(password)) => Credentials::Password { user, password: Secret::new(password) },
            _ => return Err(bad("user and password belong together")),
        };
        let ca_file = optional("ca_file", source.ca_file)?.map(PathBuf::from);
        let scheme = match &ca_file {
            _ if source.flags & SATELLITE_PLAIN_HTTP != 0 => Scheme::Http,
            Some(_) => Scheme::Https,
            None => Scheme::Auto,
        };
        let stall = match source.stall_seconds {
            0 => transfer::Options::default().stall,
            seconds => Duration::from_secs(seconds.into()),
        };
        let proxy = match optional("proxy", source.proxy)? {
            None => ProxySettings::default(),
            Some(text) => {
                let proxy = Proxy::parse(&text).ok_or_else(|| bad("proxy is not http://HOST[:PORT]"))?;
                ProxySettings { http: Some(proxy.clone()), https: Some(proxy), no_proxy: String::new() }
            }
        };
        let platforms = if source.platforms.is_null() {
            PlatformSet::Some(vec![Platform::host()])
        } else {
            platforms(&text("platforms", source.platforms)?)?
        };
        Ok(Self {
            image: parsed("image", source.image)?,
            options: replicate::Options {
                platforms,
                referrers: source.flags & SATELLITE_NO_REFERRERS == 0,
                concurrency: if source.concurrency == 0 { 4 } else { source.concurrency.min(64) as usize },
            },
            remote: remote::Options {
                scheme,
                credentials,
                stall_timeout: stall,
                ..remote::Options::default()
            },
            client: ClientConfig {
                extra_roots: ca_file.into_iter().collect(),
                first_byte_timeout: stall,
                proxy,
                ..ClientConfig::default()
            },
            limit_rate: (source.bytes_per_second != 0).then_some(source.bytes_per_second),
            cancel: if source.cancel == 0 { Cancel::default() } else { cancel::get(source.cancel)? },
        })
    }

    /// On a thread of the library; the call-back is called on this one.
    fn run(
        self,
        store: &Store,
        listener: Option<(extern "C" fn(*mut c_void, *const Progress) -> c_int, *mut c_void)>,
    ) -> Outcome<Report> {
        let (sender, events) = sync_channel(EVENTS);
        let refused = Cancel::default();
        let stop = refused.clone();
        let work = move || {
            let end = End(sender);
            self.fetch(store, &end.0, &stop)
        };
        let meanwhile = || {
            if let Some((call, context)) = listener {
                tell(&events, |progress| call(context, progress) == 0, &refused);
            } else {
                while let Ok(Some(_)) = events.recv() {}
            }
            // Who still has something to say does not wait for anybody to hear it.
            drop(events);
        };
        let report = aside_while(work, meanwhile)?;
        // Who wanted no more is told so, whichever came first; but what is there is there.
        let failed = report.images.iter().any(|image| image.error.is_some());
        if refused.is_raised() && failed { Err(Cancel::failure()) } else { Ok(report) }
    }

    fn fetch(self, store: &Store, sender: &SyncSender<Option<Event>>, refused: &Cancel) -> Outcome<Report> {
        if self.cancel.is_raised() {
            return Err(Cancel::failure());
        }
        let executor = Arc::new(smol::Executor::new());
        let client = surf_client(self.client, executor.clone());
        let client = client.map_err(|e| Failure(SATELLITE_ARGUMENT, e.to_string()))?;
        let stall = transfer::Options { stall: self.remote.stall_timeout, ..transfer::Options::default() };
        let engine = Engine::new(store.clone(), Arc::new(Throttle::new(self.limit_rate)), stall);
        let registries = Arc::new(Registries { options: self.remote, client });
        let replicator = Replicator::new(engine, registries, executor.clone());
        // Waits while the call-back does not keep up.
        let sender = sender.clone();
        let sink: Sink = Arc::new(move |event| drop(sender.send(Some(event))));
        let images = [self.image];
        let cancelled = async {
            or(self.cancel.raised(), refused.raised()).await;
            None
        };
        let replication = async { Some(replicator.run(&images, &self.options, sink).await) };
        let report = block_on(executor.run(Box::pin(or(cancelled, replication))));
        drop(replicator);
        // What is under way holds the executor, the store and its sockets, and ends only by being run.
        let ended = async {
            while !executor.is_empty() {
                Timer::after(LOOK).await;
            }
        };
        let bound = async {
            Timer::after(BOUND).await;
        };
        block_on(executor.run(or(ended, bound)));
        report.ok_or_else(Cancel::failure)
    }
}

/// Says that there is nothing more to come, however the thread ends.
struct End(SyncSender<Option<Event>>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.send(None);
    }
}

fn platforms(text: &str) -> Outcome<PlatformSet> {
    if text == "all" {
        return Ok(PlatformSet::All);
    }
    let list: Result<Vec<Platform>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    Ok(PlatformSet::Some(list.map_err(|e| bad(format!("platforms: {e}")))?))
}

/// One registry: that of the image.
struct Registries {
    options: remote::Options,
    client: SurfClient,
}

impl Connect for Registries {
    fn connect(&self, host: &str) -> Result<Registry, remote::Error> {
        Registry::new(host, self.options.clone(), self.client.clone())
    }
}

/// Tells a listener how far it is, until the replication has ended. One that wants no more raises `refused`.
fn tell(events: &Receiver<Option<Event>>, mut listener: impl FnMut(&Progress) -> bool, refused: &Cancel) {
    let mut sums = Sums::default();
    let (mut told, mut news) = (None::<Instant>, false);
    let mut call = |sums: &Sums| {
        if !refused.is_raised() && !listener(&sums.progress) {
            refused.raise();
        }
    };
    loop {
        let pause = if news { TICK / 5 } else { TICK };
        let due = told.is_none_or(|at| at.elapsed() >= pause);
        if due {
            call(&sums);
            (told, news) = (Some(Instant::now()), false);
        }
        let left = told.map_or(TICK, |at| pause.saturating_sub(at.elapsed()));
        match events.recv_timeout(left) {
            Ok(Some(event)) => news |= sums.count(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if news {
        call(&sums);
    }
}

/// Adds events up.
#[derive(Default)]
struct Sums {
    progress: Progress,
    /// Of blobs under way: bytes that are here, and the size.
    blobs: HashMap<Digest, (u64, u64)>,
}

impl Sums {
    /// Whether anything changed.
    fn count(&mut self, event: &Event) -> bool {
        let p = &mut self.progress;
        match event {
            Event::Planned { blobs, bytes, present_bytes, .. } => {
                (p.blobs_total, p.bytes_total, p.bytes_present) = (*blobs, *bytes, *present_bytes);
            }
            Event::BlobBegun { digest, resumed, size } => {
                self.blobs.insert(digest.clone(), (*resumed, *size));
            }
            Event::BlobProgress { digest, at } => {
                if let Some((now, _)) = self.blobs.get_mut(digest) {
                    p.bytes_done = p.bytes_done.saturating_add(*at).saturating_sub(*now);
                    *now = *at;
                }
            }
            Event::BlobRetry { .. } => p.retries += 1,
            Event::BlobDone { digest, .. } => {
                p.blobs_done += 1;
                if let Some((now, size)) = self.blobs.remove(digest) {
                    p.bytes_done = p.bytes_done.saturating_add(size).saturating_sub(now);
                }
            }
            Event::ImageDone { .. } | Event::ImageFailed { .. } => return false,
        }
        true
    }
}
