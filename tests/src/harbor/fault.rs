//! Failures on demand.

use super::message::Request;
use std::time::Duration;

/// A part of Harbor that can be down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The database: right credentials get 401, writes 500.
    Postgres,
    /// The cache: everything works, slowly.
    Redis,
    /// The registry behind: `/v2/` answers 502 with an empty body, the rest works.
    Registry,
    /// Core: its front answers 502 with HTML.
    Core,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A part is down. Given with `fail_on` it is down for these calls only.
    Down(Part),
    /// The answer comes so much later.
    Slow(Duration),
    /// Nothing is done, and this status answered, with an error body of Harbor's.
    Status(u16),
    /// Nothing is done, and the connection closed.
    Cut,
    /// It is done, and the connection closed before the answer.
    CutAfter,
    /// It waits for ever, that is until `heal`, and then closes.
    Hang,
}

#[derive(Debug)]
struct Rule {
    method: String,
    target: String,
    /// Calls that go through before.
    skip: usize,
    left: usize,
    fault: Fault,
}

/// Rules that hold now.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Rule>);

impl Faults {
    pub(super) fn add(&mut self, method: &str, target: &str, skip: usize, times: usize, fault: Fault) {
        self.0.push(Rule { method: method.into(), target: target.into(), skip, left: times, fault });
    }

    /// What happens to this call; counts it.
    pub(super) fn of(&mut self, request: &Request) -> Vec<Fault> {
        let mut all = Vec::new();
        for rule in &mut self.0 {
            let hit = (rule.method.is_empty() || rule.method == request.method)
                && request.target.contains(&rule.target);
            if hit && rule.skip > 0 {
                rule.skip -= 1;
            } else if hit && rule.left > 0 {
                rule.left -= usize::from(rule.left != usize::MAX);
                all.push(rule.fault.clone());
            }
        }
        all
    }
}
