#![allow(clippy::unwrap_used)]
use std::{
    io::Read,
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
};

use serde_json::Value;
use smol::future;

use super::{
    super::{
        schedule::testing::FakeTicks,
        settings::{AuditTarget, Syslog},
    },
    *,
};

struct World {
    audit: Audit,
    ticks: Arc<FakeTicks>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ticks = FakeTicks::at("2026-11-25T12:00:00Z".parse().unwrap());
        let clock = Arc::new(Clock::open(dir.path(), ticks.clone()));
        Self { audit: Audit::new(clock), ticks, dir }
    }

    fn flush(&self) {
        future::block_on(self.audit.flush());
    }

    fn lines(&self) -> Vec<Value> {
        self.flush();
        let text = std::fs::read_to_string(self.dir.path().join("log/audit.log")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

fn to(target: AuditTarget) -> settings::Audit {
    settings::Audit { enabled: true, syslog: Some(Syslog { target, tag: "harbor audit".into() }), otel: None }
}

fn file(dir: &Path, max_size: u64, compress: bool) -> settings::Audit {
    let path = dir.join("log/audit.log");
    to(AuditTarget::File { path, max_size, max_backups: 2, max_age_days: 30, compress })
}

#[test]
fn lines_have_the_references_fields() {
    let world = World::new();
    world.audit.record(Event::renewed());
    world.audit.configure(&file(world.dir.path(), 1 << 20, true)).unwrap();
    world.audit.satellite("gate");
    world.audit.record(Event::registered("ztr", "https://gc.example"));
    let trouble = Trouble::new(Cause::CONFIG_REFUSED, "app_config.log_level: must be one of …");
    world.audit.record(Event::not_configured("remote", &trouble));
    world.audit.record(Event::image_removed("edge/app:v1").by("ops", "user").from("192.0.2.1"));
    let lines = world.lines();
    assert_eq!(lines.len(), 3, "what was before it was on is not written");
    for line in &lines {
        for field in [
            "event_id",
            "timestamp",
            "severity",
            "component",
            "event_type",
            "operation",
            "resource_type",
            "outcome",
        ] {
            assert!(line[field].as_str().is_some_and(|t| !t.is_empty()), "{field}");
        }
        assert_eq!((&line["component"], &line["satellite_id"]), (&"satellite".into(), &"gate".into()));
    }
    let kinds: Vec<_> = lines.iter().map(|l| l["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["satellite.register.success", "config.update.failure", "image.delete.success"]);
    assert_eq!((&lines[1]["reason"], &lines[1]["severity"]), (&"config.refused".into(), &"warning".into()));
    assert_eq!(lines[2]["source_ip"], "192.0.2.1");
    assert!(lines[0].get("actor").is_none() && lines[0]["details"]["flow"] == "ztr");
    let path = world.dir.path().join("log/audit.log");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_same_failure_is_told_once_in_a_while() {
    let world = World::new();
    world.audit.configure(&file(world.dir.path(), 1 << 20, true)).unwrap();
    let trouble = Trouble::new(Cause::TOKEN_USED, "no");
    for _ in 0..3 {
        (0..100).for_each(|_| world.audit.record(Event::not_registered("ztr", "u", &trouble)));
        world.ticks.pass(QUIET);
    }
    assert_eq!(world.lines().len(), 3);
}

#[test]
fn what_overflows_is_counted() {
    let world = World::new();
    world.audit.configure(&file(world.dir.path(), 1 << 20, true)).unwrap();
    (0..MAX_QUEUE + 7).for_each(|_| world.audit.record(Event::image_added("a/b:c")));
    let lines = world.lines();
    assert_eq!(lines.len(), MAX_QUEUE + 1);
    assert_eq!(lines[MAX_QUEUE]["details"]["lost"], 7);
}

#[test]
fn full_files_are_set_aside_compressed_and_removed() {
    let world = World::new();
    for compress in [true, false] {
        world.audit.configure(&file(world.dir.path(), 1000, compress)).unwrap();
        for _ in 0..20 {
            world.audit.record(Event::image_added("a/b:c"));
            world.flush();
        }
    }
    world.flush();
    let names: Vec<_> = std::fs::read_dir(world.dir.path().join("log"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let total: u64 =
        names.iter().map(|n| std::fs::metadata(world.dir.path().join("log").join(n)).unwrap().len()).sum();
    assert!(total <= 3000, "{total} bytes");
    assert!(names.iter().all(|n| n.starts_with("audit") && n.contains(".log")), "{names:?}");
}

#[test]
fn syslog_gets_rfc_5424_by_socket_udp_and_tcp() {
    let world = World::new();
    let path = world.dir.path().join("dev-log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let wait = Some(Duration::from_secs(20));
    socket.set_read_timeout(wait).unwrap();
    udp.set_read_timeout(wait).unwrap();
    let address = |a: std::net::SocketAddr| a.to_string();
    let network = |tcp, address| to(AuditTarget::Network { tcp, address });
    let mut buffer = [0u8; 2000];
    for n in 0..3 {
        let settings = match n {
            0 => to(AuditTarget::Daemon { socket: path.clone() }),
            1 => network(false, address(udp.local_addr().unwrap())),
            _ => network(true, address(tcp.local_addr().unwrap())),
        };
        world.audit.configure(&settings).unwrap();
        world.audit.record(Event::renewed());
        world.flush();
        let length = match n {
            0 => socket.recv(&mut buffer).unwrap(),
            1 => udp.recv(&mut buffer).unwrap(),
            _ => {
                let mut stream = tcp.accept().unwrap().0;
                stream.set_read_timeout(wait).unwrap();
                stream.read(&mut buffer).unwrap()
            }
        };
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("<134>1 2026-11-25T12:00:00.000000Z ") && text.ends_with("}\n"), "{text}");
        let words: Vec<_> = text.splitn(8, ' ').collect();
        assert_eq!((words[3], words[5], words[6]), ("harboraudit", "-", "-"));
        assert_eq!(serde_json::from_str::<Value>(words[7]).unwrap()["event_type"], "robot.update.success");
    }
    // The daemon is started again.
    world.audit.configure(&to(AuditTarget::Daemon { socket: path.clone() })).unwrap();
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(wait).unwrap();
    world.audit.record(Event::renewed());
    world.flush();
    assert!(socket.recv(&mut buffer).unwrap() > 100);
}

#[test]
fn what_cannot_be_written_is_refused_and_the_old_one_stays() {
    let world = World::new();
    world.audit.configure(&file(world.dir.path(), 1 << 20, true)).unwrap();
    let absent = to(AuditTarget::Daemon { socket: world.dir.path().join("absent") });
    let none = settings::Audit { enabled: true, syslog: None, otel: Some("http://otel".into()) };
    for wrong in [absent, none] {
        assert_eq!(world.audit.configure(&wrong).unwrap_err().cause, Cause::AUDIT_FAILED);
    }
    world.audit.record(Event::renewed());
    assert_eq!(world.lines().len(), 1);
    world.audit.configure(&settings::Audit { enabled: false, syslog: None, otel: None }).unwrap();
    world.audit.record(Event::renewed());
    assert_eq!(world.lines().len(), 1);
}

#[test]
fn the_writer_writes_by_itself() {
    let world = World::new();
    world.audit.configure(&file(world.dir.path(), 1 << 20, true)).unwrap();
    let audit = world.audit.clone();
    let task = smol::spawn(async move { audit.run().await });
    world.audit.record(Event::renewed());
    let path = world.dir.path().join("log/audit.log");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while std::fs::metadata(&path).unwrap().len() == 0 {
        assert!(std::time::Instant::now() < end, "nothing was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(task);
}
