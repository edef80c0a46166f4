//! The Harbor stand-in is what a real Harbor was recorded to be: the recorded calls are replayed in order, and each answer
//! has the same status, header names, error code and fields of the body.
//!
//! `tests/data/harbor-transcripts.jsonl` has a call a line: who, method, path, headers and body as sent; status, `answer`
//! (header names, with the value where it is always the same), `without` (headers that nearly every answer has, and this
//! one has not), `code`, `fields` (the body's shape: a list stands for its first element), `claims` (of the token in it).
//! `{…}` are places for what the replay knows: passwords, cookies, tokens, the address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod check;
mod player;
mod record;
mod scenery;

use player::Player;
use record::Record;
use satellite_tests::harbor::{Fault, Harbor, Options, Part};
use satellite_tests::http::Client;
use std::time::Duration;

/// Recorded calls that the stand-in does not answer. They are not in the file.
const LEFT_OUT: &[(std::ops::RangeInclusive<u64>, &str)] = &[
    (277..=278, "direct to core, without the front: the stand-in has the front only"),
    (306..=306, "the build history of an image, which nothing of ours reads"),
    (352..=379, "webhooks and what they delivered: nothing of ours subscribes"),
    (426..=426, "the volumes of its machine"),
    (427..=427, "its audit log"),
    (474..=475, "its garbage collection: blobs that nothing names cost a stand-in nothing"),
];

/// Calls that were recorded, and how many of them are replayed.
const RECORDED: u64 = 497;
const REPLAYED: usize = 462;

#[test]
fn recorded_calls_are_answered_as_they_were() {
    let records = Record::all();
    let left_out: u64 = LEFT_OUT
        .iter()
        .map(|(range, why)| {
            assert!(!why.is_empty() && records.iter().all(|r| !range.contains(&r.n)));
            range.end() - range.start() + 1
        })
        .sum();
    assert_eq!(records.len() as u64 + left_out, RECORDED);
    let options = Options { redis: Duration::from_millis(20), ..Options::default() };
    let mut player = Player::new(Harbor::with(options));
    let mut wrong = Vec::new();
    let mut replayed = 0;
    for record in &records {
        scenery::before(&mut player, record.n);
        let answer = player.play(record);
        wrong.extend(check::differences(&player, record, &answer));
        replayed += 1;
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(replayed, REPLAYED);
}

#[test]
fn failures_come_as_they_were_ordered_and_go() {
    let harbor = Harbor::start();
    let client = harbor.client();
    harbor.fail_on("GET", "/robots", 1, Fault::Status(503));
    client.get("/api/v2.0/projects").expect(200);
    client.get("/api/v2.0/robots").expect(503);
    client.get("/api/v2.0/robots").expect(200);
    harbor.fail_after(1, Fault::Cut);
    client.get("/api/v2.0/robots").expect(200);
    let get = satellite_tests::http::Request::new("GET", "/api/v2.0/robots");
    assert!(client.try_send(&get).is_err());
    client.get("/api/v2.0/robots").expect(200);
    harbor.fail_on("POST", "/projects", 1, Fault::CutAfter);
    let post = satellite_tests::http::Request::new("POST", "/api/v2.0/projects")
        .header("Content-Type", "application/json")
        .bytes("{\"project_name\":\"edge\"}");
    assert!(client.try_send(&post).is_err());
    assert_eq!(harbor.projects(), ["library", "edge"], "done, and not answered");
    harbor.fail(Fault::Slow(Duration::from_millis(150)));
    let begun = std::time::Instant::now();
    client.get("/api/v2.0/ping").expect(200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    harbor.heal();
    harbor.fail(Fault::Down(Part::Postgres));
    client.get("/api/v2.0/robots").expect(401);
    let anonymous = Client::new(harbor.address());
    let health = anonymous.get("/api/v2.0/health").expect(200).json();
    assert_eq!(health["status"], "unhealthy");
    harbor.heal();
    harbor.fail(Fault::Hang);
    let waiting = std::thread::spawn(move || anonymous.try_send(&get).is_err());
    satellite_tests::wait::until(Duration::from_secs(5), "the call that hangs", || {
        harbor.calls().last().is_some_and(|c| c.status == 0 && c.user.is_empty()).then_some(())
    });
    harbor.heal();
    assert!(waiting.join().unwrap());
    client.get("/api/v2.0/robots").expect(200);
}
