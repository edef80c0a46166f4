//! The audit log, asked.

use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Ctx, Refused};
use crate::{
    auth::SystemAdmin,
    db::audit::{self, Filter},
    http::{self, Answer, Error, PageQuery, Query},
};

/// Which events.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// As `config.update.success`.
    pub event_type: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// On what.
    pub resource: Option<String>,
    /// `success` or `failure`.
    pub outcome: Option<String>,
    /// From this time on, RFC 3339.
    pub since: Option<String>,
    /// Before this time, RFC 3339.
    pub until: Option<String>,
}

/// Events, newest first; of the whole log the last thousand unless pages are asked for.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(PageQuery, AuditQuery), responses((status = 200, body = Vec<serde_json::Value>), Refused))]
pub async fn list(
    State(app): Ctx,
    _: SystemAdmin,
    Query(query): Query<PageQuery>,
    Query(which): Query<AuditQuery>,
) -> Answer {
    let mut page = query.page()?;
    page.limit = page.limit.or(Some(1000));
    let first = page.after_number()?.unwrap_or(i64::MAX);
    let at = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => text
            .parse::<Timestamp>()
            .map(|t| Some(t.as_microsecond()))
            .map_err(|_| Error::bad(format!("{name}: must be a time as RFC 3339 has it"))),
    };
    let filter = Filter {
        before: None,
        since: at("since", &which.since)?,
        until: at("until", &which.until)?,
        event_type: which.event_type,
        actor: which.actor,
        resource: which.resource,
        outcome: which.outcome,
    };
    let read = move |before, rows| {
        let (app, filter) = (app.clone(), Filter { before: Some(before), ..filter.clone() });
        async move { audit::page(&mut *app.db.read().await?, &filter, rows).await }
    };
    let print = |(_, event): (i64, serde_json::Value)| event;
    http::stream(page, first, "[]", read, |row: &(i64, serde_json::Value)| row.0, print).await
}
