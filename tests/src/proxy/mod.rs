//! An upstream that misbehaves: a proxy in front of a registry that drops, stalls, lies and counts.
//!
//! What happens to a request is decided by a function of the request and of how often its path was asked for
//! before; it can be exchanged at any time.
//!
//! ```no_run
//! # use satellite_tests::{proxy::{Fault, Proxy}, registry::Registry};
//! # let registry = Registry::start();
//! let link = Proxy::start(registry.address());
//! link.on(|seen, _| if seen.is_blob() { Fault::DropAfter(1 << 20) } else { Fault::Pass });
//! // ... pull from link.host() ...
//! assert!(link.bytes("/blobs/") < 20 << 20);
//! ```

mod serve;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the proxy does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Passes it on, and the answer back.
    Pass,
    /// Ends the connection politely after that many bytes of the body.
    DropAfter(u64),
    /// Sends that many bytes of the body and then nothing, with the connection open.
    StallAfter(u64),
    /// Flips the byte at that place of the object (not of the range).
    WrongByte(u64),
    /// Says and sends that many bytes fewer, as if it were all.
    Short(u64),
    /// Says and sends that many bytes more.
    Long(u64),
    /// Answers with that status, and with these header lines.
    Status(u16, Vec<(String, String)>),
    /// Answers 200 with that media type and body, whatever was asked for.
    Answer(String, Vec<u8>),
    /// Sends the client to the same path of another server, by 307.
    Redirect(SocketAddr),
    /// Asks the registry without the `Range` that the client sent.
    IgnoreRange,
    /// Never answers.
    Silence,
    /// Closes the connection without an answer.
    Close,
    /// Has the request done, and closes the connection without an answer.
    Lost,
}

impl Fault {
    /// Just a status.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

/// A request as it came, and what was done about it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// GET and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The header lines.
    pub headers: Vec<(String, String)>,
    /// The status that was answered, 0 for none.
    pub status: u16,
    /// Bytes of the body that were sent to the client.
    pub sent: u64,
}

impl Seen {
    /// True for a GET of a blob.
    pub fn is_blob(&self) -> bool {
        self.method == "GET" && self.target.contains("/blobs/sha")
    }

    /// True for a HEAD or GET of a manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD") && self.target.contains("/manifests/")
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::wire::find(&self.headers, name)
    }

    /// N of `Range: bytes=N-…`, 0 without one.
    pub fn offset(&self) -> u64 {
        let range = self.header("range").and_then(|value| value.strip_prefix("bytes="));
        range.and_then(|value| value.split('-').next()?.parse().ok()).unwrap_or(0)
    }
}

type Rule = dyn Fn(&Seen, usize) -> Fault + Send + Sync;

struct Shared {
    backend: SocketAddr,
    rule: Mutex<Arc<Rule>>,
    seen: Mutex<Vec<Seen>>,
    /// Bytes per second of each connection's bodies; 0 is no limit.
    rate: AtomicU64,
    stop: AtomicBool,
}

/// A running proxy. Dropping it ends it and its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one that passes everything on.
    pub fn start(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on 127.0.0.1");
        let address = listener.local_addr().expect("its number");
        let shared = Arc::new(Shared {
            backend,
            rule: Mutex::new(Arc::new(|_: &Seen, _| Fault::Pass)),
            seen: Mutex::default(),
            rate: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepted = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepted.stop.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepted);
                std::thread::spawn(move || serve::connection(&shared, &stream));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on does with each request what `rule` says, given the request and how often its path was asked for before.
    pub fn on(&self, rule: impl Fn(&Seen, usize) -> Fault + Send + Sync + 'static) {
        *lock(&self.shared.rule) = Arc::new(rule);
    }

    /// From now on passes everything on.
    pub fn behave(&self) {
        self.on(|_, _| Fault::Pass);
    }

    /// Limits each body to that many bytes per second.
    pub fn limit(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Every request so far whose target contains `part`; those still being answered are there with what was sent.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.target.contains(part)).cloned().collect()
    }

    /// Bytes of bodies sent for targets that contain `part`.
    pub fn bytes(&self, part: &str) -> u64 {
        self.seen(part).iter().map(|seen| seen.sent).sum()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        lock(&self.shared.seen).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
