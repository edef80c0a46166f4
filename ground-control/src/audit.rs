//! The audit log: who did what, in the database, and where configured in a file or at a syslog daemon.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    net::{TcpStream, UdpSocket},
    os::unix::{fs::OpenOptionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    auth::uuid,
    db::{Conn, Result, audit, now},
    http::{Origin, time},
    settings::AuditSettings,
};

/// Failures of one satellite that are written down at most once in this time: a revoked fleet goes on calling.
const QUIET: Duration = Duration::from_secs(600);
const MAX_QUIET: usize = 10_000;
/// Facility local0.
const FACILITY: u8 = 16 << 3;
/// Keys whose values are never shown.
const HIDDEN: [&str; 9] =
    ["password", "passwd", "secret", "token", "credential", "apikey", "api_key", "access_key", "private_key"];

/// What happened.
#[derive(Clone, Debug)]
pub struct Event {
    resource_type: &'static str,
    operation: &'static str,
    failed: bool,
    fields: Map<String, Value>,
}

impl Event {
    /// It was done.
    pub fn done(resource_type: &'static str, operation: &'static str, origin: &Origin) -> Self {
        let mut event = Self { resource_type, operation, failed: false, fields: Map::new() };
        event.set("source_ip", &origin.address);
        event.set("user_agent", &origin.user_agent);
        event.set("request_id", &origin.request_id);
        event
    }

    /// It was refused, for this reason.
    pub fn failed(
        resource_type: &'static str,
        operation: &'static str,
        origin: &Origin,
        reason: &'static str,
    ) -> Self {
        let mut event = Self { failed: true, ..Self::done(resource_type, operation, origin) };
        event.set("reason", reason);
        event
    }

    /// Somebody who says to be a satellite was not believed.
    pub fn failed_auth(origin: &Origin, login: &str, reason: &'static str) -> Self {
        let actor = if login.is_empty() { "anonymous" } else { "robot" };
        let login: String = login.chars().take(255).collect();
        Self::failed("satellite", "auth", origin, reason).by(&login, actor)
    }

    /// Who did it, and what that is: `user`, `robot`, `satellite`, `anonymous`, `system`.
    #[must_use]
    pub fn by(mut self, actor: &str, kind: &'static str) -> Self {
        self.set("actor", actor);
        self.set("actor_type", kind);
        self
    }

    /// To what.
    #[must_use]
    pub fn on(mut self, resource: &str) -> Self {
        self.set("resource", resource);
        self
    }

    /// To or by which satellite.
    #[must_use]
    pub fn satellite(mut self, name: &str) -> Self {
        self.set("satellite_id", name);
        if !self.fields.contains_key("resource") {
            self.set("resource", name);
        }
        self
    }

    /// With these details; values of secrets are hidden.
    #[must_use]
    pub fn details(mut self, mut details: Value) -> Self {
        hide(&mut details);
        self.fields.insert("details".into(), details);
        self
    }

    fn set(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.fields.insert(name.into(), value.into());
        }
    }

    fn row(mut self) -> audit::Event {
        let outcome = if self.failed { "failure" } else { "success" };
        let event_type = format!("{}.{}.{outcome}", self.resource_type, self.operation);
        let event_id = uuid();
        for (name, value) in [
            ("event_id", event_id.as_str()),
            ("timestamp", &time(now())),
            ("component", "ground-control"),
            ("event_type", &event_type),
            ("operation", self.operation),
            ("resource_type", self.resource_type),
            ("outcome", outcome),
            ("severity", if self.failed { "warning" } else { "info" }),
        ] {
            self.fields.insert(name.into(), value.into());
        }
        let text = |name: &str| self.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        audit::Event {
            event_id,
            event_type,
            resource_type: self.resource_type.into(),
            operation: self.operation.into(),
            outcome: outcome.into(),
            actor: text("actor"),
            resource: text("resource"),
            event: Value::Object(self.fields),
        }
    }
}

/// Replaces the values of keys that sound like secrets.
pub fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_lowercase();
                if HIDDEN.iter().any(|h| key.contains(h)) && !value.is_object() && !value.is_array() {
                    *value = "[REDACTED]".into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Paths whose values differ: `{"app_config.log_level": {"from":…,"to":…}}`, secrets hidden.
pub fn changes(from: &Value, to: &Value) -> Value {
    fn walk(path: &str, from: &Value, to: &Value, found: &mut Map<String, Value>) {
        if let (Value::Object(a), Value::Object(b)) = (from, to) {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let side = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                walk(&path, &side(a), &side(b), found);
            }
        } else if from != to {
            let key = path.rsplit('.').next().unwrap_or_default().to_lowercase();
            let hidden = HIDDEN.iter().any(|h| key.contains(h));
            let shown = |v: &Value| if hidden && !v.is_null() { "[REDACTED]".into() } else { v.clone() };
            found.insert(path.into(), json!({"from": shown(from), "to": shown(to)}));
        }
    }
    let mut found = Map::new();
    walk("", from, to, &mut found);
    let mut found = Value::Object(found);
    hide(&mut found);
    found
}

/// Where events go.
pub struct Audit {
    sinks: Mutex<Vec<Sink>>,
    tag: String,
    quiet: Mutex<HashMap<String, Instant>>,
}

