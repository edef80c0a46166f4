//! The satellite's client of Ground Control, its identity and its heartbeat, against a real Ground Control.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may, and says what it measured")]

use futures_lite::future;
use satellite_bin::agent::cause::{Cause, Trouble};
use satellite_bin::agent::center::{Address, Center};
use satellite_bin::agent::identity::{DeviceKey, Identity, Vault, Way};
use satellite_bin::agent::report::{Answered, BeatInput, EventKind, Events, Inventory, Reporter};
use satellite_bin::agent::schedule::{Clock, MachineTicks};
use satellite_core::fleet::{CachedImage, Ztr};
use satellite_core::net::Executor;
use satellite_core::remote::Secret;
use satellite_tests::certs::Certs;
use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{GroundControl, Setup};
use satellite_tests::proxy::{Fault, Proxy, Seen};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A vault that a test can break: as a power cut between the answer and the disk would.
#[derive(Default)]
struct Memory {
    account: Mutex<Option<Ztr>>,
    broken: AtomicBool,
}

impl Vault for Memory {
    fn load(&self) -> Option<Ztr> {
        self.account.lock().unwrap().clone()
    }

    fn store(&self, account: &Ztr) -> Result<(), Trouble> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Trouble::new(Cause::CONFIG_FILE, "the power is cut"));
        }
        *self.account.lock().unwrap() = Some(account.clone());
        Ok(())
    }
}

/// A device: its disk, and how it speaks to Ground Control.
struct Device {
    dir: Dir,
    vault: Arc<Memory>,
    executor: Executor,
}

/// One life of a device, from start to power cut.
struct Life {
    center: Arc<Center>,
    identity: Arc<Identity>,
    executor: Executor,
    reporter: Reporter,
    events: Events,
    clock: Arc<Clock>,
}

impl Device {
    fn new() -> Self {
        Self { dir: Dir::new(), vault: Arc::default(), executor: Executor::default() }
    }

    fn start(&self, address: Address, way: Way) -> Life {
        let executor = self.executor.clone();
        let center = Arc::new(Center::new(address, executor.clone()).unwrap());
        let key = DeviceKey::open(self.dir.path()).unwrap();
        let vault = Arc::clone(&self.vault);
        let identity = Arc::new(Identity::new(Arc::clone(&center), vault, key, way, None));
        let clock = Arc::new(Clock::open(self.dir.path(), Arc::new(MachineTicks::new())));
        let events = Events::new(Arc::clone(&clock));
        let reporter = Reporter::new(
            Arc::clone(&center),
            Arc::clone(&identity),
            Arc::clone(&clock),
            events.clone(),
            self.dir.path().to_path_buf(),
        );
        Life { center, identity, executor, reporter, events, clock }
    }

    fn with_token(&self, at: SocketAddr, token: &str) -> Life {
        self.start(plain(at), Way::Token(Secret::new(token)))
    }
}

impl Life {
    fn register(&self) -> Result<(), Trouble> {
        future::block_on(self.executor.run(self.identity.register()))
    }

    fn beat(&self, input: &BeatInput) -> Result<Answered, Trouble> {
        future::block_on(self.executor.run(self.reporter.beat(input.clone())))
    }
}

fn plain(at: SocketAddr) -> Address {
    Address {
        url: format!("http://{at}").parse().unwrap(),
        use_unsecure: false,
        ca: None,
        identity: None,
        server_id: None,
    }
}

fn server(change: impl FnOnce(Setup) -> Setup) -> (GroundControl, Dir) {
    let dir = Dir::new();
    let server = change(Setup::new(dir.join("data"))).start();
    server.admin().config("c1");
    (server, dir)
}

#[test]
fn a_crash_between_exchange_and_storing_costs_nothing_and_helps_no_other_device() {
    let (server, _dir) = server(|setup| setup);
    let token = server.admin().register("gate", &[], "c1");
    let (device, thief) = (Device::new(), Device::new());
    device.vault.broken.store(true, Ordering::Relaxed);
    let trouble = device.with_token(server.address(), &token).register().unwrap_err();
    assert_eq!(trouble.cause, Cause::CONFIG_FILE);
    assert_eq!(
        thief.with_token(server.address(), &token).register().unwrap_err().cause,
        Cause::TOKEN_USED,
        "the token was the device's"
    );
    device.vault.broken.store(false, Ordering::Relaxed);
    let life = device.with_token(server.address(), &token);
    life.register().unwrap();
    assert_eq!(life.identity.name().as_deref(), Some("gate"));
    assert!(life.beat(&BeatInput::default()).unwrap().answer.is_some());
    // It starts again, with the token still on its command line.
    let life = device.with_token(server.address(), &token);
    life.register().unwrap();
    life.beat(&BeatInput::default()).unwrap();
    // An answer that was used is not given again, to nobody.
    let again = Device { vault: Arc::default(), ..device };
    assert_eq!(again.with_token(server.address(), &token).register().unwrap_err().cause, Cause::TOKEN_USED);
}

