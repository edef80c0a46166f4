//! What the reference has not: the object `app_config.satellite`. Here an unknown field is an error: it is ours alone.

use std::time::Duration;

use satellite_core::{
    oci::{Platform, PlatformSet},
    proxy, registry,
};
use serde_json::{Map, Value};

use super::window::Window;
use crate::human;

/// Where it is in a configuration.
pub(super) const PATH: &str = "app_config.satellite";
/// Longest list.
const MAX_LIST: usize = 1000;
/// Most blobs at once.
const MAX_CONCURRENCY: u64 = 64;

/// The satellite's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Most bytes a second from upstream.
    pub limit_rate: Option<u64>,
    /// Most bytes of content; `None`: what the disk has.
    pub capacity: Option<u64>,
    /// What is fetched for clients.
    pub pull_through: PullThrough,
    /// Under which of the registry's names an image is that clients ask for by its origin; without contradiction.
    pub names: Vec<registry::Rule>,
    /// For which machines images are replicated.
    pub platforms: PlatformSet,
    /// Blobs fetched at once.
    pub concurrency: usize,
    /// Whether signatures, SBOMs and what else is about an image come with it.
    pub referrers: bool,
    /// When replication may run; empty: always.
    pub windows: Vec<Window>,
    /// The scrub.
    pub scrub: Scrub,
    /// Longest time from a heartbeat to the next, where nothing happens; `heartbeat_interval` if that is longer.
    pub idle_heartbeat: Duration,
}

/// What is fetched for clients that ask for it.
#[derive(Clone, Debug, PartialEq)]
pub struct PullThrough {
    /// What is allowed; nothing without rules.
    pub rules: Vec<proxy::Rule>,
    /// Whose repositories are meant by clients that name no host.
    pub default_upstream: Option<String>,
    /// A tag is looked up anew when it was last looked up longer ago.
    pub revalidate: Duration,
}

/// How everything is read again in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Bytes a second, at most; 0: never.
    pub rate: u64,
    /// From the end of one pass to the beginning of the next.
    pub interval: Duration,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            limit_rate: None,
            capacity: None,
            pull_through: PullThrough {
                rules: Vec::new(),
                default_upstream: None,
                revalidate: Duration::from_secs(300),
            },
            names: Vec::new(),
            platforms: PlatformSet::Some(vec![Platform::host()]),
            concurrency: 4,
            referrers: true,
            windows: Vec::new(),
            scrub: Scrub { rate: 2_000_000, interval: Duration::from_secs(7 * 86_400) },
            idle_heartbeat: Duration::from_secs(900),
        }
    }
}

/// A problem: the field, from the top, and what is expected there.
type Wrong = (String, String);

/// An object, and the fields that were asked for.
struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    wrong: Vec<Wrong>,
}

