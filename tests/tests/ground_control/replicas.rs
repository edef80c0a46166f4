//! Two servers with nothing in common but one PostgreSQL.

use crate::tokens::{one_of, race};
use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{GroundControl, PASSWORD, Setup, heartbeat};
use satellite_tests::postgres::{Cluster, Database};
use serde_json::json;
use std::net::SocketAddr;

struct Pair {
    servers: [GroundControl; 2],
    database: Database,
    _dirs: [Dir; 2],
}

fn pair() -> Option<Pair> {
    let database = Cluster::shared()?.database();
    let dirs = [Dir::new(), Dir::new()];
    let servers = [0, 1].map(|n| Setup::new(dirs[n].join("data")).database(&database).start());
    Some(Pair { servers, database, _dirs: dirs })
}

#[test]
fn sessions_lockouts_and_changes_are_the_same_on_both_replicas() {
    let Some(pair) = pair() else { return };
    let [one, two] = &pair.servers;
    let here = one.admin();
    let there = two.anonymous().with(here.authorization().unwrap());
    there.get("/api/users").expect(200);
    here.config("c1");
    assert_eq!(there.read("/api/configs")[0]["ConfigName"], "c1");
    there.user("ops", "Opspassw0rd");
    for n in 0..5 {
        let api = pair.servers[n % 2].anonymous();
        api.post("/login", &json!({"username": "ops", "password": "nope"})).expect(401);
    }
    for server in &pair.servers {
        let right = json!({"username": "ops", "password": "Opspassw0rd"});
        server.anonymous().post("/login", &right).expect(401);
    }
    there.post("/api/logout", &json!({})).expect(204);
    here.get("/api/users").expect(401);
}

#[test]
fn a_token_raced_over_both_replicas_serves_one_and_its_account_works_on_both() {
    let Some(pair) = pair() else { return };
    let [one, two] = &pair.servers;
    let admin = one.admin();
    admin.config("c1");
    let token = admin.register("sat1", &[], "c1");
    let robot = one_of("replicas", &race(&[one, two], &token));
    for server in [one, two] {
        server.anonymous().sync(&robot, &heartbeat("sat1")).expect(200);
        let active = server.admin().read("/api/satellites/active");
        assert_eq!(active[0]["Name"], "sat1");
    }
    // Gone on one is gone on the other, whatever that remembers.
    admin.delete("/api/satellites/sat1").expect(200);
    for server in [one, two] {
        server.anonymous().sync(&robot, &heartbeat("sat1")).expect(401);
    }
    assert_eq!(pair.database.query("SELECT count(*) FROM satellites"), "0");
}

#[test]
fn an_empty_database_that_many_start_on_at_once_is_set_up_once() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.database();
    let dirs: Vec<Dir> = (0..6).map(|_| Dir::new()).collect();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let starting: Vec<_> =
        dirs.iter().map(|dir| Setup::new(dir.join("data")).database(&database).try_start(any)).collect();
    let servers: Vec<_> = starting.into_iter().map(satellite_tests::ground_control::Starting::wait).collect();
    for server in &servers {
        server.anonymous().login("admin", PASSWORD);
    }
    assert_eq!(database.query("SELECT count(*) FROM users"), "1", "administrators");
}

/// Batches of both that hold the same satellites in different orders stood in each other's way for good.
#[test]
fn heartbeats_of_the_same_satellites_on_both_replicas_at_once_are_all_taken() {
    let Some(pair) = pair() else { return };
    let admin = pair.servers[0].admin();
    admin.config("c1");
    let robots: Vec<_> = (0..60).map(|n| admin.enrol(&format!("sat-{n}"), &[], "c1")).collect();
    let (threads, rounds) = (48, 25);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (server, robots) = (&pair.servers[thread % 2], &robots);
            scope.spawn(move || {
                let api = server.anonymous();
                for round in 0..rounds {
                    // Half go up through the satellites, half down, so that batches are never in one order.
                    let n = (thread * 7 + round) % robots.len();
                    let n = if thread % 4 < 2 { n } else { robots.len() - 1 - n };
                    let mut body = heartbeat("");
                    body["activity"] = json!(format!("{thread} {round}"));
                    api.sync(&robots[n], &body).expect(200);
                }
            });
        }
    });
    let active = admin.read("/api/satellites/active");
    assert!(active.as_array().is_some_and(|rows| !rows.is_empty()), "{active}");
}