#[test]
fn an_answer_lost_on_the_way_is_asked_for_again() {
    let (server, _dir) = server(|setup| setup);
    let token = server.admin().register("gate", &[], "c1");
    let proxy = Proxy::start(server.address());
    let lost = AtomicU64::new(0);
    proxy.on(move |seen: &Seen, _| {
        let first = seen.target.contains("/ztr/") && lost.fetch_add(1, Ordering::Relaxed) < 2;
        if first { Fault::Lost } else { Fault::Pass }
    });
    let device = Device::new();
    let life = device.with_token(proxy.address(), &token);
    let mut tries = 0;
    while life.register().is_err() {
        tries += 1;
        assert!(tries < 5, "no account after {tries} tries");
    }
    life.beat(&BeatInput::default()).unwrap();
}

#[test]
fn tokens_that_are_no_good_say_why() {
    let (server, _dir) = server(|setup| setup.env("TOKEN_DURATION", "1ms"));
    let late = server.admin().register("late", &[], "c1");
    let device = Device::new();
    for (token, cause) in [
        (late.as_str(), Cause::TOKEN_EXPIRED),
        ("0123456789abcdef0123456789abcdef", Cause::TOKEN_USED),
        ("no token/../at all", Cause::TOKEN_MALFORMED),
        ("", Cause::TOKEN_MALFORMED),
    ] {
        let trouble = device.with_token(server.address(), token).register().unwrap_err();
        assert_eq!(trouble.cause, cause, "{trouble}");
        assert!(trouble.retry_after >= Some(Duration::from_secs(600)), "{token}: tried again too soon");
        assert!(token.is_empty() || !trouble.message.contains(token), "{trouble}");
    }
    let absent = device.start(plain(server.address()), Way::None).register().unwrap_err();
    assert_eq!(absent.cause, Cause::TOKEN_ABSENT);
    assert!(device.vault.load().is_none());
}

#[test]
fn a_captive_portal_changes_nothing_about_who_the_satellite_is() {
    let (server, _dir) = server(|setup| setup);
    let token = server.admin().register("gate", &[], "c1");
    let proxy = Proxy::start(server.address());
    let device = Device::new();
    let life = device.with_token(proxy.address(), &token);
    let portal = || Fault::Answer("text/html".into(), b"<html>Welcome to the hotel</html>".to_vec());
    proxy.on(move |_: &Seen, _| portal());
    assert_eq!(life.register().unwrap_err().cause, Cause::CENTER_NOT_JSON);
    assert!(device.vault.load().is_none());
    proxy.behave();
    life.register().unwrap();
    life.beat(&BeatInput::default()).unwrap();
    let account = device.vault.load();

    proxy.on(move |_: &Seen, _| portal());
    assert_eq!(life.beat(&BeatInput::default()).unwrap_err().cause, Cause::CENTER_NOT_JSON);
    for status in [401, 403, 511] {
        proxy.on(move |_: &Seen, _| Fault::status(status));
        let trouble = life.beat(&BeatInput::default()).unwrap_err();
        assert!(
            matches!(trouble.cause, Cause::CENTER_NOT_JSON | Cause::CENTER_FAILED),
            "{status}: {trouble}"
        );
        assert_eq!(device.vault.load(), account, "{status}");
    }
    proxy.behave();
    life.beat(&BeatInput::default()).unwrap();
}

#[test]
fn a_certificate_registers_reports_and_is_read_again_when_it_is_rotated() {
    let dir = Dir::new();
    let certs = Certs::make(&dir.join("certs"));
    let setup = |setup: Setup| {
        let setup = setup.env("TLS_CERT_FILE", &certs.cert).env("TLS_KEY_FILE", &certs.key);
        let setup = setup.env("SPIFFE_SERVER_ENABLED", "true").env("SPIFFE_TRUST_DOMAIN", "fleet.example");
        setup.env("SPIFFE_BUNDLE_FILE", &certs.ca)
    };
    let server = setup(Setup::new(dir.join("data"))).start();
    let (cert, key) = (dir.join("svid.pem"), dir.join("svid.key"));
    let svid = |name: &str| {
        let (c, k) = certs.client(&format!("spiffe://fleet.example/satellite/region/north/{name}"));
        // As rotation does it: each file at once, one after the other.
        for (from, to) in [(&c, &cert), (&k, &key)] {
            let new = to.with_extension("new");
            std::fs::copy(from, &new).unwrap();
            std::fs::rename(new, to).unwrap();
        }
    };
    let address = |ca: Option<&Path>| Address {
        url: server.url().parse().unwrap(),
        use_unsecure: false,
        ca: ca.map(Into::into),
        identity: Some((cert.clone(), key.clone())),
        server_id: None,
    };
    let device = Device::new();
    let life = device.start(address(Some(&certs.ca)), Way::Certificate);
    assert_eq!(life.register().unwrap_err().cause, Cause::TLS_FILES, "there is no SVID yet");
    svid("gate-1");
    life.register().unwrap();
    assert_eq!(life.identity.name().as_deref(), Some("gate-1"));
    assert!(life.beat(&BeatInput::default()).unwrap().answer.is_some());
    assert!(life.clock.read().sure, "Ground Control's time is that of this machine");

    // The next certificate is seen without a restart: here it is of another satellite, so that it shows.
    svid("gate-2");
    let now = future::block_on(life.executor.run(life.center.by_certificate())).unwrap();
    assert!(now.state.contains("/gate-2/"), "{}", now.state);
    std::fs::write(&key, "no key").unwrap();
    assert_eq!(life.beat(&BeatInput::default()).unwrap_err().cause, Cause::TLS_FILES);
    assert_eq!(life.identity.name().as_deref(), Some("gate-1"), "the account stays");
    svid("gate-1");
    life.beat(&BeatInput::default()).unwrap();

    // A server that shows another SPIFFE ID than it must, or none, is not told anything.
    let expected = Some("spiffe://edge.example/ground-control".to_string());
    let picky = Address { server_id: expected, ..address(Some(&certs.ca)) };
    let trouble = Device::new().start(picky, Way::Certificate).register().unwrap_err();
    assert_eq!(trouble.cause, Cause::CENTER_TLS, "{trouble}");

    // Whom nobody vouches for is not told anything.
    let stranger = Device::new();
    let trouble = stranger.start(address(None), Way::Certificate).register().unwrap_err();
    assert_eq!(trouble.cause, Cause::CENTER_TLS, "{trouble}");
}

