//! Satellites: who there is, and who comes and goes.

use axum::extract::State;
use axum::http::StatusCode;
use satellite_core::fleet::{Name, StateKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Nothing, Refused, groups::answer, pending::marked, rows::SatelliteRow};
use crate::{
    app::App,
    audit::Event,
    auth::{Session, random_hex, sha256_hex},
    central::Error as CentralError,
    db::{self, configs, groups, robots, satellites, satellites::Filter, tokens},
    fleet::{
        health::{State as Health, Thresholds},
        selector::{self, Selector},
    },
    http::{self, Answer, Error, Json, PageQuery, Path, Query, json as reply},
    outbox::Kind,
};

/// Most groups of a registration.
const MAX_GROUPS: usize = 1000;

pub(super) fn bad_name() -> Error {
    Error::bad(
        "Invalid satellite name: must be 1-255 chars, start with letter/number, and contain only lowercase letters, numbers, and ._-",
    )
}

/// Where the states of this server end.
pub(crate) fn thresholds(app: &App) -> Thresholds {
    Thresholds { offline: db::micros(app.settings.offline_after), ..Thresholds::default() }
}

/// Which satellites.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SatelliteQuery {
    /// Labels, as `site=berlin,env!=test,tier in (a,b),!retired`.
    pub selector: Option<String>,
    /// In this group.
    pub group: Option<String>,
    /// With this configuration.
    pub config: Option<String>,
    /// `pending`, `online`, `stale`, `offline`, `suspended` or `revoked`.
    pub state: Option<String>,
    /// That hold this image: `library/web:v1`, `library/web`, `sha256:…`.
    pub holding: Option<String>,
    /// That lack it.
    pub lacking: Option<String>,
    /// With whom this is wrong: a cause code (`disk.blocked`), or its first part (`disk`).
    pub cause: Option<String>,
    /// `true`: that run other digests than they should.
    pub drifted: Option<bool>,
    /// `full`: rows with state, labels and digests.
    pub view: Option<String>,
}

impl SatelliteQuery {
    fn filter(&self, q: Option<String>, app: &App) -> Result<Filter, Error> {
        let selector: Selector = match &self.selector {
            Some(text) => text.parse().map_err(|e| Error::bad(format!("selector: {e}")))?,
            None => Selector::default(),
        };
        let state = match &self.state {
            Some(text) => Some(Health::from_text(text).ok_or_else(|| {
                Error::bad("state: must be one of pending, online, stale, offline, suspended, revoked")
            })?),
            None => None,
        };
        let image = match (&self.holding, &self.lacking) {
            (Some(_), Some(_)) => return Err(Error::bad("holding: goes without lacking")),
            (Some(image), None) => Some((image.clone(), true)),
            (None, Some(image)) => Some((image.clone(), false)),
            (None, None) => None,
        };
        Ok(Filter {
            q,
            selector,
            group: self.group.clone(),
            config: self.config.clone(),
            state: state.map(|s| (s, db::now(), thresholds(app))),
            image,
            wants: None,
            cause: self.cause.clone(),
            drifted: self.drifted.unwrap_or(false),
        })
    }
}

/// All satellites, by number, or those that are asked for.
#[utoipa::path(get, path = "/api/satellites", tag = "satellites", params(PageQuery, SatelliteQuery), responses((status = 200, body = Option<Vec<SatelliteRow>>), Refused))]
pub async fn list(
    State(app): Ctx,
    _: Session,
    Query(query): Query<PageQuery>,
    Query(which): Query<SatelliteQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let filter = which.filter(query.q.clone(), &app)?;
    let full = match which.view.as_deref() {
        None | Some("") => false,
        Some("full") => true,
        Some(_) => return Err(Error::bad("view: must be full")),
    };
    let (limits, now) = (thresholds(&app), db::now());
    let read = move |after, rows| {
        let (app, filter) = (app.clone(), filter.clone());
        async move { satellites::page(&mut *app.db.read().await?, &filter, after, rows).await }
    };
    let print = move |s| if full { SatelliteRow::full(s, now, &limits) } else { SatelliteRow::plain(s) };
    http::stream(page, first, "null", read, |s: &satellites::Satellite| s.id, print).await
}

/// Those that reported lately.
#[utoipa::path(get, path = "/api/satellites/active", tag = "satellites", params(PageQuery), responses((status = 200, body = Option<Vec<SatelliteRow>>), Refused))]
pub async fn active(State(app): Ctx, _: Session, Query(query): Query<PageQuery>) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let now = db::now();
    let read = move |after, rows| {
        let app = app.clone();
        async move { satellites::active(&mut *app.db.read().await?, now, after, rows).await }
    };
    http::stream(page, first, "null", read, |s: &satellites::Satellite| s.id, SatelliteRow::active).await
}

/// Those that reported, and not lately.
#[utoipa::path(get, path = "/api/satellites/stale", tag = "satellites", params(PageQuery), responses((status = 200, body = Option<Vec<SatelliteRow>>), Refused))]
pub async fn stale(State(app): Ctx, _: Session, Query(query): Query<PageQuery>) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let now = db::now();
    let read = move |after, rows| {
        let app = app.clone();
        async move { satellites::stale(&mut *app.db.read().await?, now, after, rows).await }
    };
    let print = move |s| SatelliteRow::stale(s, now);
    http::stream(page, first, "null", read, |s: &satellites::Satellite| s.id, print).await
}

/// One satellite.
#[utoipa::path(get, path = "/api/satellites/{satellite}", tag = "satellites", params(("satellite" = String, Path)), responses((status = 200, body = SatelliteRow), Refused))]
pub async fn get(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let satellite = satellites::by_name(&mut *app.db.read().await?, &name).await?;
    let satellite = satellite.ok_or_else(|| Error::absent("satellite not found"))?;
    reply(StatusCode::OK, &SatelliteRow::plain(satellite))
}

