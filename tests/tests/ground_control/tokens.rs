//! One-time tokens: used, raced, unknown, expired.

use crate::worlds::{World, both, postgres, sqlite};
use satellite_tests::clock::Clock;
use satellite_tests::ground_control::{GroundControl, Robot, heartbeat};
use satellite_tests::http::Response;
use std::sync::Barrier;

/// Fifty exchanges of a token at once, over these servers in turn.
pub(crate) fn race(servers: &[&GroundControl], token: &str) -> Vec<Response> {
    let barrier = Barrier::new(50);
    let path = format!("/satellites/ztr/{token}");
    std::thread::scope(|scope| {
        let one = |n: usize| {
            let (client, barrier, path) = (servers[n % servers.len()].client(), &barrier, &path);
            scope.spawn(move || {
                barrier.wait();
                client.get(path)
            })
        };
        let all: Vec<_> = (0..50).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Of fifty exchanges one succeeds; its account works.
#[track_caller]
pub(crate) fn one_of(world: &str, answers: &[Response]) -> Robot {
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "{world}: {:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(
            (lost.status, lost.json()["message"].as_str()),
            (400, Some("Error: Invalid Token")),
            "{world}"
        );
    }
    Robot::of(&won[0].json())
}

fn raced(world: &World) {
    let admin = world.server.admin();
    admin.config("c1");
    admin.group("g1", &[]);
    let token = admin.register("sat1", &["g1"], "c1");
    let robot = one_of(world.name, &race(&[&world.server], &token));
    admin.sync(&robot, &heartbeat("sat1")).expect(200);
    admin.get(&format!("/satellites/ztr/{token}")).expect(400);
}

#[test]
fn a_token_that_fifty_use_at_once_serves_one() {
    both(raced);
}

#[test]
fn a_token_is_of_no_use_after_a_day_and_neither_is_a_session() {
    let clock = Clock::new();
    let Some(clock) = clock else { return };
    let worlds = [Some(sqlite(|setup| clock.wrap(setup))), postgres(|setup| clock.wrap(setup))];
    for world in worlds.into_iter().flatten() {
        clock.set("+0");
        let admin = world.server.admin();
        admin.config("c1");
        let (early, late) = (admin.register("sat1", &[], "c1"), admin.register("sat2", &[], "c1"));
        clock.set("+23h");
        admin.get(&format!("/satellites/ztr/{early}")).expect(200);
        clock.set("+25h");
        let answer = admin.get(&format!("/satellites/ztr/{late}")).expect(401);
        assert_eq!(answer.json()["message"], "Error: Token Expired", "{}", world.name);
        admin.get("/api/users").expect(401);
        world.server.admin().get("/api/satellites").expect(200);
    }
}
