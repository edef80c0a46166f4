//! The heartbeat: `POST /satellites/sync`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::null_is_default;
use crate::oci::{Algorithm, Hasher};

/// Hexadecimal digits of the short digests here: 128 bits.
const SHORT: usize = 32;

/// What a satellite reports of itself. Who it is says its credential, not [`name`](Self::name).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sync {
    /// Its own idea of its name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// What it did or does, for people.
    #[serde(deserialize_with = "null_is_default")]
    pub activity: String,
    /// How often it reports: empty, or an [`Interval`](super::Interval).
    #[serde(deserialize_with = "null_is_default")]
    pub state_report_interval: String,
    /// Manifest digest of the satellite state it runs. The reference's satellite leaves it empty.
    #[serde(deserialize_with = "null_is_default")]
    pub latest_state_digest: String,
    /// Manifest digest of the configuration it runs. The reference's satellite leaves it empty.
    #[serde(deserialize_with = "null_is_default")]
    pub latest_config_digest: String,
    /// Manifest digests of the group states it runs, by the states' URLs. Not sent by the reference's satellite, not
    /// read by its Ground Control.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, String>,
    /// Of the machine.
    #[serde(deserialize_with = "null_is_default")]
    pub memory_used_bytes: u64,
    /// Of the file system.
    #[serde(deserialize_with = "null_is_default")]
    pub storage_used_bytes: u64,
    /// 0–100, of all cores. The reference's Ground Control answers 500 to 1,000 and more.
    #[serde(deserialize_with = "null_is_default")]
    pub cpu_percent: f64,
    /// RFC 3339; empty if it did not say.
    #[serde(deserialize_with = "null_is_default")]
    pub request_created_time: String,
    /// How long the last replication took.
    #[serde(deserialize_with = "null_is_default")]
    pub last_sync_duration_ms: i64,
    /// Images it holds.
    #[serde(deserialize_with = "null_is_default")]
    pub image_count: i64,
    /// Which these are: the whole list, or nothing where [`images_digest`](Self::images_digest) stands for it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cached_images: Vec<CachedImage>,
    /// [`images_digest`] of what it holds. With it the list itself may be left out where the last answer said that the
    /// server has the same. Ours alone, as are all fields from here on.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub images_digest: String,
    /// The [`tag`](SyncAnswer::tag) of the last answer: activity, interval, digests and images are as they were then, and
    /// left out here.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub unchanged: String,
    /// What is wrong now, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What happened since the last heartbeat that was answered, oldest first.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SyncEvent>,
}

/// What is wrong with a satellite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    /// A stable code: `state.unreadable`, `disk.blocked`.
    #[serde(deserialize_with = "null_is_default")]
    pub cause: String,
    /// For people.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A step of a replication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncEvent {
    /// Counts up from 1 since the satellite started: who sees a number again has seen the event.
    pub seq: u64,
    /// RFC 3339, by the satellite's clock.
    #[serde(deserialize_with = "null_is_default")]
    pub at: String,
    /// `started`, `progress`, `completed`, `failed`, `removed`.
    #[serde(deserialize_with = "null_is_default")]
    pub event: String,
    /// Which image, where it is about one: `edge/app:v1@sha256:…`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Bytes that are here, of `total`; both 0 where it is not about bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Bytes there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// A stable code, of a failure.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// One short text for a list of images: 32 hexadecimal digits over the references in byte order, each once. Sizes do not
/// count.
pub fn images_digest<'a>(references: impl IntoIterator<Item = &'a str>) -> String {
    let mut sorted: Vec<&str> = references.into_iter().filter(|r| !r.is_empty()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    short(sorted)
}

fn short<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finish().hex()[..SHORT].to_string()
}

/// An image that a satellite holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CachedImage {
    /// `127.0.0.1:8585/edge/app:v1@sha256:…`
    #[serde(deserialize_with = "null_is_default")]
    pub reference: String,
    /// Config and layers. Signed, because the reference takes what is sent.
    #[serde(deserialize_with = "null_is_default")]
    pub size_bytes: i64,
}

/// The answer to a heartbeat: what the satellite should run. Who runs it already asks the registry nothing. The
/// reference answers with an empty body, which says nothing, and its satellite reads none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncAnswer {
    /// Manifest digest of the satellite state; empty while it is not published.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub state_digest: String,
    /// Manifest digest of its configuration; empty while that is not published.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub config_digest: String,
    /// Manifest digests of its groups' states, by the states' URLs.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, String>,
    /// What it should do: `refresh_credentials` (`POST /satellites/credentials`). Unknown ones are for newer satellites.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// [`images_digest`] of the images that the server has written down for this satellite.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub images_digest: String,
    /// Stands for this answer, actions apart, and for what the satellite said of itself. A heartbeat that comes with it as
    /// [`Sync::unchanged`] and still finds it true is answered by the tag and the actions alone.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

impl SyncAnswer {
    /// With its tag, as the answer to a satellite of which that is known.
    #[must_use]
    pub fn tagged(self, known: &[String]) -> Self {
        let own = [&self.state_digest, &self.config_digest, &self.images_digest];
        let states = self.states.iter().flat_map(|(url, digest)| [url, digest]);
        // A list of any length stands last.
        let tag = short(known.iter().chain(own).chain(states).map(String::as_str));
        Self { tag, ..self }
    }

    /// From the body of a 200: an empty one, as the reference sends, says nothing.
    ///
    /// # Errors
    /// A body that is neither empty nor this JSON.
    pub fn from_body(body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        if body.trim_ascii().is_empty() { Ok(None) } else { serde_json::from_slice(body).map(Some) }
    }
}