impl<'a> Fields<'a> {
    fn of(path: &str, value: &'a Value, known: &[&str]) -> Result<Self, Vec<Wrong>> {
        let map = value.as_object().ok_or_else(|| vec![(path.to_string(), "must be an object".into())])?;
        let unknown = map.keys().filter(|name| !known.contains(&name.as_str()));
        let wrong = unknown.map(|name| {
            let shown: String = name.chars().take(60).collect();
            (format!("{path}.{shown}"), format!("there is no such field: {}", suggestion(name, known)))
        });
        Ok(Self { path: path.into(), wrong: wrong.collect(), map })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn add(&mut self, name: &str, problem: impl Into<String>) {
        self.wrong.push((format!("{}.{name}", self.path), problem.into()));
    }

    /// Reads a field into `into`, if it is there.
    fn read<T>(&mut self, name: &str, into: &mut T, reads: impl FnOnce(&'a Value) -> Result<T, String>) {
        match self.get(name).map(reads) {
            Some(Ok(value)) => *into = value,
            Some(Err(problem)) => self.add(name, problem),
            None => {}
        }
    }

    fn object<T>(
        &mut self,
        name: &str,
        into: &mut T,
        reads: impl FnOnce(&str, &'a Value, &mut T) -> Vec<Wrong>,
    ) {
        if let Some(value) = self.get(name) {
            self.wrong.extend(reads(&format!("{}.{name}", self.path), value, into));
        }
    }

    fn list<T>(&mut self, name: &str, into: &mut Vec<T>, reads: impl Fn(&str) -> Result<T, String>) {
        let Some(value) = self.get(name) else { return };
        let Some(items) = value.as_array().filter(|l| l.len() <= MAX_LIST) else {
            return self.add(name, format!("must be a list of texts, {MAX_LIST} at most"));
        };
        into.clear();
        for (i, item) in items.iter().enumerate() {
            match item.as_str().ok_or_else(|| "must be a text".to_string()).and_then(&reads) {
                Ok(item) => into.push(item),
                Err(problem) => self.add(&format!("{name}[{i}]"), problem),
            }
        }
    }
}

/// `did you mean limit_rate?`, or what there is.
fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::jaro_winkler(name, k), *k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((alike, k)) if alike > 0.8 => format!("did you mean {k}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a text".into())
}

/// A number of bytes, or a text as `2MiB`.
fn bytes(value: &Value, reads: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
    match value {
        Value::Number(n) => n.as_u64().filter(|n| *n <= 1 << 60).ok_or_else(|| "must be whole bytes".into()),
        Value::String(text) => reads(text),
        _ => Err("must be a number of bytes, or a text as \"2MiB\"".into()),
    }
}

fn duration(value: &Value) -> Result<Duration, String> {
    human::parse_duration(text(value)?)
}

fn positive(n: u64) -> Result<u64, String> {
    if n > 0 { Ok(n) } else { Err("must be more than 0; leave it out for no limit".into()) }
}

impl Edge {
    /// Reads the object; all that is wrong with it.
    ///
    /// # Errors
    /// Each with its field.
    pub(super) fn read(value: &Value) -> Result<Self, Vec<Wrong>> {
        let mut edge = Self::default();
        let known = [
            "limit_rate",
            "capacity",
            "pull_through",
            "names",
            "platforms",
            "concurrency",
            "referrers",
            "windows",
            "scrub",
            "idle_heartbeat",
        ];
        let mut fields = Fields::of(PATH, value, &known)?;
        fields.read("limit_rate", &mut edge.limit_rate, |v| {
            bytes(v, human::parse_rate).and_then(positive).map(Some)
        });
        fields.read("capacity", &mut edge.capacity, |v| {
            bytes(v, human::parse_size).and_then(positive).map(Some)
        });
        fields.object("pull_through", &mut edge.pull_through, pull_through);
        fields.list("names", &mut edge.names, |t| t.parse().map_err(|e: registry::NamesError| e.to_string()));
        if let Err(e) = registry::Names::new(edge.names.iter().cloned()) {
            fields.add("names", e.to_string());
        }
        fields.read("platforms", &mut edge.platforms, platforms);
        fields.read("concurrency", &mut edge.concurrency, |v| {
            let n = v.as_u64().filter(|n| (1..=MAX_CONCURRENCY).contains(n));
            n.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| format!("must be 1 to {MAX_CONCURRENCY}"))
        });
        fields.read("referrers", &mut edge.referrers, |v| {
            v.as_bool().ok_or_else(|| "must be true or false".into())
        });
        windows(&mut fields, &mut edge.windows);
        fields.object("scrub", &mut edge.scrub, scrub);
        fields.read("idle_heartbeat", &mut edge.idle_heartbeat, duration);
        if fields.wrong.is_empty() { Ok(edge) } else { Err(fields.wrong) }
    }
}

fn pull_through(path: &str, value: &Value, into: &mut PullThrough) -> Vec<Wrong> {
    let mut fields = match Fields::of(path, value, &["rules", "default_upstream", "revalidate"]) {
        Ok(fields) => fields,
        Err(wrong) => return wrong,
    };
    fields.list("rules", &mut into.rules, |t| t.parse().map_err(|e: proxy::RuleError| e.to_string()));
    fields.read("default_upstream", &mut into.default_upstream, |v| Ok(Some(text(v)?.to_string())));
    fields.read("revalidate", &mut into.revalidate, duration);
    if fields.wrong.is_empty()
        && let Err(e) = proxy::Policy::new(into.rules.clone(), into.default_upstream.as_deref())
    {
        fields.add("default_upstream", e.to_string());
    }
    fields.wrong
}

fn scrub(path: &str, value: &Value, into: &mut Scrub) -> Vec<Wrong> {
    let mut fields = match Fields::of(path, value, &["rate", "interval"]) {
        Ok(fields) => fields,
        Err(wrong) => return wrong,
    };
    fields.read("rate", &mut into.rate, |v| {
        bytes(v, |t| if t.trim() == "0" { Ok(0) } else { human::parse_rate(t) })
    });
    fields.read("interval", &mut into.interval, duration);
    fields.wrong
}

/// `"all"`, or a list of `OS/ARCH[/VARIANT]`.
fn platforms(value: &Value) -> Result<PlatformSet, String> {
    let wrong = || "must be \"all\", or a list as [\"linux/arm64\"]".to_string();
    if value.as_str() == Some("all") {
        return Ok(PlatformSet::All);
    }
    let items = value.as_array().filter(|l| !l.is_empty() && l.len() <= 50).ok_or_else(wrong)?;
    let parsed =
        items.iter().map(|item| item.as_str().ok_or_else(wrong)?.parse().map_err(|e| format!("{e}")));
    parsed.collect::<Result<_, String>>().map(PlatformSet::Some)
}

fn windows(fields: &mut Fields<'_>, into: &mut Vec<Window>) {
    let Some(value) = fields.get("windows") else { return };
    let Some(items) = value.as_array().filter(|l| l.len() <= 50) else {
        return fields.add("windows", "must be a list of 50 windows at most");
    };
    for (i, item) in items.iter().enumerate() {
        let path = format!("{}.windows[{i}]", fields.path);
        match Fields::of(&path, item, &["days", "from", "to", "zone"]) {
            Ok(mut of) => {
                let mut window = Window::default();
                of.list("days", &mut window.days, Window::day);
                of.read("from", &mut window.from, |v| Window::time(text(v)?));
                of.read("to", &mut window.to, |v| Window::time(text(v)?));
                of.read("zone", &mut window.zone, |v| Window::zone(text(v)?).map(Some));
                for name in ["from", "to"] {
                    if of.get(name).is_none() {
                        of.add(name, "must be set, as in \"22:00\"");
                    }
                }
                if of.wrong.is_empty() {
                    into.push(window);
                }
                fields.wrong.append(&mut of.wrong);
            }
            Err(wrong) => fields.wrong.extend(wrong),
        }
    }
}
