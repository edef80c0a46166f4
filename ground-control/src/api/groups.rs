//! Groups: what they want, and which labels choose their satellites.

use axum::extract::State;
use axum::http::StatusCode;
use satellite_core::fleet::GroupState;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Nothing, Refused, pending::marked, rows::GroupRow};
use crate::{
    app::App,
    audit::Event,
    auth::{Session, SystemAdmin},
    db::{self, Conn, groups, outbox, satellites},
    fleet::selector::Selector,
    http::{self, Answer, Error, Json, LARGE, PageQuery, Path, Query, json as reply},
    outbox::Kind,
};

/// Members whose changes a request waits for; of larger groups they are done behind it.
const FEW: i64 = 16;

/// All groups, by number.
#[utoipa::path(get, path = "/api/groups", tag = "groups", params(PageQuery), responses((status = 200, body = Option<Vec<GroupRow>>), Refused))]
pub async fn list(State(app): Ctx, _: Session, Query(query): Query<PageQuery>) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let read = move |after, rows| {
        let (app, q) = (app.clone(), query.q.clone());
        async move { groups::page(&mut *app.db.read().await?, after, q.as_deref(), rows).await }
    };
    http::stream(page, first, "null", read, |g: &groups::Group| g.id, GroupRow::from).await
}

/// One group.
#[utoipa::path(get, path = "/api/groups/{group}", tag = "groups", params(("group" = String, Path)), responses((status = 200, body = GroupRow), Refused))]
pub async fn get(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let group = groups::by_name(&mut *app.db.read().await?, &name).await?;
    reply(StatusCode::OK, &GroupRow::from(group.ok_or_else(|| Error::absent("Group not found"))?))
}

/// What a group wants, as its state tells satellites.
#[utoipa::path(get, path = "/api/groups/{group}/state", tag = "groups", params(("group" = String, Path)), responses((status = 200, body = serde_json::Value), Refused))]
pub async fn state(State(app): Ctx, _: Session, Path(name): Path<String>) -> Answer {
    let mut c = app.db.read().await?;
    let group = groups::by_name(&mut c, &name).await?.ok_or_else(|| Error::absent("Group not found"))?;
    let digest = db::publications::digest(&mut c, &format!("satellite/group-state/{name}/state")).await?;
    reply(
        StatusCode::OK,
        &json!({"group": group.name, "registry": group.registry_url, "artifacts": group.artifacts, "digest": digest}),
    )
}

/// Makes a group, or replaces what it wants.
#[utoipa::path(post, path = "/api/groups/sync", tag = "groups", request_body(content = serde_json::Value), responses((status = 200, body = GroupRow), Refused))]
pub async fn sync(State(app): Ctx, session: Session, Json(body): Json<GroupState, LARGE>) -> Answer {
    body.check().map_err(|e| Error::bad(e.to_string()))?;
    let projects: Vec<String> = body.projects().into_iter().map(String::from).collect();
    let artifacts = serde_json::to_value(&body.artifacts).map_err(|_| Error::internal())?;
    let wanted: Vec<groups::Wanted> = body
        .artifacts
        .iter()
        .filter(|a| !a.deleted)
        .flat_map(|a| {
            let none = [String::new()];
            let tags: Vec<String> = if a.tag.is_empty() { none.to_vec() } else { a.tag.clone() };
            tags.into_iter().map(|tag| groups::Wanted {
                repository: a.repository.clone(),
                tag,
                digest: a.digest.clone(),
            })
        })
        .collect();
    let wanted = unique(wanted);
    let mut tx = app.db.begin().await?;
    let (group, moved) =
        groups::put(&mut tx, &body.group, app.central.url(), &projects, &artifacts, &wanted).await?;
    app.outbox.put(&mut tx, Kind::Group, &group.name).await?;
    let mut rows = vec![(Kind::Group, group.name.clone())];
    if moved {
        outbox::put_robots_of_group(&mut tx, group.id).await?;
        rows.extend(few_members(&mut tx, group.id).await?.into_iter().map(|name| (Kind::Robot, name)));
    }
    let event = Event::done("group", "sync", &session.origin).by(&session.user.username, "user");
    let event =
        event.on(&group.name).details(json!({"projects": projects, "artifacts": body.artifacts.len()}));
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    answer(&app, &rows, &GroupRow::from(group)).await
}

/// A tag is one thing in a group: the last to name it says which.
fn unique(wanted: Vec<groups::Wanted>) -> Vec<groups::Wanted> {
    let mut map = std::collections::BTreeMap::new();
    for w in wanted {
        map.insert((w.repository.clone(), w.tag.clone()), w);
    }
    map.into_values().collect()
}