fn images(n: usize) -> Arc<Inventory> {
    let image = |n| CachedImage {
        reference: format!("127.0.0.1:8585/edge/app-{n}:v1@sha256:{}", "a".repeat(64)),
        size_bytes: 1000,
    };
    Arc::new(Inventory::new((0..n).map(image).collect()))
}

#[test]
fn heartbeats_say_all_that_is_new_and_little_else() {
    let (server, _dir) = server(|setup| setup);
    let admin = server.admin();
    let token = admin.register("gate", &[], "c1");
    let relay = Relay::start(server.address());
    let device = Device::new();
    let life = device.with_token(relay.address, &token);
    life.register().unwrap();
    life.events.push("edge/app-1:v1", EventKind::Completed { total: 1000 });
    let mut input = BeatInput { images: images(50), ..BeatInput::default() };
    input.last_error = Some(Trouble::new(Cause::DISK_BLOCKED, "needs 2 GiB, has 1 GiB"));
    let first = life.beat(&input).unwrap();
    let answer = first.answer.clone().unwrap();
    assert!(first.news && !answer.state_digest.is_empty());
    let health = admin.read("/api/satellites/gate/health");
    assert_eq!(health["last_error"]["cause"], "disk.blocked");
    let events = admin.read("/api/satellites/gate/events");
    assert_eq!(events[0]["event"], "completed");
    let cached = admin.read("/api/satellites/gate/images");
    assert_eq!(cached.as_array().unwrap().len(), 50);

    // It runs what it should, and is well: from now on little is said.
    input.last_error = None;
    input.state_digest.clone_from(&answer.state_digest);
    input.config_digest.clone_from(&answer.config_digest);
    input.states.clone_from(&answer.states);
    for _ in 0..2 {
        assert!(!life.beat(&input).unwrap().news);
    }
    relay.bytes.store(0, Ordering::Relaxed);
    let idle = life.beat(&input).unwrap();
    let bytes = relay.bytes.load(Ordering::Relaxed);
    assert_eq!(
        idle.answer.as_ref().map(|a| &a.state_digest),
        Some(&answer.state_digest),
        "in full all the same"
    );
    let month = |period: u64| bytes * 30 * 86_400 / period;
    println!(
        "an idle heartbeat: {bytes} bytes both ways with HTTP's headers; a month of them each 30 s: {} MB, each 180 s: {} MB",
        month(30) / 1_000_000,
        month(180) / 1_000_000
    );
    assert!(bytes < 690, "an idle heartbeat has {bytes} bytes");
    assert!(month(180) <= 10_000_000);
    assert!(admin.read("/api/satellites/gate/health")["last_error"].is_null());
    assert_eq!(
        admin.read("/api/satellites/gate/images").as_array().unwrap().len(),
        50,
        "left out is not gone"
    );

    // Another image, and another group: both sides see it at once.
    input.images = images(51);
    life.beat(&input).unwrap();
    assert_eq!(admin.read("/api/satellites/gate/images").as_array().unwrap().len(), 51);
    admin.group("g1", &[]);
    admin.post("/api/groups/satellite", &serde_json::json!({"satellite": "gate", "group": "g1"})).expect(200);
    let news = satellite_tests::wait::until(Duration::from_secs(60), "the new group's state", || {
        let answered = life.beat(&input).unwrap();
        answered.news.then_some(answered.answer.unwrap())
    });
    assert_ne!(news.state_digest, answer.state_digest);
}

/// Passes bytes on and counts them, both ways.
struct Relay {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Relay {
    fn start(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, bytes) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(backend).unwrap();
                let ways = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
                for (from, to) in ways {
                    let count = Arc::clone(&count);
                    std::thread::spawn(move || pass(from, to, &count));
                }
            }
        });
        Self { address, bytes }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = [0u8; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        // Counted before it is there: who has the answer finds it counted.
        count.fetch_add(n as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
