//! Heartbeats: many behind one address, large ones, and what is made of them.

use crate::worlds::{World, both, postgres, sqlite};
use satellite_tests::clock::Clock;
use satellite_tests::ground_control::{Api, Robot, heartbeat};
use serde_json::{Value, json};

fn images(count: usize) -> Vec<Value> {
    let one = |n: usize| json!({"reference": format!("127.0.0.1:8585/library/app{n}:v1@sha256:{n:064x}"), "size_bytes": n});
    (0..count).map(one).collect()
}

fn site(world: &World) -> (Api, Vec<(String, Robot)>) {
    let admin = world.server.admin();
    admin.config("c1");
    admin.group("g1", &[]);
    let one = |n: usize| {
        let name = format!("gate-{n}");
        let robot = admin.enrol(&name, &["g1"], "c1");
        (name, robot)
    };
    let all = (0..200).map(one).collect();
    (admin, all)
}

#[test]
fn a_site_of_two_hundred_gateways_behind_one_address_registers_and_syncs() {
    both(|world| {
        let (admin, site) = site(world);
        for round in 0..3 {
            for (name, robot) in &site {
                let answer = admin.sync(robot, &heartbeat(name));
                assert_eq!(answer.status, 200, "{}: {name} in round {round}: {}", world.name, answer.text());
            }
        }
        // Their users log in from there as well.
        world.server.admin();
        let active = admin.read("/api/satellites/active");
        assert_eq!(active.as_array().unwrap().len(), 200, "{}", world.name);
    });
}

#[test]
fn one_satellite_that_does_not_stop_is_slowed_down_and_its_neighbours_are_not() {
    both(|world| {
        let admin = world.server.admin();
        admin.config("c1");
        let (wild, calm) = (admin.enrol("wild", &[], "c1"), admin.enrol("calm", &[], "c1"));
        let refused =
            (0..2000).map(|_| admin.sync(&wild, &heartbeat("wild"))).find(|answer| answer.status != 200);
        let refused =
            refused.unwrap_or_else(|| panic!("{}: 2000 syncs of one satellite in a row", world.name));
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").is_some(), "no Retry-After");
        admin.sync(&calm, &heartbeat("calm")).expect(200);
    });
}

#[test]
fn ten_thousand_images_are_taken_listed_and_not_written_twice() {
    both(|world| {
        let admin = world.server.admin();
        admin.config("c1");
        let robot = admin.enrol("sat1", &[], "c1");
        let mut body = heartbeat("sat1");
        body["cached_images"] = images(10_000).into();
        body["image_count"] = json!(10_000);
        admin.sync(&robot, &body).expect(200);
        admin.sync(&robot, &body).expect(200);
        let listed = admin.read("/api/satellites/sat1/images");
        assert_eq!(listed.as_array().unwrap().len(), 10_000, "{}", world.name);
        // Without most of them again.
        body["cached_images"] = images(3).into();
        admin.sync(&robot, &body).expect(200);
        let listed = admin.read("/api/satellites/sat1/images");
        assert_eq!(listed.as_array().unwrap().len(), 3, "{}", world.name);
        assert_eq!(admin.read("/api/satellites/sat1/status")["ImageCount"]["Int32"], 10_000);
    });
}

#[test]
fn a_satellite_is_active_for_three_intervals_and_stale_after() {
    let Some(clock) = Clock::new() else { return };
    let worlds = [Some(sqlite(|setup| clock.wrap(setup))), postgres(|setup| clock.wrap(setup))];
    for world in worlds.into_iter().flatten() {
        clock.set("+0");
        let admin = world.server.admin();
        admin.config("c1");
        let (fast, slow) = (admin.enrol("fast", &[], "c1"), admin.enrol("slow", &[], "c1"));
        admin.register("never", &[], "c1");
        for (name, robot, interval) in [("fast", &fast, "@every 10s"), ("slow", &slow, "@every 1h")] {
            let mut body = heartbeat(name);
            body["state_report_interval"] = json!(interval);
            admin.sync(robot, &body).expect(200);
        }
        let names = |list: &str| -> Vec<String> {
            let list = admin.read(&format!("/api/satellites/{list}"));
            let mut names: Vec<String> = list
                .as_array()
                .into_iter()
                .flatten()
                .map(|row| row["Name"].as_str().unwrap().into())
                .collect();
            names.sort();
            names
        };
        for (offset, active, stale) in [
            ("+25s", &["fast", "slow"][..], &[][..]),
            ("+35s", &["slow"], &["fast"]),
            ("+2h", &["slow"], &["fast"]),
            ("+4h", &[], &["fast", "slow"]),
            // A clock that is set back makes nobody younger than new.
            ("+1s", &["fast", "slow"], &[]),
        ] {
            clock.set(offset);
            assert_eq!(names("active"), active, "{} at {offset}", world.name);
            assert_eq!(names("stale"), stale, "{} at {offset}", world.name);
        }
    }
}
