//! What is said, and what is left out because Ground Control said that it knows it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use satellite_core::fleet::{CachedImage, LastError, Sync, SyncAnswer, SyncEvent, images_digest};

use super::machine::Measured;
use crate::agent::{cause::Trouble, schedule::Schedule, settings::Collect};

/// Bytes of a text that Ground Control keeps; to the reference's, more is an error for ever.
const MAX_TEXT: usize = 255;
/// Longest reference of an image that Ground Control takes.
const MAX_REFERENCE: usize = 512;
/// Most images that it takes.
const MAX_IMAGES: usize = 50_000;

/// The images that are here, and their digest. Made when they change, not for each heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    images: Vec<CachedImage>,
    digest: String,
}

impl Inventory {
    /// References as `127.0.0.1:8585/edge/app:v1@sha256:…`, each once. Those that Ground Control would refuse are left out.
    pub fn new(mut images: Vec<CachedImage>) -> Self {
        images.retain(|i| !i.reference.is_empty() && i.reference.len() <= MAX_REFERENCE);
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        images.dedup_by(|a, b| a.reference == b.reference);
        images.truncate(MAX_IMAGES);
        let digest = images_digest(images.iter().map(|i| i.reference.as_str()));
        Self { images, digest }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// What the other parts of the agent have to say.
#[derive(Clone, Debug)]
pub struct BeatInput {
    /// What it did or does, for people; empty most of the time, as the reference's.
    pub activity: String,
    /// When heartbeats are sent.
    pub schedule: Schedule,
    /// Manifest digest of the satellite state that runs; empty before there is one.
    pub state_digest: String,
    /// Manifest digest of the configuration that runs; empty where none was published.
    pub config_digest: String,
    /// Manifest digests of the group states that run, by the states' URLs.
    pub states: BTreeMap<String, String>,
    /// The images that are here.
    pub images: Arc<Inventory>,
    /// How long the last replication took; zero before the first.
    pub last_sync: Duration,
    /// What is wrong now.
    pub last_error: Option<Trouble>,
    /// What is measured.
    pub collect: Collect,
}

impl Default for BeatInput {
    fn default() -> Self {
        Self {
            activity: String::new(),
            schedule: Schedule::every(Duration::from_secs(30)),
            state_digest: String::new(),
            config_digest: String::new(),
            states: BTreeMap::new(),
            images: Arc::default(),
            last_sync: Duration::ZERO,
            last_error: None,
            collect: Collect { cpu: true, memory: true, storage: true },
        }
    }
}

/// What Ground Control knows of this satellite, by its last answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// What the heartbeat said that it answered.
    said: Said,
    /// In full.
    pub(super) answer: SyncAnswer,
}

/// What need not be said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    activity: String,
    interval: String,
    state: String,
    config: String,
    states: BTreeMap<String, String>,
}

impl Said {
    pub(super) fn of(input: &BeatInput) -> Self {
        Self {
            activity: cut(&input.activity),
            interval: input.schedule.period().map(|_| input.schedule.to_string()).unwrap_or_default(),
            state: input.state_digest.clone(),
            config: input.config_digest.clone(),
            states: input.states.clone(),
        }
    }
}

impl Known {
    /// After an answer to a heartbeat that said this. A brief answer stands for the one before it.
    pub(super) fn after(before: Option<&Self>, said: Said, answer: SyncAnswer, brief: bool) -> Self {
        let answer = match before.filter(|b| brief && !answer.tag.is_empty() && b.answer.tag == answer.tag) {
            Some(before) => SyncAnswer { actions: answer.actions, ..before.answer.clone() },
            None => answer,
        };
        Self { said, answer }
    }
}

