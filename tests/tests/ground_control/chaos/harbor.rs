//! Harbor is down, slow, ill, or refuses us.

use super::facts::Facts;
use super::scene::Scene;
use satellite_tests::ground_control::{Robot, heartbeat};
use satellite_tests::harbor::{Fault, Part};
use satellite_tests::http::Response;
use serde_json::json;
use std::time::{Duration, Instant};

/// What the API did is done or will be; what it refused may be either way, but whole.
fn noted(facts: &mut Facts, answer: &Response, done: impl FnOnce(&mut Facts)) {
    match answer.status {
        200..300 => done(facts),
        500..600 => assert!(answer.json()["message"].is_string(), "{}", answer.text()),
        status => panic!("{status} {}", answer.text()),
    }
}

fn changes(scene: &Scene, round: usize, robot: &Robot, facts: &mut Facts) {
    let api = scene.admin();
    let begun = Instant::now();
    let (name, gone) = (format!("s{round}"), format!("old{round}"));
    let project = if round.is_multiple_of(2) { "other" } else { "library" };
    let group = json!({"group": "one", "artifacts": [{"repository": format!("{project}/web"), "tag": ["v1"], "type": "docker", "digest": ""}]});
    facts.groups.remove("one");
    noted(facts, &api.post("/api/groups/sync", &group), |facts| {
        facts.groups.insert("one".into(), Some(project.into()));
    });
    let body = json!({"name": name, "groups": ["one"], "config_name": "c1"});
    noted(facts, &api.post("/api/satellites", &body), |facts| {
        facts.satellites.insert(name.clone(), true);
        facts.members.insert((name.clone(), "one".into()), true);
    });
    facts.satellites.remove(&gone);
    noted(facts, &api.delete(&format!("/api/satellites/{gone}")), |facts| {
        facts.satellites.insert(gone, false);
    });
    assert!(begun.elapsed() < Duration::from_secs(100), "three changes took {:?}", begun.elapsed());
    // The fleet does not notice.
    let begun = Instant::now();
    api.sync(robot, &heartbeat("fixed")).expect(200);
    api.read("/api/satellites");
    assert!(begun.elapsed() < Duration::from_secs(5), "a sync took {:?}", begun.elapsed());
}

fn all_faults(scene: &Scene) {
    let mut facts = Facts::default();
    let api = scene.admin();
    api.config("c1");
    api.group("one", &[("library/web", "v1", "")]);
    let robot = api.enrol("fixed", &["one"], "c1");
    facts.satellites.insert("fixed".into(), true);
    facts.members.insert(("fixed".into(), "one".into()), true);
    let faults = [
        Fault::Cut,
        Fault::CutAfter,
        Fault::Status(500),
        Fault::Down(Part::Postgres),
        Fault::Down(Part::Registry),
        Fault::Down(Part::Core),
        Fault::Slow(Duration::from_secs(1)),
        Fault::Hang,
    ];
    for round in 0..faults.len() {
        api.register(&format!("old{round}"), &["one"], "c1");
    }
    scene.converges(&facts);
    for (round, fault) in faults.into_iter().enumerate() {
        let said = format!("{fault:?}");
        scene.harbor.fail(fault);
        changes(scene, round, &robot, &mut facts);
        scene.harbor.heal();
        let begun = Instant::now();
        scene.converges(&facts);
        eprintln!("{}: {said}, in order again {:.0?} later", scene.name, begun.elapsed());
    }
    for row in api.read("/api/satellites").as_array().unwrap() {
        api.delete(&format!("/api/satellites/{}", row["Name"].as_str().unwrap())).expect(200);
    }
    scene.no_robots();
}

#[test]
fn on_sqlite_whatever_harbor_does_everything_converges_when_it_is_well_again() {
    Scene::sqlite().iter().for_each(all_faults);
}

#[test]
fn on_postgresql_whatever_harbor_does_everything_converges_when_it_is_well_again() {
    Scene::postgres().iter().for_each(all_faults);
}
