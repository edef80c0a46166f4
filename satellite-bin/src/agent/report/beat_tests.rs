#![allow(clippy::unwrap_used)]
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
};

use futures_lite::future;
use satellite_core::{fleet::Ztr, net::Executor};
use serde_json::{Value, json};
use smol::LocalExecutor;

use super::{
    super::{
        super::{
            center::Address,
            identity::{DeviceKey, Vault, Way},
            schedule::{Job, Options, testing::FakeTicks},
        },
        EventKind, Inventory,
    },
    *,
};

/// What was asked: path, login, body.
type Asked = (String, String, Value);
type Answers = dyn FnMut(&Asked) -> (u16, Value) + Send;

/// A Ground Control in a thread of its own, and a satellite that talks to it.
struct World {
    reporter: Reporter,
    executor: Executor,
    events: Events,
    clock: Arc<Clock>,
    asked: Arc<Mutex<Vec<Asked>>>,
    bytes: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

struct Keeps(Mutex<Option<Ztr>>);

impl Vault for Keeps {
    fn load(&self) -> Option<Ztr> {
        self.0.lock().unwrap().clone()
    }

    fn store(&self, account: &Ztr) -> Result<(), Trouble> {
        *self.0.lock().unwrap() = Some(account.clone());
        Ok(())
    }
}

fn account(password: &str) -> Ztr {
    serde_json::from_value(json!({"state": "http://h/satellite/satellite-state/gate/state:latest",
        "auth": {"url": "http://h", "username": "robot$gate", "password": password}}))
    .unwrap()
}

impl World {
    fn new(answers: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (asked, bytes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (heard, count) = (Arc::clone(&asked), Arc::clone(&bytes));
        let mut answers: Box<Answers> = Box::new(answers);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &mut answers, &heard, &count);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let executor = Executor::default();
        let address = Address { url, use_unsecure: false, ca: None, identity: None, server_id: None };
        let center = Arc::new(Center::new(address, executor.clone()).unwrap());
        let vault = Arc::new(Keeps(Mutex::new(Some(account("one")))));
        let key = DeviceKey::open(dir.path()).unwrap();
        let identity = Arc::new(Identity::new(Arc::clone(&center), vault, key, Way::None, None));
        let ticks = FakeTicks::at("2026-11-25T12:00:00Z".parse().unwrap());
        let clock = Arc::new(Clock::open(dir.path(), ticks));
        let events = Events::new(Arc::clone(&clock));
        let reporter =
            Reporter::new(center, identity, Arc::clone(&clock), events.clone(), dir.path().to_path_buf());
        Self { reporter, executor, events, clock, asked, bytes, _dir: dir }
    }

