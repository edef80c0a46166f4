//! How one satellite is: what it said, what it holds, what it lacks.

use axum::extract::State;
use axum::http::StatusCode;
use satellite_core::fleet::StateKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Ctx, Refused,
    lifecycle::absent,
    rows::{ImageRow, StatusRow},
    satellites::thresholds,
};
use crate::{
    app::App,
    auth::Session,
    db::{self, Conn, configs, groups, heartbeats, images, publications, robots, satellites},
    fleet::{
        drift::{self, Want},
        health,
    },
    http::{self, Answer, Error, PageQuery, Path, Query, json as reply, time},
};

/// Missing images that are told one by one.
const MAX_MISSING: usize = 1000;

async fn find(c: &mut Conn, name: &str) -> Result<satellites::Satellite, Error> {
    satellites::by_name(c, name).await?.ok_or_else(absent)
}

/// What it said last.
#[utoipa::path(get, path = "/api/satellites/{satellite}/status", tag = "health of satellites", params(("satellite" = String, Path)), responses((status = 200, body = StatusRow), Refused))]
pub async fn status(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let mut c = app.db.read().await?;
    let satellite = find(&mut c, &name).await?;
    let latest = heartbeats::latest(&mut c, satellite.id).await?;
    let latest = latest.ok_or_else(|| Error::absent("no status available"))?;
    let images = images::ids_of_satellite(&mut c, satellite.id).await?;
    reply(StatusCode::OK, &StatusRow::latest(latest, images))
}

/// What changed, newest first: a row each time its activity, digests, interval or images were others than before.
#[utoipa::path(get, path = "/api/satellites/{satellite}/history", tag = "health of satellites", params(("satellite" = String, Path), PageQuery), responses((status = 200, body = [StatusRow]), Refused))]
pub async fn history(
    State(app): Ctx,
    _: Session,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(i64::MAX);
    let id = find(&mut *app.db.read().await?, &name).await?.id;
    let read = move |before, rows| {
        let app = app.clone();
        async move { heartbeats::history(&mut *app.db.read().await?, id, Some(before), rows).await }
    };
    http::stream(page, first, "[]", read, |s: &heartbeats::Status| s.id, StatusRow::past).await
}

/// What it holds, by reference.
#[utoipa::path(get, path = "/api/satellites/{satellite}/images", tag = "health of satellites", params(("satellite" = String, Path), PageQuery), responses((status = 200, body = Option<Vec<ImageRow>>), Refused))]
pub async fn images(
    State(app): Ctx,
    _: Session,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after.clone().unwrap_or_default();
    let id = find(&mut *app.db.read().await?, &name).await?.id;
    let read = move |after: String, rows| {
        let app = app.clone();
        async move { images::of_satellite(&mut *app.db.read().await?, id, &after, rows).await }
    };
    let print = |i: images::Image| ImageRow {
        id: i.id,
        reference: i.reference,
        size_bytes: i.size_bytes.into(),
        created_at: time(i.created_at),
    };
    http::stream(page, first, "null", read, |i: &images::Image| i.reference.clone(), print).await
}

/// Digests of states.
#[derive(Default, Serialize, ToSchema)]
pub struct Digests {
    /// Of the satellite's state.
    pub state_digest: Option<String>,
    /// Of its configuration.
    pub config_digest: Option<String>,
    /// Of its groups' states, by their URLs.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub states: std::collections::BTreeMap<String, String>,
}

/// An image.
#[derive(Serialize, ToSchema)]
pub struct Missing {
    repository: String,
    tag: String,
    digest: String,
}

