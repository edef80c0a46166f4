//! The heartbeat: `POST /satellites/sync`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::null_is_default;

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
    /// Which these are; always the whole list.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cached_images: Vec<CachedImage>,
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
}

impl SyncAnswer {
    /// From the body of a 200: an empty one, as the reference sends, says nothing.
    ///
    /// # Errors
    /// A body that is neither empty nor this JSON.
    pub fn from_body(body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        if body.trim_ascii().is_empty() { Ok(None) } else { serde_json::from_slice(body).map(Some) }
    }
}
