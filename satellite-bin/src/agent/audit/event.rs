//! What happened.

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};

use crate::agent::cause::Trouble;

/// Longest text of a field, in bytes.
const MAX_TEXT: usize = 512;

/// Something that was done or refused, in the reference's form. Nothing secret is in it.
#[derive(Clone, Debug)]
pub struct Event {
    resource_type: &'static str,
    operation: &'static str,
    failed: bool,
    fields: Map<String, Value>,
}

impl Event {
    fn new(resource_type: &'static str, operation: &'static str) -> Self {
        Self { resource_type, operation, failed: false, fields: Map::new() }.by("satellite", "system")
    }

    fn failed(mut self, reason: &str) -> Self {
        self.failed = true;
        self.with("reason", reason)
    }

    fn with(mut self, name: &str, text: &str) -> Self {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end > 0 {
            self.fields.insert(name.into(), text[..end].into());
        }
        self
    }

    fn details(mut self, details: Value) -> Self {
        self.fields.insert("details".into(), details);
        self
    }

    /// Who did it, if not the satellite itself: `user`, `robot`, `anonymous`.
    #[must_use]
    pub fn by(self, actor: &str, kind: &str) -> Self {
        self.with("actor", actor).with("actor_type", kind)
    }

    /// From which address it was asked for.
    #[must_use]
    pub fn from(self, address: &str) -> Self {
        self.with("source_ip", address)
    }

    /// The satellite is registered. `flow`: `ztr`, `spiffe_ztr`, `device_key`.
    pub fn registered(flow: &str, ground_control: &str) -> Self {
        let details = json!({"flow": flow, "ground_control_url": ground_control});
        Self::new("satellite", "register").by_satellite().details(details)
    }

    /// It is not, and why.
    pub fn not_registered(flow: &str, ground_control: &str, why: &Trouble) -> Self {
        let details = json!({"flow": flow, "ground_control_url": ground_control, "error": why.message,
            "cause": why.cause.as_str()});
        let reason = match why.cause {
            crate::agent::cause::Cause::ACCOUNT_INCOMPLETE => "invalid_state_auth_config",
            _ => "registration_failed",
        };
        Self::new("satellite", "register").by_satellite().failed(reason).details(details)
    }

    fn by_satellite(mut self) -> Self {
        self.fields.remove("actor");
        self.with("actor_type", "satellite")
    }

    /// It has a new secret.
    pub fn renewed() -> Self {
        Self::new("robot", "update").by_satellite().details(json!({"what": "secret"}))
    }

    /// Another configuration holds. `source`: `remote`, `file`.
    pub fn configured(source: &str, changed: &[&str]) -> Self {
        Self::new("config", "update").details(json!({"changed_keys": changed, "source": source}))
    }

    /// A configuration was not taken, or was taken back.
    pub fn not_configured(source: &str, why: &Trouble) -> Self {
        let details = json!({"source": source, "error": why.message});
        Self::new("config", "update").failed(why.cause.as_str()).details(details)
    }

    /// An image is here: replicated, or pushed by somebody.
    pub fn image_added(image: &str) -> Self {
        Self::new("image", "create").with("resource", image)
    }

    /// An image is not here any more.
    pub fn image_removed(image: &str) -> Self {
        Self::new("image", "delete").with("resource", image)
    }

    /// A runtime's files point at the satellite from now on.
    pub fn mirror_applied(runtime: &str, files: &[String]) -> Self {
        Self::new("runtime", "update").with("resource", runtime).details(json!({"files": files}))
    }

    /// They do no more.
    pub fn mirror_reverted(runtime: &str, files: &[String]) -> Self {
        Self::new("runtime", "delete").with("resource", runtime).details(json!({"files": files}))
    }

    /// They could not be changed.
    pub fn mirror_failed(runtime: &str, why: &Trouble) -> Self {
        let event = Self::new("runtime", "update").with("resource", runtime);
        event.failed(why.cause.as_str()).details(json!({"error": why.message}))
    }

    pub(super) fn lost(count: u64) -> Self {
        Self::new("audit", "write").failed("overflow").details(json!({"lost": count}))
    }

    /// Under which name a failure is the same as one before.
    pub(super) fn repeats(&self) -> Option<String> {
        let text = |name: &str| self.fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let key =
            || format!("{}.{} {} {}", self.resource_type, self.operation, text("reason"), text("resource"));
        self.failed.then(key)
    }

    /// The line of JSON.
    pub(super) fn line(mut self, at: Timestamp, satellite: &str) -> String {
        let outcome = if self.failed { "failure" } else { "success" };
        let kind = format!("{}.{}.{outcome}", self.resource_type, self.operation);
        for (name, value) in [
            ("event_id", uuid().as_str()),
            ("timestamp", &format!("{at:.6}")),
            ("severity", if self.failed { "warning" } else { "info" }),
            ("component", "satellite"),
            ("event_type", &kind),
            ("operation", self.operation),
            ("resource_type", self.resource_type),
            ("outcome", outcome),
        ] {
            self.fields.insert(name.into(), value.into());
        }
        self.with("satellite_id", satellite).json()
    }

    fn json(self) -> String {
        Value::Object(self.fields).to_string()
    }
}

/// A random one (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes = [0u8; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let n = u128::from_be_bytes(bytes);
    let part = |shift: u32, bits: u32| (n >> shift) & ((1 << bits) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 32),
        part(80, 16),
        part(64, 16),
        part(48, 16),
        part(0, 48)
    )
}
