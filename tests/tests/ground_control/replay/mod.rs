//! The reference's recorded calls, played against ours in their order: what it answered, ours answers.
//!
//! Where the reference is plainly broken, ours differs; [`differences`] lists each with its reason, and the test
//! fails as well when one of them is gone.

mod compare;
mod differences;

use crate::worlds::{World, both};
use compare::{Bindings, compare};
use differences::{DIFFERENCES, Difference};
use satellite_tests::http::{Request, Response};
use serde_json::Value;
use std::fmt::Write as _;

const CALLS: &str = include_str!("../../../data/ground-control-calls.jsonl");

/// A recorded call.
pub(crate) struct Call {
    name: String,
    number: u64,
    value: Value,
}

impl Call {
    fn all() -> Vec<Self> {
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            Self { name: value["case"].as_str().unwrap().into(), number: value["n"].as_u64().unwrap(), value }
        };
        CALLS.lines().map(parse).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value[key].as_str()
    }

    fn request(&self, bindings: &Bindings) -> Request {
        let path = bindings.fill(self.text("path").unwrap());
        let mut request = Request::new(self.text("method").unwrap(), &path);
        if let Some(value) = self.text("auth") {
            request = request.header("Authorization", &bindings.fill(value));
        }
        let body = match (self.text("text"), &self.value["body"]) {
            (Some(text), _) => text.to_owned(),
            (None, Value::Null) => String::new(),
            (None, value) => value.to_string(),
        };
        if body.is_empty() {
            return if request.method == "GET" { request } else { request.header("Content-Length", "0") };
        }
        let kind = self.text("type").unwrap_or("application/json");
        request.header("Content-Type", kind).bytes(bindings.fill(&body))
    }

    /// All that differs between what was recorded and `answer`, a line each.
    fn judge(&self, answer: &Response, bindings: &mut Bindings) -> Vec<String> {
        let mut found = Vec::new();
        let status = self.value["status"].as_u64().unwrap();
        if u64::from(answer.status) != status {
            found.push(format!("status {} instead of {status}", answer.status));
        }
        let kind = answer.header("content-type").map(|kind| kind.replace(' ', "").to_lowercase());
        let recorded = self.text("kind").map(|kind| kind.replace(' ', "").to_lowercase());
        if kind != recorded && !(answer.body.is_empty() && recorded.is_none()) {
            found.push(format!("content type {kind:?} instead of {recorded:?}"));
        }
        if self.value.get("unnamed").is_none() && answer.header("x-request-id").is_none() {
            found.push("no X-Request-Id".into());
        }
        let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| match answer.text() {
            text if text.is_empty() => Value::Null,
            text => Value::String(text),
        });
        compare("", self.value.get("answer").unwrap_or(&Value::Null), &body, bindings, &mut found);
        found
    }
}

fn play(world: &World) {
    let admin = world.server.anonymous();
    let mut bindings = Bindings::new(world.server.address());
    let (mut wrong, mut used) = (String::new(), Vec::new());
    for call in Call::all() {
        let answer = admin.client().send(&call.request(&bindings));
        let found = call.judge(&answer, &mut bindings);
        bindings.after(call.number);
        match Difference::of(&call.name) {
            None if found.is_empty() => {}
            None => {
                let _ = writeln!(wrong, "{} {}: {}", call.number, call.name, found.join("; "));
            }
            Some(difference) => {
                used.push(difference.case);
                eprintln!("{} {}: {} ({})", call.number, call.name, found.join("; "), difference.reason);
                if found.is_empty() {
                    let _ = writeln!(wrong, "{} {}: no difference any more", call.number, call.name);
                } else if !difference.allows(&answer) {
                    let text = answer.text();
                    let _ = writeln!(
                        wrong,
                        "{} {}: another difference than {} {:?}: {} {text}: {}",
                        call.number,
                        call.name,
                        difference.status,
                        difference.says,
                        answer.status,
                        found.join("; ")
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{wrong}", world.name);
    let listed: Vec<&str> = DIFFERENCES.iter().map(|difference| difference.case).collect();
    assert_eq!(used, listed, "the differences that there are, and those that are listed");
    assert_eq!((Call::all().len(), listed.len()), (246, 38), "calls and differences");
}

#[test]
fn the_recorded_calls_of_the_reference_are_answered_alike() {
    both(play);
}