    fn beat(&self, input: &BeatInput) -> Result<Answered, Trouble> {
        future::block_on(self.executor.run(self.reporter.beat(input.clone())))
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

/// One connection, with the headers that Ground Control sends.
fn serve(stream: TcpStream, answers: &mut Answers, asked: &Mutex<Vec<Asked>>, bytes: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut head, mut length, mut login) = (String::new(), 0usize, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            head.push_str(&line);
            let (name, value) = line.trim().split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => login = value.trim().into(),
                _ => {}
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_string();
        let request = (path, login, serde_json::from_slice(&body).unwrap_or_default());
        let (status, answer) = answers(&request);
        asked.lock().unwrap().push(request);
        let answer = if answer.is_null() { String::new() } else { answer.to_string() };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nx-request-id: 550e8400-e29b-41d4-a716-446655440000\r\n\
             content-length: {}\r\ndate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\n{answer}",
            answer.len()
        );
        bytes.fetch_add((head.len() + length + answer.len()) as u64, Ordering::Relaxed);
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

/// Answers as Ground Control does to a satellite that runs what it should.
fn ours(asked: &Asked) -> (u16, Value) {
    let tag = "0123456789abcdef0123456789abcdef";
    if asked.2["unchanged"] == tag {
        return (200, json!({"tag": tag}));
    }
    (200, json!({"tag": tag, "state_digest": "sha256:aa", "images_digest": asked.2["images_digest"]}))
}

fn input() -> BeatInput {
    let image = |n| satellite_core::fleet::CachedImage {
        reference: format!("127.0.0.1:8585/edge/app-{n}:v1@sha256:{}", "a".repeat(64)),
        size_bytes: 1,
    };
    BeatInput { images: Arc::new(Inventory::new((0..50).map(image).collect())), ..BeatInput::default() }
}

#[test]
fn the_answer_is_whole_though_little_is_said() {
    let world = World::new(ours);
    let first = world.beat(&input()).unwrap();
    assert!(first.news && first.answer.as_ref().unwrap().state_digest == "sha256:aa");
    let whole = world.bytes.swap(0, Ordering::Relaxed);
    let second = world.beat(&input()).unwrap();
    assert_eq!((second.answer, second.news), (first.answer, false));
    let idle = world.bytes.swap(0, Ordering::Relaxed);
    assert!(whole > 5000 && idle < 700, "{whole} and {idle} bytes");
    let (_, _, said) = world.last();
    let keys: Vec<_> = said.as_object().unwrap().keys().map(String::as_str).collect();
    let all = [
        "cpu_percent",
        "image_count",
        "memory_used_bytes",
        "request_created_time",
        "storage_used_bytes",
        "unchanged",
    ];
    assert!(keys.iter().all(|k| all.contains(k)), "{keys:?}");
}

#[test]
fn an_idle_day_is_2880_requests_of_a_few_hundred_bytes() {
    let world = World::new(ours);
    world.beat(&input()).unwrap();
    world.bytes.store(0, Ordering::Relaxed);
    // One beat on a real socket, as often as the schedule has it.
    world.beat(&input()).unwrap();
    let one = world.bytes.load(Ordering::Relaxed);
    let ticks = FakeTicks::at("2026-11-25T12:00:00Z".parse().unwrap());
    let clock = Arc::new(Clock::open(world._dir.path(), ticks.clone()));
    let job = Job::new("heartbeat", input().schedule, Options::default(), clock);
    let count = std::rc::Rc::new(std::cell::Cell::new(0u64));
    let counted = std::rc::Rc::clone(&count);
    let executor = LocalExecutor::new();
    let run = executor.spawn(job.run(async move || {
        counted.set(counted.get() + 1);
        Ok(())
    }));
    ticks.run(&executor, Duration::from_secs(86_399));
    drop(run);
    assert_eq!(count.get(), 2880);
    let month = one * count.get() * 30;
    assert!(month < 60_000_000, "{one} bytes a beat, {month} a month");
    // Within 10 MB at a period of three minutes.
    assert!(month / 6 <= 10_000_000, "{one} bytes a beat");
}

#[test]
fn the_references_ground_control_says_nothing_and_is_told_all_each_time() {
    let world = World::new(|_| (200, Value::Null));
    for _ in 0..2 {
        assert_eq!(world.beat(&input()).unwrap(), Answered::default());
        let said = world.last().2;
        assert_eq!((&said["name"], said["cached_images"].as_array().unwrap().len()), (&json!("gate"), 50));
        // As recorded: these fields, of these types.
        for field in
            ["name", "activity", "state_report_interval", "latest_state_digest", "latest_config_digest"]
        {
            assert!(said[field].is_string(), "{field}");
        }
        for field in ["memory_used_bytes", "storage_used_bytes", "last_sync_duration_ms", "image_count"] {
            assert!(said[field].is_u64(), "{field}");
        }
        assert!(said["cpu_percent"].is_f64());
    }
}

#[test]
fn events_are_sent_again_until_an_answer_came() {
    let mut up = false;
    let world = World::new(move |asked| {
        up = !up;
        if up { (503, json!({"message": "busy"})) } else { ours(asked) }
    });
    world.events.push("edge/app:v1", EventKind::Started);
    assert_eq!(world.beat(&input()).unwrap_err().cause, Cause::CENTER_FAILED);
    let first = world.last().2["events"].clone();
    world.events.push("edge/app:v1", EventKind::Failed(Cause::DISK_BLOCKED));
    world.beat(&input()).unwrap();
    let second = world.last().2["events"].clone();
    assert_eq!((first[0].clone(), second.as_array().unwrap().len()), (second[0].clone(), 2));
    assert_eq!(second[1]["cause"], "disk.blocked");
    let _ = world.beat(&input());
    assert!(world.last().2.get("events").is_none());
}

#[test]
fn a_refused_account_is_replaced_by_the_device_key_and_the_report_sent_again() {
    let world = World::new(|asked| match asked.0.as_str() {
        "/satellites/enroll/challenge" => (200, json!({"nonce": "n"})),
        "/satellites/enroll" => (200, serde_json::to_value(account("two")).unwrap()),
        // robot$gate:two
        _ if asked.1.ends_with("cm9ib3QkZ2F0ZTp0d28=") => ours(asked),
        _ => (401, json!({"message": "Invalid credentials", "code": 401})),
    });
    let answered = world.beat(&input()).unwrap();
    assert!(answered.renewed && answered.answer.is_some());
    assert_eq!(world.asked.lock().unwrap().len(), 4);
    assert!(!world.beat(&input()).unwrap().renewed);
}

#[test]
fn where_there_is_no_way_back_the_account_stays_and_is_tried_seldom() {
    for (status, cause) in [(404, Cause::ACCOUNT_REFUSED), (403, Cause::ACCOUNT_REVOKED)] {
        let world = World::new(move |asked| {
            let other = asked.0 != "/satellites/sync";
            (if other { status } else { 401 }, json!({"message": "no", "code": 401}))
        });
        let trouble = world.beat(&input()).unwrap_err();
        assert_eq!((trouble.cause, trouble.retry_after), (cause, Some(REFUSED)));
        assert_eq!(world.reporter.identity.account().unwrap(), account("one"));
    }
    let world = World::new(|_| (404, Value::Null));
    let trouble = world.beat(&input()).unwrap_err();
    assert_eq!((trouble.cause, trouble.retry_after), (Cause::CENTER_REFUSED, Some(REFUSED)));
}

#[test]
fn a_secret_is_renewed_when_asked_and_a_failing_renewal_is_not_repeated_at_once() {
    let mut down = true;
    let world = World::new(move |asked| match asked.0.as_str() {
        "/satellites/credentials" if down => {
            down = false;
            (500, json!({"message": "harbor is away"}))
        }
        "/satellites/credentials" => (200, serde_json::to_value(account("two")).unwrap()),
        _ => (200, json!({"tag": "t", "actions": ["dance", "refresh_credentials"]})),
    });
    let first = world.beat(&input()).unwrap();
    assert_eq!(first.renewal.unwrap().cause, Cause::CENTER_FAILED);
    assert!(!world.beat(&input()).unwrap().renewed);
    assert_eq!(world.asked.lock().unwrap().len(), 3);
    // Later.
    world.reporter.state().renewal_failed = world.clock.monotonic().checked_sub(RENEWAL);
    assert!(world.beat(&input()).unwrap().renewed);
    assert_eq!(world.reporter.identity.account().unwrap(), account("two"));
}