impl Audit {
    /// Opens what is configured.
    ///
    /// # Errors
    /// What cannot be opened: an audit log that is asked for and missing is worse than no server.
    pub fn open(settings: &AuditSettings) -> std::io::Result<Self> {
        let mut sinks = Vec::new();
        if let Some((path, size, keep)) = &settings.file {
            sinks.push(Sink::File(Rotated::open(path, *size, *keep)?));
        }
        if let Some(path) = &settings.socket {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            sinks.push(Sink::Daemon(socket));
        }
        if let Some((address, tcp)) = &settings.network {
            sinks.push(if *tcp {
                Sink::Tcp(address.clone(), Some(connect(address)?))
            } else {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(address)?;
                Sink::Udp(socket)
            });
        }
        Ok(Self { sinks: Mutex::new(sinks), tag: settings.tag.clone(), quiet: Mutex::default() })
    }

    /// Writes an event down, in the transaction of what it tells.
    pub async fn record(&self, c: &mut Conn, event: Event) -> Result<()> {
        let row = event.row();
        audit::insert(c, &row).await?;
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if !sinks.is_empty() {
            let line = row.event.to_string();
            let severity = if row.outcome == "failure" { 4 } else { 6 };
            for sink in sinks.iter_mut() {
                if let Err(e) = sink.write(&self.tag, severity, &line) {
                    log::error!("the audit log cannot be written: {e}");
                }
            }
        }
        Ok(())
    }

    /// Whether a failure of `who` is to be written down, or was just now.
    pub fn is_news(&self, who: &str) -> bool {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.len() >= MAX_QUIET {
            quiet.retain(|_, at| at.elapsed() < QUIET);
            if quiet.len() >= MAX_QUIET {
                return false;
            }
        }
        match quiet.get(who) {
            Some(at) if at.elapsed() < QUIET => false,
            _ => {
                quiet.insert(who.chars().take(255).collect(), Instant::now());
                true
            }
        }
    }
}

enum Sink {
    File(Rotated),
    Daemon(UnixDatagram),
    Udp(UdpSocket),
    Tcp(String, Option<TcpStream>),
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    use std::net::ToSocketAddrs;
    let wait = Duration::from_secs(2);
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, format!("{address}: no such address"));
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, wait) {
            Ok(stream) => {
                stream.set_write_timeout(Some(wait))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

impl Sink {
    /// RFC 5424 for syslog, the bare JSON for a file.
    fn write(&mut self, tag: &str, severity: u8, line: &str) -> std::io::Result<()> {
        let framed = || {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let pid = std::process::id();
            format!("<{}>1 {} {host} {tag} {pid} - - {line}\n", FACILITY + severity, time(now()))
        };
        match self {
            Self::File(file) => file.write(line),
            Self::Daemon(socket) => socket.send(framed().as_bytes()).map(drop),
            Self::Udp(socket) => socket.send(framed().as_bytes()).map(drop),
            Self::Tcp(address, stream) => {
                if stream.is_none() {
                    *stream = Some(connect(address)?);
                }
                let written = stream.as_mut().map_or(Ok(()), |s| s.write_all(framed().as_bytes()));
                if written.is_err() {
                    *stream = None;
                }
                written
            }
        }
    }
}

/// A file that is set aside when it is full.
struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
    keep: usize,
}

impl Rotated {
    fn open(path: &Path, most: u64, keep: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.into(), file, size, most, keep })
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.size > 0 && self.size + length > self.most {
            let old = |n: usize| PathBuf::from(format!("{}.{n}", self.path.display()));
            for n in (1..self.keep).rev() {
                let _ = std::fs::rename(old(n), old(n + 1));
            }
            if self.keep > 0 {
                std::fs::rename(&self.path, old(1))?;
            } else {
                std::fs::remove_file(&self.path)?;
            }
            *self = Self::open(&self.path, self.most, self.keep)?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn changes_are_told_by_path_and_secrets_are_not() {
        let from = json!({"a": {"b": 1, "password": "old", "same": true}, "l": [1]});
        let to = json!({"a": {"b": 2, "password": "new", "same": true}, "n": {"api_key": "k"}});
        let told = changes(&from, &to);
        assert_eq!(told["a.b"], json!({"from": 1, "to": 2}));
        assert_eq!(told["a.password"], json!({"from": "[REDACTED]", "to": "[REDACTED]"}));
        assert_eq!(told["n"]["to"]["api_key"], "[REDACTED]");
        assert!(!told.to_string().contains("new") && told.get("a.same").is_none());
    }

    #[test]
    fn an_event_has_the_references_fields_and_no_empty_ones() {
        let origin = Origin { address: "192.0.2.1".into(), ..Origin::default() };
        let row = Event::done("config", "update", &origin).by("ops", "user").on("c1").row();
        assert_eq!(row.event_type, "config.update.success");
        assert_eq!(row.event["severity"], "info");
        assert_eq!(row.event["resource"], "c1");
        assert!(row.event.get("user_agent").is_none());
    }

    #[test]
    fn a_full_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = Rotated::open(&path, 30, 2).unwrap();
        for n in 0..6 {
            file.write(&format!("line {n} of twenty bytes")).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!(read("audit.log"), "line 5 of twenty bytes\n");
        assert_eq!(read("audit.log.1"), "line 4 of twenty bytes\n");
        assert_eq!(read("audit.log.2"), "line 3 of twenty bytes\n");
        assert_eq!(read("audit.log.3"), "");
    }
}
