//! The clock jumps.

use super::facts::{Facts, robots_of};
use super::scene::Scene;
use crate::worlds::{postgres, sqlite};
use satellite_tests::clock::Clock;
use satellite_tests::ground_control::heartbeat;

/// A month passes at once: accounts are renewed before they end, and satellites go on with what they are given.
fn a_month(scene: &mut Scene, clock: &Clock) {
    let mut facts = Facts::default();
    let mut api = scene.admin();
    api.config("c1");
    api.group("one", &[("library/web", "v1", "")]);
    let robot = api.enrol("sat1", &["one"], "c1");
    facts.satellites.insert("sat1".into(), true);
    facts.members.insert(("sat1".into(), "one".into()), true);
    scene.converges(&facts);
    api.sync(&robot, &heartbeat("sat1")).expect(200);
    // Back an hour, as after a wrong battery clock was set right: nothing ends, nobody is locked out.
    for offset in ["-1h", "+0", "+20d"] {
        clock.set(offset);
        // Sessions do end.
        scene.renew();
        api = scene.admin();
        api.sync(&robot, &heartbeat("sat1")).expect(200);
        let active = api.read("/api/satellites/active");
        assert_eq!(active[0]["Name"], "sat1", "{} at {offset}: {active}", scene.name);
        scene.converges(&facts);
    }
    let robots = robots_of(&scene.client()).unwrap();
    assert_eq!(robots.len(), 1, "{robots:?}");
}

#[test]
fn a_clock_that_jumps_back_and_forth_ends_no_account_and_no_satellite() {
    let Some(clock) = Clock::new() else { return };
    let worlds = [
        Scene::start(|change| Some(sqlite(|setup| clock.wrap(change(setup))))),
        Scene::start(|change| postgres(|setup| clock.wrap(change(setup)))),
    ];
    for mut scene in worlds.into_iter().flatten() {
        clock.set("+0");
        a_month(&mut scene, &clock);
    }
}
