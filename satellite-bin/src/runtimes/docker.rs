//! `/etc/docker/daemon.json`: entries put first into its lists; every other byte stays.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;

use super::Error;

/// The host's file.
pub(super) const CONFIG: &str = "/etc/docker/daemon.json";
/// Registries' `hosts.toml`, which Docker 28 with the containerd store reads.
pub(super) const CERTS_D: &str = "/etc/docker/certs.d";

fn unparsable(problem: impl Into<String>) -> Error {
    Error::Unparsable { file: CONFIG.into(), problem: problem.into() }
}

fn keys(text: &str) -> Result<HashMap<Cow<'_, str>, &RawValue>, Error> {
    serde_json::from_str(text).map_err(|e| unparsable(e.to_string()))
}

/// Whether `features.containerd-snapshotter` is on; `None` if it says nothing.
pub(super) fn containerd_store(text: Option<&str>) -> Result<Option<bool>, Error> {
    let Some(text) = text.filter(|t| !t.trim().is_empty()) else { return Ok(None) };
    let Some(features) = keys(text)?.remove("features") else { return Ok(None) };
    let features: serde_json::Value =
        serde_json::from_str(features.get()).map_err(|e| unparsable(e.to_string()))?;
    Ok(features.get("containerd-snapshotter").and_then(serde_json::Value::as_bool))
}

/// Puts `wanted` first in the list `key`, unless it is in it.
pub(super) fn prepend(before: Option<&str>, key: &str, wanted: &str) -> Result<String, Error> {
    let entry = serde_json::Value::from(wanted).to_string();
    let Some(text) = before.filter(|t| !t.trim().is_empty()) else {
        return Ok(format!("{{\n  \"{key}\": [{entry}]\n}}\n"));
    };
    let keys = keys(text)?;
    let (at, piece) = match keys.get(key) {
        Some(raw) => {
            let list: Vec<serde_json::Value> =
                serde_json::from_str(raw.get()).map_err(|_| unparsable(format!("{key:?} is not a list")))?;
            if list.iter().any(|v| v.as_str() == Some(wanted)) {
                return Ok(text.to_string());
            }
            // The raw value is a piece of the text, so its place is known.
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize + 1;
            (start, if list.is_empty() { entry } else { format!("{entry}, ") })
        }
        None => {
            let start = text.find('{').ok_or_else(|| unparsable("it is not an object"))? + 1;
            let comma = if keys.is_empty() { "" } else { "," };
            (start, format!("\n  \"{key}\": [{entry}]{comma}"))
        }
    };
    let after = format!("{}{piece}{}", &text[..at], &text[at..]);
    serde_json::from_str::<serde_json::Value>(&after).map_err(|e| unparsable(e.to_string()))?;
    Ok(after)
}
