//! The outbox, seen: what central has not got yet, and why.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Ctx, Refused};
use crate::{
    audit::Event,
    auth::{Session, SystemAdmin},
    db::{self, outbox},
    http::{self, Answer, Error, PageQuery, Query, json as reply, time},
    outbox::Kind,
};

/// Which rows.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OutboxQuery {
    /// `pending` (what is asked for by default), `failing`, `done`, or `all`.
    pub state: Option<String>,
    /// `group`, `satellite`, `config` or `robot`.
    pub kind: Option<String>,
}

/// An object at central.
#[derive(Serialize, ToSchema)]
pub struct OutboxRow {
    id: i64,
    /// `group`, `satellite`, `config`, `robot`.
    kind: String,
    /// Which.
    name: String,
    /// `pending`, `running`, `failing`, `done`.
    state: &'static str,
    /// Tries since it was last in line.
    attempts: i64,
    /// When it is tried next, RFC 3339.
    due_at: Option<String>,
    /// Why the last try failed, in a word.
    cause: Option<String>,
    /// And in a sentence.
    error: Option<String>,
    /// When it last changed, RFC 3339.
    updated_at: String,
    /// When it was brought in line, RFC 3339.
    done_at: Option<String>,
}

impl From<outbox::Entry> for OutboxRow {
    fn from(e: outbox::Entry) -> Self {
        let running = e.lease_until.is_some_and(|until| until > db::now());
        let state = match (e.done_at, running, &e.cause) {
            (Some(_), ..) => "done",
            (None, true, _) => "running",
            (None, false, Some(_)) => "failing",
            (None, false, None) => "pending",
        };
        Self {
            id: e.id,
            kind: e.kind,
            name: e.name,
            state,
            attempts: e.attempts,
            due_at: e.done_at.is_none().then(|| time(e.due_at)),
            cause: e.cause,
            error: e.error,
            updated_at: time(e.updated_at),
            done_at: e.done_at.map(time),
        }
    }
}

/// Objects at central that are out of line, by number.
#[utoipa::path(get, path = "/api/outbox", tag = "outbox", params(PageQuery, OutboxQuery), responses((status = 200, body = [OutboxRow]), Refused))]
pub async fn list(
    State(app): Ctx,
    _: Session,
    Query(query): Query<PageQuery>,
    Query(which): Query<OutboxQuery>,
) -> Answer {
    let page = query.page()?;
    let first = page.after_number()?.unwrap_or(0);
    let (pending, failed) = match which.state.as_deref() {
        None | Some("" | "pending") => (Some(true), false),
        Some("failing") => (Some(true), true),
        Some("done") => (Some(false), false),
        Some("all") => (None, false),
        Some(_) => return Err(Error::bad("state: must be one of pending, failing, done, all")),
    };
    if let Some(kind) = &which.kind
        && Kind::from_text(kind).is_none()
    {
        return Err(Error::bad("kind: must be one of group, satellite, config, robot"));
    }
    let filter = outbox::Filter { pending, failed, kind: which.kind, q: query.q.clone() };
    let read = move |after, rows| {
        let (app, filter) = (app.clone(), filter.clone());
        async move { outbox::page(&mut *app.db.read().await?, &filter, after, rows).await }
    };
    http::stream(page, first, "[]", read, |e: &outbox::Entry| e.id, OutboxRow::from).await
}

/// What to try again.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RetryQuery {
    /// `true`: what is in line too, for a registry that lost something.
    pub all: Option<bool>,
}

/// Tries everything that is out of line again, now; with `all`, looks after everything that was ever put there.
#[utoipa::path(post, path = "/api/outbox/retry", tag = "outbox", params(RetryQuery), responses((status = 202, body = serde_json::Value), Refused))]
pub async fn retry(State(app): Ctx, SystemAdmin(by): SystemAdmin, Query(query): Query<RetryQuery>) -> Answer {
    let all = query.all.unwrap_or(false);
    let mut tx = app.db.begin().await?;
    let mut count = outbox::retry(&mut tx).await?;
    if all {
        count = outbox::put_everything(&mut tx).await?;
    }
    let event = Event::done("outbox", "retry", &by.origin).by(&by.user.username, "user");
    app.audit.record(&mut tx, event.details(json!({"all": all, "rows": count}))).await?;
    tx.commit().await?;
    app.outbox.wake();
    reply(StatusCode::ACCEPTED, &json!({"rows": count}))
}