/// A robot account.
#[derive(Serialize, ToSchema)]
pub struct RobotInfo {
    login: String,
    /// RFC 3339.
    expires_at: Option<String>,
    /// When a secret was handed out last.
    issued_at: Option<String>,
    /// When that secret was first used here.
    used_at: Option<String>,
    /// Whether it is asked to fetch a new one.
    refresh_wanted: bool,
    projects: Vec<String>,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub struct LastErrorRow {
    /// A stable code: `disk.blocked`.
    cause: String,
    /// For people.
    message: String,
}

/// How a satellite is.
#[derive(Serialize, ToSchema)]
pub struct Health {
    name: String,
    /// `pending`, `online`, `stale`, `offline`, `suspended`, `revoked`.
    state: &'static str,
    labels: satellites::Labels,
    groups: Vec<String>,
    config: Option<String>,
    /// RFC 3339.
    last_seen: Option<String>,
    heartbeat_interval: Option<String>,
    activity: Option<String>,
    /// What is wrong with it now, by its last heartbeat.
    last_error: Option<LastErrorRow>,
    /// What it should run.
    desired: Digests,
    /// What it says it runs.
    running: Digests,
    /// It says so, and it is something else than it should run.
    drifted: bool,
    /// Images that its groups want and that it did not report, a thousand at most.
    missing: Vec<Missing>,
    /// How many there are.
    missing_count: usize,
    robot: Option<RobotInfo>,
}

/// How it is: what it should run and runs, what it lacks, and its robot account.
#[utoipa::path(get, path = "/api/satellites/{satellite}/health", tag = "health of satellites", params(("satellite" = String, Path)), responses((status = 200, body = Health), Refused))]
pub async fn health(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let mut c = app.db.read().await?;
    let s = find(&mut c, &name).await?;
    let config = configs::of_satellite(&mut c, s.id).await?;
    let desired = desired(&app, &mut c, &s, config.as_deref()).await?;
    let said = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let running = Digests {
        state_digest: said(&s.state_digest),
        config_digest: said(&s.config_digest),
        states: std::collections::BTreeMap::new(),
    };
    let differs =
        |want: &Option<String>, has: &Option<String>| matches!((want, has), (Some(w), Some(h)) if w != h);
    let drifted = differs(&desired.state_digest, &running.state_digest)
        || differs(&desired.config_digest, &running.config_digest);
    let missing = missing(&mut c, s.id).await?;
    let robot = robots::of_satellite(&mut c, s.id).await?.map(|r| RobotInfo {
        login: r.login,
        expires_at: r.expires_at.map(time),
        issued_at: r.issued_at.map(time),
        used_at: r.used_at.map(time),
        refresh_wanted: r.refresh_wanted,
        projects: serde_json::from_str(&r.projects).unwrap_or_default(),
    });
    let state = health::state(s.standing, s.last_seen, s.interval_us, db::now(), &thresholds(&app));
    let body = Health {
        state: state.as_str(),
        groups: groups::of_satellite(&mut c, s.id).await?,
        config,
        last_seen: s.last_seen.map(time),
        heartbeat_interval: s.interval,
        activity: s.activity,
        last_error: s
            .error_cause
            .map(|cause| LastErrorRow { cause, message: s.error_message.unwrap_or_default() }),
        labels: s.labels,
        name: s.name,
        desired,
        running,
        drifted,
        missing_count: missing.len(),
        missing: missing.into_iter().take(MAX_MISSING).collect(),
        robot,
    };
    reply(StatusCode::OK, &body)
}

async fn desired(
    app: &App,
    c: &mut Conn,
    s: &satellites::Satellite,
    config: Option<&str>,
) -> Result<Digests, Error> {
    let repository = |kind: StateKind, name: &str| kind.repository(name).map(|r| r.as_str().to_string());
    let mut digests = Digests::default();
    if let Ok(repository) = repository(StateKind::Satellite, &s.name) {
        digests.state_digest = publications::digest(c, &repository).await?;
    }
    if let Some(Ok(repository)) = config.map(|name| repository(StateKind::Config, name)) {
        digests.config_digest = publications::digest(c, &repository).await?;
    }
    for (group, digest) in groups::published_of_satellite(c, s.id).await? {
        if let Ok(url) = StateKind::Group.url(app.central.url(), &group) {
            digests.states.insert(url, digest);
        }
    }
    Ok(digests)
}

async fn missing(c: &mut Conn, satellite: i64) -> Result<Vec<Missing>, Error> {
    let wanted = groups::wanted_by_satellite(c, satellite).await?;
    let held: Vec<String> =
        images::of_satellite(c, satellite, "", i64::MAX).await?.into_iter().map(|i| i.reference).collect();
    let wanted: Vec<Want<'_>> =
        wanted.iter().map(|w| Want { repository: &w.repository, tag: &w.tag, digest: &w.digest }).collect();
    let missing = drift::missing(&wanted, &held);
    Ok(missing
        .into_iter()
        .map(|w| Missing { repository: w.repository.into(), tag: w.tag.into(), digest: w.digest.into() })
        .collect())
}
