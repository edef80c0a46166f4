//! The heartbeat.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use satellite_core::fleet::{Interval, StateKind, Sync, SyncAnswer, SyncEvent, images_digest};

use super::{Ctx, Refused};
use crate::{
    app::App,
    auth::Satellite,
    beats::{Change, Lost},
    db::{self, events::Event, groups, heartbeats::Beat, robots::Caller},
    http::{Error, Json, LARGE, json as reply},
};

/// Bytes of a text that are kept.
const MAX_TEXT: usize = 255;
/// Longest reference of an image.
const MAX_REFERENCE: usize = 512;
/// Longest code of an error, and name of an event.
const MAX_CAUSE: usize = 64;
/// Longest text of an error.
const MAX_MESSAGE: usize = 512;
/// Most events of a heartbeat.
const MAX_EVENTS: usize = 256;
/// Most images of a report.
const MAX_IMAGES: usize = 50_000;
/// Tells a satellite to fetch a new secret.
const REFRESH: &str = "refresh_credentials";

/// Takes a heartbeat. The answer is empty, as the reference's; who asks for JSON (`Accept: application/json`) is told which
/// digests it should run, so that a satellite that runs them need not ask the registry. `images_digest` in the answer says
/// which list of images is known here: a satellite that has the same sends its own `images_digest` in place of
/// `cached_images`. `tag` stands for the whole answer and for what the satellite said: sent back as `unchanged`, with
/// activity, interval, digests and images left out, it is answered by the tag alone while all that is still so.
#[utoipa::path(post, path = "/satellites/sync", tag = "satellite side", request_body(content = serde_json::Value), responses((status = 200, body = Option<serde_json::Value>), Refused), security(("basic" = [])))]
pub async fn sync(
    State(app): Ctx,
    satellite: Satellite,
    headers: HeaderMap,
    Json(body): Json<Sync, LARGE>,
) -> Result<Response, Error> {
    let caller = satellite.caller(&app, &body.name).await?;
    let wants =
        headers.get(header::ACCEPT).is_some_and(|a| a.to_str().is_ok_and(|a| a.contains("application/json")));
    let seen = body.unchanged.clone();
    let (beat, change) = report(&caller, body)?;
    let known = known(&caller, &beat, change.as_ref());
    match app.beats.write(beat, change).await {
        Ok(()) => {}
        Err(Lost::Full) => {
            let message = "Service Unavailable: too many heartbeats at once, try again";
            return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, message)
                .retry_after(std::time::Duration::from_secs(5)));
        }
        Err(Lost::Failed) => {
            return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, "failed to save status"));
        }
    }
    if !wants {
        return Ok(StatusCode::OK.into_response());
    }
    let answer = desired(&app, &caller, &known).await?;
    if answer.tag == seen {
        let SyncAnswer { tag, actions, .. } = answer;
        return reply(StatusCode::OK, &SyncAnswer { tag, actions, ..SyncAnswer::default() });
    }
    reply(StatusCode::OK, &answer)
}

/// What is written down of a satellite after this heartbeat: activity, state, configuration, interval, images.
fn known(caller: &Caller, beat: &Beat, change: Option<&Change>) -> [String; 5] {
    let images = change.and_then(|c| c.images.as_ref()).map(|(_, hash)| hash.clone());
    let images = images.or_else(|| caller.last[4].clone()).unwrap_or_default();
    let Beat { activity, state_digest, config_digest, interval, .. } = beat.clone();
    [activity, state_digest, config_digest, interval.unwrap_or_default(), images]
}

async fn desired(app: &App, caller: &Caller, known: &[String; 5]) -> Result<SyncAnswer, Error> {
    let published = groups::published_of_satellite(&mut *app.db.read().await?, caller.satellite_id).await?;
    let states = published
        .into_iter()
        .filter_map(|(group, digest)| Some((StateKind::Group.url(app.central.url(), &group).ok()?, digest)))
        .collect();
    let answer = SyncAnswer {
        state_digest: caller.state_digest.clone().unwrap_or_default(),
        config_digest: caller.config_digest.clone().unwrap_or_default(),
        states,
        actions: caller.refresh_wanted.then(|| REFRESH.to_string()).into_iter().collect(),
        images_digest: known[4].clone(),
        tag: String::new(),
    };
    Ok(answer.tagged(known))
}