/// Names of the members of a small group; of a large one none.
pub(super) async fn few_members(c: &mut Conn, group: i64) -> db::Result<Vec<String>> {
    let members = satellites::of_group(c, group, 0, FEW + 1).await?;
    let few = i64::try_from(members.len()).is_ok_and(|n| n <= FEW);
    Ok(if few { members.into_iter().map(|s| s.name).collect() } else { Vec::new() })
}

/// Does the rows, and answers.
pub(super) async fn answer(app: &App, rows: &[(Kind, String)], body: &impl serde::Serialize) -> Answer {
    let rows: Vec<(Kind, &str)> = rows.iter().map(|(k, n)| (*k, n.as_str())).collect();
    let outcomes = app.outbox.run_now(&rows).await;
    Ok(marked(reply(StatusCode::OK, body)?, &outcomes))
}

/// Removes a group; its satellites lose its images and their rights to its projects.
#[utoipa::path(delete, path = "/api/groups/{group}", tag = "groups", params(("group" = String, Path)), responses((status = 200, body = Nothing), Refused))]
pub async fn delete(State(app): Ctx, SystemAdmin(by): SystemAdmin, Path(name): Path<String>) -> Answer {
    let mut tx = app.db.begin().await?;
    let group = groups::by_name(&mut tx, &name).await?;
    let group = group.ok_or_else(|| Error::absent("Error: Group Not Found"))?;
    let members = few_members(&mut tx, group.id).await?;
    outbox::put_robots_of_group(&mut tx, group.id).await?;
    outbox::put_satellites_of_group(&mut tx, group.id).await?;
    groups::delete(&mut tx, group.id).await?;
    app.outbox.put(&mut tx, Kind::Group, &name).await?;
    let event = Event::done("group", "delete", &by.origin).by(&by.user.username, "user").on(&name);
    app.audit.record(&mut tx, event).await?;
    tx.commit().await?;
    // Satellites first: they should not be told of a state that is gone.
    let mut rows: Vec<(Kind, String)> =
        members.iter().flat_map(|m| [(Kind::Satellite, m.clone()), (Kind::Robot, m.clone())]).collect();
    rows.push((Kind::Group, name));
    answer(&app, &rows, &Nothing {}).await
}

/// Which labels choose a group's satellites.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewSelector {
    /// As `site=berlin,env!=test`; empty or absent: none, the group keeps those who were put in by hand.
    selector: Option<String>,
}

/// Sets which labels choose its satellites, beside those that were put in by hand.
#[utoipa::path(put, path = "/api/groups/{group}/selector", tag = "groups", params(("group" = String, Path)), request_body = NewSelector, responses((status = 200, body = GroupRow), Refused))]
pub async fn selector(
    State(app): Ctx,
    session: Session,
    Path(name): Path<String>,
    Json(body): Json<NewSelector>,
) -> Answer {
    let text = body.selector.filter(|s| !s.trim().is_empty());
    let selector: Option<Selector> = text
        .map(|t| t.parse())
        .transpose()
        .map_err(|e: crate::fleet::selector::Bad| Error::bad(format!("selector: {e}")))?;
    let mut tx = app.db.begin().await?;
    let group = groups::by_name(&mut tx, &name).await?.ok_or_else(|| Error::absent("Group not found"))?;
    let text = selector.as_ref().map(ToString::to_string);
    groups::set_selector(&mut tx, group.id, text.as_deref()).await?;
    let changed = satellites::reselect_group(&mut tx, group.id, selector.as_ref()).await?;
    for satellite in &changed {
        app.outbox.put(&mut tx, Kind::Robot, satellite).await?;
        app.outbox.put(&mut tx, Kind::Satellite, satellite).await?;
    }
    let event = Event::done("group", "select", &session.origin).by(&session.user.username, "user").on(&name);
    app.audit.record(&mut tx, event.details(json!({"selector": text, "changed": changed.len()}))).await?;
    let group = groups::by_name(&mut tx, &name).await?.ok_or_else(|| Error::absent("Group not found"))?;
    tx.commit().await?;
    let few = i64::try_from(changed.len()).is_ok_and(|n| n <= FEW);
    let rows: Vec<(Kind, String)> = changed
        .into_iter()
        .filter(|_| few)
        .flat_map(|s| [(Kind::Robot, s.clone()), (Kind::Satellite, s)])
        .collect();
    answer(&app, &rows, &GroupRow::from(group)).await
}
