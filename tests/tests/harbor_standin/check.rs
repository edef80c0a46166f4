//! What differs between a recorded answer and one of the stand-in.

use crate::player::Player;
use crate::record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use satellite_tests::http::Response;
use serde_json::Value;
use std::collections::BTreeSet;

/// Headers of the connection, which are no part of an answer; they are not in the recording either.
const TRANSPORT: [&str; 3] = ["content-length", "connection", "date"];

pub(crate) fn differences(player: &Player, record: &Record, answer: &Response) -> Vec<String> {
    let mut found = Vec::new();
    let mut differs = |what: &str, recorded: String, here: String| {
        if recorded != here {
            let call = format!("{} {} ({} {})", record.n, record.case, record.method, record.path);
            found.push(format!("{call}: {what}: recorded {recorded}, here {here}"));
        }
    };
    differs("status", record.status().to_string(), answer.status.to_string());
    let (recorded, here) = header_names(record, answer);
    differs("headers", recorded, here);
    for (name, value) in record.all["answer"].as_object().into_iter().flatten() {
        let Some(value) = value.as_str() else { continue };
        let host = if record.case == "http.host-header-in-realm" { "{host}" } else { &player.harbor.host() };
        let here = answer.header(name).unwrap_or("nothing");
        differs(name, value.replace("{host}", host), here.to_owned());
    }
    if let Some(code) = record.all["code"].as_str().filter(|_| record.method != "HEAD") {
        differs("code", code.into(), answer.code());
    }
    if let Some(fields) = record.all.get("fields") {
        let here = serde_json::from_slice(&answer.body).map(|body: Value| shape(&body)).unwrap_or_default();
        differs("fields", fields.to_string(), here.to_string());
    }
    if let Some(claims) = record.all.get("claims") {
        let here = claims_of(answer);
        let names: Vec<&str> =
            here.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
        differs("claims", claims["names"].to_string(), serde_json::to_string(&names).unwrap());
        differs("access", sorted(&claims["access"]), sorted(&here["access"]));
    }
    found
}

fn header_names(record: &Record, answer: &Response) -> (String, String) {
    let mut recorded: BTreeSet<String> =
        record.all["answer"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()).collect();
    recorded.extend(["set-cookie", "x-request-id"].map(String::from));
    for name in record.all["without"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        recorded.remove(&name.to_lowercase());
    }
    let here = answer.headers.iter().map(|(name, _)| name.to_lowercase());
    let here: BTreeSet<String> = here.filter(|name| !TRANSPORT.contains(&name.as_str())).collect();
    (format!("{recorded:?}"), format!("{here:?}"))
}

/// Names without values; a list stands for its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(list) => list.first().map(shape).into_iter().collect(),
        _ => Value::Null,
    }
}

fn claims_of(answer: &Response) -> Value {
    let token = answer.json()["token"].as_str().unwrap_or_default().to_owned();
    let claims = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap_or_default()).unwrap_or_default()
}

/// Access with its actions in one order.
fn sorted(access: &Value) -> String {
    let mut access = access.clone();
    for entry in access.as_array_mut().into_iter().flatten() {
        if let Some(actions) = entry["actions"].as_array_mut() {
            actions.sort_by_key(ToString::to_string);
        }
    }
    access.to_string()
}