/// Puts back what a heartbeat left out because it has not changed.
fn fill(caller: &Caller, body: &mut Sync) {
    let [activity, state, config, every, _] = caller.last.each_ref().map(Option::as_deref);
    for (field, last) in [
        (&mut body.activity, activity),
        (&mut body.latest_state_digest, state),
        (&mut body.latest_config_digest, config),
        (&mut body.state_report_interval, every),
    ] {
        if field.is_empty() {
            *field = last.unwrap_or_default().into();
        }
    }
}

/// What is written of it, and what is new in it.
fn report(caller: &Caller, mut body: Sync) -> Result<(Beat, Option<Change>), Error> {
    let brief = !body.unchanged.is_empty();
    if brief {
        fill(caller, &mut body);
    }
    // The answer says which list is known here: a satellite that has another sends it with its next heartbeat.
    let images_left_out =
        body.cached_images.is_empty() && body.image_count > 0 && (brief || !body.images_digest.is_empty());
    let interval: Option<Interval> = match body.state_report_interval.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|e| Error::bad("invalid heartbeat interval format").detail(e))?),
    };
    if !(0.0..1000.0).contains(&body.cpu_percent) {
        return Err(Error::bad("cpu_percent: must be 0 or more and less than 1000"));
    }
    let reported_at = match body.request_created_time.as_str() {
        "" => GO_ZERO,
        text => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| Error::bad("Invalid request body").detail("request_created_time: must be RFC 3339"))?
            .as_microsecond(),
    };
    if body.cached_images.len() > MAX_IMAGES {
        return Err(Error::bad(format!("cached_images: at most {MAX_IMAGES}")));
    }
    let mut held = BTreeMap::new();
    for (i, image) in body.cached_images.into_iter().enumerate() {
        if image.reference.len() > MAX_REFERENCE {
            return Err(Error::bad(format!(
                "cached_images[{i}].reference: must have {MAX_REFERENCE} bytes at most"
            )));
        }
        if !image.reference.is_empty() {
            held.entry(image.reference).or_insert(image.size_bytes.max(0));
        }
    }
    let events = events(body.events)?;
    let hash = images_digest(held.keys().map(String::as_str));
    let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "below 100,000")]
    let cpu_centi = (body.cpu_percent * 100.0).round() as i64;
    let beat = Beat {
        satellite_id: caller.satellite_id,
        last_seen: db::now(),
        interval: interval.map(|i| i.to_string()),
        interval_us: interval.map(|i| db::micros(i.duration())),
        activity: cut(body.activity),
        state_digest: cut(body.latest_state_digest),
        config_digest: cut(body.latest_config_digest),
        cpu_centi,
        memory_bytes: clamp(body.memory_used_bytes),
        storage_bytes: clamp(body.storage_used_bytes),
        sync_ms: body.last_sync_duration_ms,
        image_count: body.image_count.clamp(0, i64::from(i32::MAX)),
        reported_at,
        error: body
            .last_error
            .filter(|e| !e.cause.is_empty())
            .map(|e| (cut_to(e.cause, MAX_CAUSE), cut_to(e.message, MAX_MESSAGE))),
    };
    let [activity, state, config, every, images] = &caller.last;
    let same = |before: &Option<String>, now: &str| before.as_deref() == Some(now);
    let other_images = !images_left_out && !same(images, &hash);
    let history = other_images
        || !same(activity, &beat.activity)
        || !same(state, &beat.state_digest)
        || !same(config, &beat.config_digest)
        || every != &beat.interval;
    let change = (history || !events.is_empty()).then(|| Change {
        history,
        events,
        images: other_images.then_some((held, hash)),
    });
    Ok((beat, change))
}

/// Year 1, which is what Go makes of a missing time.
const GO_ZERO: i64 = -62_135_596_800_000_000;