/// The heartbeat: whole, but for what is known.
pub(super) fn body(
    name: String,
    at: Timestamp,
    input: &BeatInput,
    measured: Measured,
    events: Vec<SyncEvent>,
    known: Option<&Known>,
) -> Sync {
    let said = Said::of(input);
    let listed = known.is_some_and(|k| k.answer.images_digest == input.images.digest);
    let same = known.filter(|k| listed && k.said == said && !k.answer.tag.is_empty());
    let mut sync = Sync {
        memory_used_bytes: measured.memory_used_bytes,
        storage_used_bytes: measured.storage_used_bytes,
        cpu_percent: measured.cpu_percent,
        request_created_time: format!("{at:.0}"),
        last_sync_duration_ms: i64::try_from(input.last_sync.as_millis()).unwrap_or(i64::MAX),
        image_count: i64::try_from(input.images.len()).unwrap_or(i64::MAX),
        last_error: input
            .last_error
            .as_ref()
            .map(|t| LastError { cause: t.cause.to_string(), message: t.message.clone() }),
        events,
        ..Sync::default()
    };
    if let Some(same) = same {
        sync.unchanged.clone_from(&same.answer.tag);
        return sync;
    }
    sync.name = name;
    sync.activity = said.activity;
    sync.state_report_interval = said.interval;
    sync.latest_state_digest = said.state;
    sync.latest_config_digest = said.config;
    sync.states = said.states;
    sync.images_digest.clone_from(&input.images.digest);
    if !listed {
        sync.cached_images.clone_from(&input.images.images);
    }
    sync
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at() -> Timestamp {
        Timestamp::constant(1_795_608_000, 0)
    }

    fn input() -> BeatInput {
        let image = |r: &str| CachedImage { reference: r.into(), size_bytes: 123 };
        BeatInput {
            state_digest: "sha256:aa".into(),
            images: Arc::new(Inventory::new(vec![image("b:1@d"), image("a:1@d"), image("b:1@d"), image("")])),
            ..BeatInput::default()
        }
    }

    fn say(input: &BeatInput, known: Option<&Known>) -> Sync {
        let measured = Measured { cpu_percent: 12.5, memory_used_bytes: 1000, storage_used_bytes: 2000 };
        body("gate".into(), at(), input, measured, vec![], known)
    }

    fn answer(input: &BeatInput, tag: &str) -> SyncAnswer {
        let state_digest = "sha256:aa".into();
        SyncAnswer {
            tag: tag.into(),
            images_digest: input.images.digest.clone(),
            state_digest,
            ..Default::default()
        }
    }

    #[test]
    fn a_first_heartbeat_has_every_field_of_the_references() {
        let said = serde_json::to_value(say(&input(), None)).unwrap_or_default();
        let images =
            json!([{"reference": "a:1@d", "size_bytes": 123}, {"reference": "b:1@d", "size_bytes": 123}]);
        let fields = json!({
            "name": "gate", "activity": "", "state_report_interval": "@every 00h00m30s", "latest_state_digest": "sha256:aa",
            "latest_config_digest": "", "memory_used_bytes": 1000, "storage_used_bytes": 2000, "cpu_percent": 12.5,
            "request_created_time": "2026-11-25T12:00:00Z", "last_sync_duration_ms": 0, "image_count": 2,
            "cached_images": images, "images_digest": input().images.digest,
        });
        assert_eq!(said, fields);
        let cron = BeatInput { schedule: "0 3 * * *".parse().unwrap_or_else(|_| unreachable!()), ..input() };
        assert_eq!(say(&cron, None).state_report_interval, "", "Ground Control takes periods alone");
    }

    #[test]
    fn what_is_known_is_left_out_until_it_changes() {
        let input = input();
        let known = Some(Known::after(None, Said::of(&input), answer(&input, "t1"), false));
        let brief = say(&input, known.as_ref());
        assert_eq!((brief.unchanged.as_str(), brief.cached_images.len(), brief.image_count), ("t1", 0, 2));
        assert!(brief.state_report_interval.is_empty() && brief.latest_state_digest.is_empty());

        let moved = BeatInput { config_digest: "sha256:bb".into(), ..input.clone() };
        let full = say(&moved, known.as_ref());
        assert_eq!((full.unchanged.as_str(), full.cached_images.len()), ("", 0), "the list is known still");
        assert_eq!(full.latest_config_digest, "sha256:bb");
        let grown = BeatInput { images: Arc::new(Inventory::new(vec![])), ..input.clone() };
        assert!(say(&grown, known.as_ref()).unchanged.is_empty());

        // The server was put back to a backup: it knows another list.
        let other = SyncAnswer { images_digest: "other".into(), ..answer(&input, "t2") };
        let known = Known::after(known.as_ref(), Said::of(&input), other, true);
        assert_eq!(say(&input, Some(&known)).cached_images.len(), 2);
    }

    #[test]
    fn a_brief_answer_stands_for_the_one_before() {
        let input = input();
        let first = Known::after(None, Said::of(&input), answer(&input, "t1"), false);
        let actions = vec!["refresh_credentials".to_string()];
        let brief = SyncAnswer { tag: "t1".into(), actions: actions.clone(), ..Default::default() };
        let full = Known::after(Some(&first), Said::of(&input), brief, true).answer;
        assert_eq!((full.state_digest.as_str(), full.actions), ("sha256:aa", actions));
    }

    #[test]
    fn long_texts_are_cut_where_the_reference_would_refuse_them_for_ever() {
        let long = BeatInput { activity: "ü".repeat(300), ..input() };
        assert_eq!(say(&long, None).activity.len(), 254);
        let trouble = Trouble::new(crate::agent::cause::Cause::DISK_BLOCKED, "x".repeat(1000));
        let sick = BeatInput { last_error: Some(trouble), ..input() };
        let said = serde_json::to_value(say(&sick, None)).unwrap_or(Value::Null);
        assert_eq!(said["last_error"]["cause"], "disk.blocked");
    }
}
