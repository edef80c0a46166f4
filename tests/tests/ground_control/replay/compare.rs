//! Whether an answer is what was recorded, but for what differs in each run.

use satellite_tests::ground_control::basic;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Numbers that a database gives out as it likes.
const NUMBERS: &[&str] = &["ID", "id", "SatelliteID"];

/// What the `{names}` in recorded text stand for in this run.
pub(crate) struct Bindings(BTreeMap<String, String>);

impl Bindings {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let digest = "sha256:eec56f23d46d3e54662453b8da4f7523311afc006e079b85e70e6f61e673855f";
        let known = [
            ("time", "2026-11-24T12:00:00Z".to_owned()),
            ("digest", digest.to_owned()),
            ("ground-control", server.to_string()),
        ];
        Self(known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Recorded text with what is known put in.
    pub(crate) fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    /// The names under which later calls use what a call answered.
    pub(crate) fn after(&mut self, call: u64) {
        let mut also = |from: &str, to: &str| {
            if let Some(value) = self.0.get(from).cloned() {
                self.0.insert(to.into(), value);
            }
        };
        match call {
            14 => also("token-of-14", "admin-token"),
            49 => also("token-of-49", "ops-token"),
            67 => also("token-of-67", "admin-token-2"),
            68 => also("token-of-68", "ops-token-3"),
            128 => also("token-of-128", "ztr-token-sat1"),
            131 => also("token-of-131", "ztr-token-sat3"),
            152 | 158 => {
                let name = if call == 152 { "sat1" } else { "sat3" };
                if let Some(secret) = self.0.get(&format!("robot-secret-of-{call}")) {
                    let basic = basic(&format!("robot${name}"), secret);
                    let value = basic.trim_start_matches("Basic ").to_owned();
                    self.0.insert(format!("robot-basic-{name}"), value);
                }
            }
            _ => {}
        }
    }

    /// True if `ours` is the recorded text; learns what a name stands for where it is met first.
    fn matches(&mut self, recorded: &str, ours: &str) -> bool {
        if recorded == "{time}" {
            return is_time(ours);
        }
        let filled = self.fill(recorded);
        let Some((before, rest)) = filled.split_once('{') else { return filled == ours };
        let Some((name, after)) = rest.split_once('}') else { return filled == ours };
        let Some(value) = ours.strip_prefix(before) else { return false };
        let end = match after.find(['{', '}']).map_or(after, |end| &after[..end]) {
            "" => value.len(),
            mark => value.find(mark).unwrap_or(value.len()),
        };
        if end == 0 {
            return false;
        }
        self.0.insert(name.into(), value[..end].into());
        &value[end..] == after
    }
}

/// `YYYY-MM-DDTHH:MM:SS`, fractions, and a zone.
fn is_time(text: &str) -> bool {
    let (bytes, shape) = (text.as_bytes(), b"0000-00-00T00:00:00");
    let alike = |(byte, mark): (&u8, &u8)| if *mark == b'0' { byte.is_ascii_digit() } else { byte == mark };
    let zone =
        text.get(shape.len()..).map(|rest| rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()));
    bytes.len() > shape.len() && bytes.iter().zip(shape).all(alike) && matches!(zone, Some("Z" | "+00:00"))
}

/// Adds a line for everything in which `ours` is not what was recorded.
pub(crate) fn compare(
    at: &str,
    recorded: &Value,
    ours: &Value,
    known: &mut Bindings,
    found: &mut Vec<String>,
) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (name, value) in recorded {
                match ours.get(name) {
                    Some(ours) => compare(&format!("{at}.{name}"), value, ours, known, found),
                    None => found.push(format!("{at}.{name} is missing")),
                }
            }
            found.extend(
                ours.keys()
                    .filter(|name| !recorded.contains_key(*name))
                    .map(|name| format!("{at}.{name} is new: {}", ours[name])),
            );
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if recorded.len() != ours.len() {
                found.push(format!("{at} has {} elements instead of {}", ours.len(), recorded.len()));
            }
            for (n, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                compare(&format!("{at}[{n}]"), recorded, ours, known, found);
            }
        }
        (Value::String(recorded), Value::String(ours)) if known.matches(recorded, ours) => {}
        (Value::Number(_), Value::Number(_)) if is_number(at) => {}
        _ if recorded == ours => {}
        _ => found.push(format!("{at} is {} instead of {}", brief(ours), brief(recorded))),
    }
}

/// True for places whose numbers are the database's own choice.
fn is_number(at: &str) -> bool {
    let last = at.rsplit('.').next().unwrap_or_default();
    NUMBERS.contains(&last) || last.starts_with("ArtifactIds[")
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(recorded: &Value, ours: &Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("", recorded, ours, &mut Bindings::new("127.0.0.1:1".parse().unwrap()), &mut found);
        found
    }

    #[test]
    fn names_are_learnt_and_held_to() {
        let mut known = Bindings::new("127.0.0.1:1".parse().unwrap());
        assert!(known.matches("http://{harbor}/x", "http://127.0.0.1:5/x"));
        assert_eq!(known.fill("at {harbor}"), "at 127.0.0.1:5");
        assert!(!known.matches("http://{harbor}", "http://127.0.0.1:6"));
        assert!(known.matches("{token-of-1}", "abc") && !known.matches("{token-of-1}", "abd"));
        assert!(!known.matches("{token-of-2}", ""));
    }

    #[test]
    fn times_are_times() {
        assert!(is_time("2026-11-24T12:00:00Z") && is_time("0001-01-01T00:00:00.123456Z"));
        assert!(!is_time("2026-11-24 12:00:00Z") && !is_time("2026-11-24T12:00:00") && !is_time(""));
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        assert!(differences(&json!({"ID": 1, "a": [null]}), &json!({"ID": 7, "a": [null]})).is_empty());
        for ours in
            [json!({}), json!({"a": 2}), json!({"a": "1"}), json!({"a": 1, "b": 1}), json!([]), json!(null)]
        {
            assert!(!differences(&json!({"a": 1}), &ours).is_empty(), "{ours}");
        }
        assert!(!differences(&json!(null), &json!([])).is_empty());
        assert!(!differences(&json!([1]), &json!([1, 1])).is_empty());
    }
}