/// What it says that happened, as it is written down.
fn events(said: Vec<SyncEvent>) -> Result<Vec<Event>, Error> {
    if said.len() > MAX_EVENTS {
        return Err(Error::bad(format!("events: at most {MAX_EVENTS}")));
    }
    let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let one = |(i, e): (usize, SyncEvent)| {
        let at: jiff::Timestamp =
            e.at.parse().map_err(|_| Error::bad(format!("events[{i}].at: must be RFC 3339")))?;
        Ok(Event {
            id: 0,
            seq: clamp(e.seq),
            at: at.as_microsecond(),
            event: cut_to(e.event, MAX_CAUSE),
            image: cut_to(e.image, MAX_REFERENCE),
            bytes: clamp(e.bytes),
            total: clamp(e.total),
            cause: cut_to(e.cause, MAX_CAUSE),
        })
    };
    said.into_iter().enumerate().map(one).collect()
}

fn cut(text: String) -> String {
    cut_to(text, MAX_TEXT)
}

/// The first `most` bytes, at a border of characters.
fn cut_to(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn caller() -> Caller {
        Caller::unknown(1, "s")
    }

    fn of(body: serde_json::Value) -> Result<(Beat, Option<Change>), Error> {
        report(&caller(), serde_json::from_value(body).unwrap())
    }

    #[test]
    fn the_first_heartbeat_is_a_change_and_the_same_again_is_none() {
        let body = serde_json::json!({"activity": "a", "state_report_interval": "@every 90s", "cpu_percent": 12.5,
            "cached_images": [{"reference": "a", "size_bytes": 1}, {"reference": "a"}, {"size_bytes": 1}]});
        let (beat, change) = of(body.clone()).unwrap();
        assert_eq!(beat.interval.as_deref(), Some("@every 00h01m30s"));
        assert_eq!((beat.cpu_centi, beat.interval_us), (1250, Some(90_000_000)));
        let (held, hash) = change.unwrap().images.unwrap();
        assert_eq!(held.into_iter().collect::<Vec<_>>(), [("a".to_string(), 1)]);
        let mut again = caller();
        again.last = [Some("a".into()), Some(String::new()), Some(String::new()), beat.interval, Some(hash)];
        assert!(report(&again, serde_json::from_value(body).unwrap()).unwrap().1.is_none());
    }

    #[test]
    fn what_a_heartbeat_leaves_out_is_as_it_was() {
        let first = serde_json::json!({"activity": "a", "state_report_interval": "@every 90s", "image_count": 1,
            "latest_state_digest": "s", "cached_images": [{"reference": "x:1@d", "size_bytes": 1}]});
        let (beat, change) = of(first).unwrap();
        let kept = known(&caller(), &beat, change.as_ref());
        let mut again = caller();
        again.last = kept.clone().map(Some);
        let say = |body: serde_json::Value| report(&again, serde_json::from_value(body).unwrap()).unwrap();

        let (brief, change) = say(serde_json::json!({"unchanged": "t", "image_count": 1, "cpu_percent": 3}));
        assert!(change.is_none());
        assert_eq!((brief.activity.as_str(), brief.interval_us), ("a", Some(90_000_000)));
        assert_eq!(known(&again, &brief, None), kept);

        // The list alone is left out, and stays; an empty one need not be sent to be believed.
        let full = serde_json::json!({"activity": "b", "image_count": 1, "images_digest": "other"});
        assert!(say(full).1.unwrap().images.is_none());
        let none = say(serde_json::json!({"activity": "a", "image_count": 0, "images_digest": "e"}));
        assert!(none.1.unwrap().images.unwrap().0.is_empty());
        // As the reference says that it holds nothing.
        assert!(say(serde_json::json!({"activity": "a"})).1.unwrap().images.unwrap().0.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        for (body, part) in [
            (serde_json::json!({"cpu_percent": 1e9}), "cpu_percent"),
            (serde_json::json!({"cpu_percent": -1}), "cpu_percent"),
            (serde_json::json!({"state_report_interval": "30s"}), "interval"),
            (serde_json::json!({"request_created_time": "yesterday"}), "Invalid request body"),
            (serde_json::json!({"cached_images": [{"reference": "x".repeat(513)}]}), "cached_images[0]"),
        ] {
            let error = of(body).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let (beat, _) = of(serde_json::json!({"activity": "ü".repeat(200)})).unwrap();
        assert_eq!(beat.activity.len(), 254);
        assert_eq!(crate::http::time(beat.reported_at), "0001-01-01T00:00:00Z");
    }
}
