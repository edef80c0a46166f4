//! A satellite's configuration (`config.json`), which is also what a configuration's state artifact holds.
//!
//! It stays a JSON value, so that fields unknown here travel on. [`problems`] says what is wrong with the known ones,
//! [`printed`] gives the form in which the reference stores and shows one.

mod fields;
mod rules;

use serde_json::{Map, Value};

use fields::{FIELDS, Kind};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A satellite warns, and goes on with the default.
    Ignored,
    /// A satellite keeps its old configuration.
    Refused,
    /// Of the wrong type: it cannot be read at all.
    Type,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Problem {
    /// `app_config.heartbeat_interval`.
    pub field: String,
    /// What is expected there. Never what was given: it may be a password in the wrong place.
    pub problem: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Everything that is wrong with the known fields, in the order of the document's description; unknown fields are
/// nobody's business. `null` is as good as absent.
pub fn problems(config: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    if !config.is_object() && !config.is_null() {
        found.push(Problem {
            field: "config".into(),
            problem: "must be an object".into(),
            severity: Severity::Type,
        });
        return found;
    }
    for (path, kind) in FIELDS {
        let Some(value) = at(config, path).filter(|v| !v.is_null()) else { continue };
        if let Err((severity, problem)) = kind.check(value) {
            found.push(Problem { field: (*path).into(), problem, severity });
        }
    }
    // Rules between fields make no sense where types are wrong.
    if found.iter().all(|p| p.severity < Severity::Type) {
        rules::check(config, &mut found);
    }
    found
}

/// The form in which the reference prints a configuration: values that mean "not set" are left out, objects are there
/// although empty. Here unknown fields stay, which the reference drops.
#[must_use]
pub fn printed(config: &Value) -> Value {
    let mut out = config.as_object().cloned().unwrap_or_default();
    for (path, kind) in FIELDS {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let Some(parent) = object(&mut out, parents) else { continue };
        if matches!(kind, Kind::Object) {
            let entry = parent.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if entry.is_null() {
                *entry = Value::Object(Map::new());
            }
        } else if parent.get(name).is_some_and(|v| kind.is_unset(v)) {
            parent.remove(name);
        }
    }
    Value::Object(out)
}

/// The value at a path of names with dots between.
fn at<'a>(config: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(config, |value, name| value.get(name))
}

/// The object at a path, if it is one.
fn object<'a>(top: &'a mut Map<String, Value>, path: &str) -> Option<&'a mut Map<String, Value>> {
    path.split('.')
        .filter(|name| !name.is_empty())
        .try_fold(top, |map, name| map.get_mut(name).and_then(Value::as_object_mut))
}