/// A new satellite.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewSatellite {
    name: Option<String>,
    groups: Option<Vec<String>>,
    config_name: Option<String>,
    /// For selectors.
    labels: Option<satellites::Labels>,
}

/// What the device is given.
#[derive(Serialize, ToSchema)]
pub struct Token {
    /// To be exchanged once, within a day.
    token: String,
}

/// Registers a satellite; the token is for its device.
#[utoipa::path(post, path = "/api/satellites", tag = "satellites", request_body = NewSatellite, responses((status = 200, body = Token), Refused))]
pub async fn register(State(app): Ctx, session: Session, Json(body): Json<NewSatellite>) -> Answer {
    let name = body.name.unwrap_or_default();
    name.parse::<Name>().map_err(|_| bad_name())?;
    StateKind::Satellite.repository(&name).map_err(|e| bad_name().detail(e))?;
    let config_name = body.config_name.unwrap_or_default();
    config_name.parse::<Name>().map_err(|_| Error::bad("invalid or empty config_name"))?;
    let groups = body.groups.unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        return Err(Error::bad(format!("groups: at most {MAX_GROUPS}")));
    }
    let labels = body.labels.unwrap_or_default();
    selector::check_labels(&labels).map_err(|e| Error::bad(format!("labels: {e}")))?;
    let new = New { name: &name, groups: &groups, config: &config_name, labels: &labels };
    let event = Event::done("satellite", "register", &session.origin).by(&session.user.username, "user");
    let details = json!({"flow": "token", "config_name": config_name, "groups": groups});
    let token = random_hex();
    let expires_at = db::now().saturating_add(db::micros(app.settings.token));
    insert(&app, &new, Some((&token, expires_at)), event.satellite(&name).details(details)).await?;
    let outcomes = app.outbox.run_now(&[(Kind::Robot, &name), (Kind::Satellite, &name)]).await;
    if let Some(refused) = outcomes.iter().find_map(|o| o.refusal()) {
        take_back(&app, &name).await?;
        return Err(refusal(refused));
    }
    Ok(marked(reply(StatusCode::OK, &Token { token })?, &outcomes))
}

fn refusal(e: &CentralError) -> Error {
    Error::bad("Error: failed to create robot account").detail(e)
}

/// What a registration says.
pub(super) struct New<'a> {
    pub(super) name: &'a str,
    pub(super) groups: &'a [String],
    pub(super) config: &'a str,
    pub(super) labels: &'a satellites::Labels,
}

/// Writes a satellite down, with all that belongs to it.
pub(super) async fn insert(
    app: &App,
    new: &New<'_>,
    token: Option<(&str, i64)>,
    event: Event,
) -> Result<(), Error> {
    let taken = || Error::bad("Error: Robot Account name already present. Try with different name");
    let mut tx = app.db.begin().await?;
    let id = match satellites::insert(&mut tx, new.name, new.labels).await {
        Err(db::Error::Conflict) => return Err(taken()),
        other => other?,
    };
    for name in new.groups {
        let group = groups::by_name(&mut tx, name).await?;
        let group = group.ok_or_else(|| Error::bad(format!("Error: Invalid Group Name: {name}")))?;
        groups::add_member(&mut tx, group.id, id, false).await?;
    }
    satellites::reselect_satellite(&mut tx, id, new.labels).await?;
    let config = configs::by_name(&mut tx, new.config).await?;
    let config = config.ok_or_else(|| Error::bad("Error: Config Not Found"))?;
    configs::assign(&mut tx, id, config.id).await?;
    if let Some((token, expires_at)) = token {
        tokens::insert(&mut tx, id, &sha256_hex(token), expires_at).await?;
    }
    app.outbox.put(&mut tx, Kind::Robot, new.name).await?;
    app.outbox.put(&mut tx, Kind::Satellite, new.name).await?;
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    Ok(())
}

/// Central refused the robot for good: the registration did not happen.
async fn take_back(app: &App, name: &str) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    if let Some(satellite) = satellites::by_name(&mut tx, name).await? {
        remove(app, &mut tx, &satellite).await?;
    }
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

async fn remove(app: &App, tx: &mut db::Tx, satellite: &satellites::Satellite) -> Result<(), Error> {
    let robot = robots::of_satellite(tx, satellite.id).await?;
    satellites::delete(tx, satellite.id).await?;
    let id = robot.as_ref().map(|r| r.robot_id.as_str());
    app.outbox.put_gone_robot(tx, &satellite.name, id).await?;
    app.outbox.put(tx, Kind::Satellite, &satellite.name).await?;
    Ok(())
}

/// Removes a satellite, its robot account and its state.
#[utoipa::path(delete, path = "/api/satellites/{satellite}", tag = "satellites", params(("satellite" = String, Path)), responses((status = 200, body = Nothing), Refused))]
pub async fn delete(State(app): Ctx, session: Session, Path(name): Path<String>) -> Answer {
    let mut tx = app.db.begin().await?;
    let satellite = satellites::by_name(&mut tx, &name).await?;
    let satellite = satellite.ok_or_else(|| Error::bad("Error: Satellite Not Found"))?;
    remove(&app, &mut tx, &satellite).await?;
    let event = Event::done("satellite", "deregister", &session.origin).by(&session.user.username, "user");
    app.audit.record(&mut tx, event.satellite(&name)).await?;
    tx.commit().await?;
    answer(&app, &[(Kind::Robot, name.clone()), (Kind::Satellite, name)], &Nothing {}).await
}
