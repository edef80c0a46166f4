//! Which satellites have an image, and which lack it.

use axum::extract::State;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ctx, Refused, satellites::thresholds};
use crate::{
    auth::Session,
    db::{self, satellites, satellites::Filter},
    fleet::{health, reference::Parts},
    http::{Answer, Error, PageQuery, Query, json as reply, time},
};

/// Rows of an answer, unless told otherwise.
const PAGE: i64 = 100;

/// Which image.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImageQuery {
    /// `library/web:v1`, `library/web`, `library/web@sha256:…` or `sha256:…`.
    pub reference: Option<String>,
    /// `true`: only satellites whose groups want it.
    pub wanted: Option<bool>,
    /// Only satellites with these labels.
    pub selector: Option<String>,
    /// Only those of this group.
    pub group: Option<String>,
}

/// A satellite.
#[derive(Serialize, ToSchema)]
pub struct Holder {
    name: String,
    /// `pending`, `online`, `stale`, `offline`, `suspended`, `revoked`.
    state: &'static str,
    /// RFC 3339.
    last_seen: Option<String>,
}

/// Satellites.
#[derive(Serialize, ToSchema)]
pub struct Holders {
    reference: String,
    /// How many there are in all.
    total: i64,
    /// A page of them, by number.
    satellites: Vec<Holder>,
    /// For `after`, if there are more.
    next: Option<String>,
}

/// Satellites that lack an image.
#[utoipa::path(get, path = "/api/images/lacking", tag = "images", params(ImageQuery, PageQuery), responses((status = 200, body = Holders), Refused))]
pub async fn lacking(
    State(app): Ctx,
    _: Session,
    Query(image): Query<ImageQuery>,
    Query(query): Query<PageQuery>,
) -> Answer {
    find(&app, image, &query, false).await
}

/// Satellites that hold an image.
#[utoipa::path(get, path = "/api/images/holding", tag = "images", params(ImageQuery, PageQuery), responses((status = 200, body = Holders), Refused))]
pub async fn holding(
    State(app): Ctx,
    _: Session,
    Query(image): Query<ImageQuery>,
    Query(query): Query<PageQuery>,
) -> Answer {
    find(&app, image, &query, true).await
}

async fn find(app: &crate::app::App, image: ImageQuery, query: &PageQuery, held: bool) -> Answer {
    let reference = image.reference.filter(|r| !r.is_empty());
    let reference = reference.ok_or_else(|| Error::bad("reference: is needed, as in library/web:v1"))?;
    if reference.len() > 512 || Parts::of(&reference) == Parts::default() {
        return Err(Error::bad("reference: must be an image reference of 512 bytes at most"));
    }
    let selector = match &image.selector {
        Some(text) => text.parse().map_err(|e| Error::bad(format!("selector: {e}")))?,
        None => crate::fleet::selector::Selector::default(),
    };
    let page = query.page()?;
    let (limit, after) = (page.limit.unwrap_or(PAGE), page.after_number()?.unwrap_or(0));
    let filter = Filter {
        q: query.q.clone(),
        selector,
        group: image.group,
        image: Some((reference.clone(), held)),
        wants: image.wanted.unwrap_or(false).then(|| reference.clone()),
        ..Filter::default()
    };
    let mut c = app.db.read().await?;
    let total = satellites::count(&mut c, &filter).await?;
    let mut found = satellites::page(&mut c, &filter, after, limit + 1).await?;
    let more = i64::try_from(found.len()).is_ok_and(|n| n > limit);
    if more {
        found.pop();
    }
    let next = found.last().filter(|_| more).map(|s| s.id.to_string());
    let (now, limits) = (db::now(), thresholds(app));
    let satellites = found
        .into_iter()
        .map(|s| Holder {
            state: health::state(s.standing, s.last_seen, s.interval_us, now, &limits).as_str(),
            last_seen: s.last_seen.map(time),
            name: s.name,
        })
        .collect();
    let mut response = reply(StatusCode::OK, &Holders { reference, total, satellites, next: next.clone() })?;
    if let Some(next) = next
        && let Ok(link) = HeaderValue::from_str(&format!("<?limit={limit}&after={next}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
