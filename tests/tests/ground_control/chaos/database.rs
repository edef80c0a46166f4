//! The database goes away and comes back.

use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{Api, Setup, heartbeat};
use satellite_tests::postgres::Cluster;
use satellite_tests::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Registers until told to stop; gives the names that were acknowledged.
fn register(api: &Api, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{prefix}-{n}");
        let body = json!({"name": name, "groups": ["g1"], "config_name": "c1"});
        match api.client().try_send(&api.json("POST", "/api/satellites", &body)) {
            Ok(answer) if answer.status == 200 => acknowledged.push(name),
            Ok(answer) => assert!(answer.status >= 500, "{name}: {} {}", answer.status, answer.text()),
            Err(error) => panic!("{name}: the server itself went away: {error}"),
        }
    }
    acknowledged
}

#[test]
fn a_database_that_stops_or_crashes_and_comes_back_costs_no_acknowledged_change_and_no_restart() {
    let Some(cluster) = Cluster::durable() else { return };
    let (database, dir) = (cluster.database(), Dir::new());
    let mut server = Setup::new(dir.join("data")).database(&database).start();
    let api = server.admin();
    api.config("c1");
    api.group("g1", &[]);
    let robot = api.enrol("steady", &["g1"], "c1");
    let stop = AtomicBool::new(false);
    let acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b"]
            .map(|prefix| {
                scope.spawn({
                    let (api, stop) = (&api, &stop);
                    move || register(api, prefix, stop)
                })
            })
            .into();
        for crash in [false, true] {
            let count = || api.read("/api/satellites").as_array().map_or(0, Vec::len);
            let before = count();
            wait::until(LONG, "some registrations", || (count() > before + 5).then_some(()));
            if crash {
                cluster.crash();
            } else {
                cluster.stop();
            }
            let health = wait::until(LONG, "the server to notice", || {
                Some(server.client().get("/health")).filter(|answer| answer.status == 503)
            });
            assert_eq!(health.json(), json!({"status": "unhealthy"}));
            let refused = api.get("/api/groups");
            assert!(
                refused.status >= 500 && refused.json()["message"].is_string(),
                "{} {}",
                refused.status,
                refused.text()
            );
            assert_eq!(server.client().get("/ping").status, 200);
            cluster.start();
            wait::until(LONG, "the server's recovery", || {
                (server.client().get("/health").status == 200).then_some(())
            });
            wait::until(LONG, "a sync", || {
                (api.sync(&robot, &heartbeat("steady")).status == 200).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(server.daemon().ended().is_none());
    let listed: BTreeSet<String> = api
        .read("/api/satellites")
        .as_array()
        .unwrap()
        .iter()
        .map(|row: &Value| row["Name"].as_str().unwrap().into())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&listed).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?} of {}", acknowledged.len());
    assert!(acknowledged.len() > 10);
}
