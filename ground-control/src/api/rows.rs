//! Rows as the reference prints them: Go's names, nullable columns as objects.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    db::{configs, groups, heartbeats, satellites, users},
    fleet::health::{self, Thresholds},
    http::{NullInt32, NullInt64, NullString, NullTime, time},
};

/// A user.
#[derive(Serialize, ToSchema)]
pub struct UserRow {
    /// Number.
    pub id: i64,
    /// Name.
    pub username: String,
    /// `admin`.
    pub role: String,
    /// RFC 3339.
    pub created_at: String,
}

impl From<users::User> for UserRow {
    fn from(u: users::User) -> Self {
        Self { id: u.id, username: u.username, role: u.role, created_at: time(u.created_at) }
    }
}

/// A group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct GroupRow {
    /// Number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// Name.
    pub group_name: String,
    /// Where its images are.
    pub registry_url: String,
    /// Whose images it has.
    pub projects: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// Labels that choose its satellites; only if it has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

impl From<groups::Group> for GroupRow {
    fn from(g: groups::Group) -> Self {
        Self {
            id: g.id,
            group_name: g.name,
            registry_url: g.registry_url,
            projects: g.projects,
            created_at: time(g.created_at),
            updated_at: time(g.updated_at),
            selector: g.selector,
        }
    }
}

/// A configuration.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigRow {
    /// Number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// Name.
    pub config_name: String,
    /// Where its state is.
    pub registry_url: String,
    /// The configuration.
    #[schema(value_type = Object)]
    pub config: Value,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

impl From<configs::Config> for ConfigRow {
    fn from(c: configs::Config) -> Self {
        Self {
            id: c.id,
            config_name: c.name,
            registry_url: c.registry_url,
            config: c.config,
            created_at: time(c.created_at),
            updated_at: time(c.updated_at),
        }
    }
}

/// A satellite.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SatelliteRow {
    /// Number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// Name.
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// When it reported last.
    pub last_seen: NullTime,
    /// How often it reports.
    pub heartbeat_interval: NullString,
    /// Its last activity; only in the list of active ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<String>,
    /// When that was; only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status_time: Option<String>,
    /// Only in the list of stale ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_since_seen: Option<i64>,
    /// `pending`, `online`, `stale`, `offline`, `suspended`, `revoked`; only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<satellites::Labels>,
    /// The state it runs; only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_digest: Option<String>,
    /// The configuration it runs; only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// What is wrong with it; empty: nothing. Only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_cause: Option<String>,
}

impl SatelliteRow {
    /// As the reference prints it.
    pub fn plain(s: satellites::Satellite) -> Self {
        Self {
            id: s.id,
            name: s.name,
            created_at: time(s.created_at),
            updated_at: time(s.updated_at),
            last_seen: NullTime::new(s.last_seen),
            heartbeat_interval: NullString::new(s.interval),
            last_activity: None,
            last_status_time: None,
            seconds_since_seen: None,
            state: None,
            labels: None,
            state_digest: None,
            config_digest: None,
            error_cause: None,
        }
    }

    /// With what it said last.
    pub fn active(s: satellites::Satellite) -> Self {
        let (activity, seen) = (s.activity.clone().unwrap_or_default(), s.last_seen.unwrap_or_default());
        Self { last_activity: Some(activity), last_status_time: Some(time(seen)), ..Self::plain(s) }
    }

    /// With how long it is silent.
    pub fn stale(s: satellites::Satellite, now: i64) -> Self {
        let silent = now.saturating_sub(s.last_seen.unwrap_or(now)) / 1_000_000;
        Self { seconds_since_seen: Some(silent), ..Self::plain(s) }
    }

    /// With everything that is known without a further look.
    pub fn full(s: satellites::Satellite, now: i64, thresholds: &Thresholds) -> Self {
        let state = health::state(s.standing, s.last_seen, s.interval_us, now, thresholds);
        let text = |t: &Option<String>| Some(t.clone().unwrap_or_default());
        Self {
            state: Some(state.as_str()),
            labels: Some(s.labels.clone()),
            last_activity: text(&s.activity),
            state_digest: text(&s.state_digest),
            config_digest: text(&s.config_digest),
            error_cause: text(&s.error_cause),
            ..Self::plain(s)
        }
    }
}

/// A satellite of a group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MemberRow {
    /// Number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// Name.
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

impl From<satellites::Satellite> for MemberRow {
    fn from(s: satellites::Satellite) -> Self {
        Self { id: s.id, name: s.name, created_at: time(s.created_at), updated_at: time(s.updated_at) }
    }
}

/// What a satellite said.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct StatusRow {
    /// Number of the last change.
    #[serde(rename = "ID")]
    pub id: i64,
    /// Whose.
    #[serde(rename = "SatelliteID")]
    pub satellite_id: i64,
    /// Free text.
    pub activity: String,
    /// The state it runs.
    pub latest_state_digest: NullString,
    /// The configuration it runs.
    pub latest_config_digest: NullString,
    /// `12.50`
    pub cpu_percent: NullString,
    /// Bytes.
    pub memory_used_bytes: NullInt64,
    /// Bytes.
    pub storage_used_bytes: NullInt64,
    /// Milliseconds.
    pub last_sync_duration_ms: NullInt64,
    /// As it counts.
    pub image_count: NullInt32,
    /// By its clock.
    pub reported_at: String,
    /// By this server's.
    pub created_at: String,
    /// Numbers of the images it holds; absent in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_ids: Option<Option<Vec<i64>>>,
}

impl StatusRow {
    /// With the images it holds.
    pub fn latest(s: heartbeats::Status, images: Vec<i64>) -> Self {
        let images = (!images.is_empty()).then_some(images);
        Self { artifact_ids: Some(images), ..Self::past(s) }
    }

    /// A line of the history.
    pub fn past(s: heartbeats::Status) -> Self {
        Self {
            id: s.id,
            satellite_id: s.satellite_id,
            activity: s.activity,
            latest_state_digest: NullString::new(Some(s.state_digest)),
            latest_config_digest: NullString::new(Some(s.config_digest)),
            cpu_percent: NullString::new(Some(format!("{}.{:02}", s.cpu_centi / 100, s.cpu_centi % 100))),
            memory_used_bytes: s.memory_bytes.into(),
            storage_used_bytes: s.storage_bytes.into(),
            last_sync_duration_ms: s.sync_ms.into(),
            image_count: s.image_count.into(),
            reported_at: time(s.reported_at),
            created_at: time(s.created_at),
            artifact_ids: None,
        }
    }
}

/// An image that a satellite holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImageRow {
    /// Number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// As the satellite names it.
    pub reference: String,
    /// Config and layers.
    pub size_bytes: NullInt64,
    /// When it was first reported by anybody.
    pub created_at: String,
}
