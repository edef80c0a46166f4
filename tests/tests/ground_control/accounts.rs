//! Users, sessions, passwords and the lockout.

use crate::worlds::{both_with, postgres, sqlite};
use satellite_tests::ground_control::{Api, PASSWORD, basic};
use satellite_tests::wait;
use serde_json::json;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

#[track_caller]
fn login(api: &Api, user: &str, password: &str) -> u16 {
    api.post("/login", &json!({"username": user, "password": password})).status
}

#[test]
fn five_failures_lock_an_account_by_login_and_by_basic_alike_and_no_other_account() {
    both_with(
        |setup| setup.env("LOCKOUT_DURATION", "3s").env("LOGIN_FAILURES_PER_MINUTE", "100000"),
        |world| {
            let api = world.server.anonymous();
            let admin = world.server.admin();
            admin.user("first", "Firstpass1");
            admin.user("second", "Secondpass1");
            for _ in 0..5 {
                assert_eq!(login(&api, "first", "nope"), 401);
            }
            assert_eq!(login(&api, "first", "Firstpass1"), 401, "{}: not locked", world.name);
            let by_basic = api.with(basic("first", "Firstpass1")).get("/api/users").status;
            assert_eq!(by_basic, 401, "{}: Basic is a way round the lockout", world.name);
            assert_eq!(
                login(&api, "second", "Secondpass1"),
                200,
                "{}: another account is locked",
                world.name
            );
            assert_eq!(login(&api, "admin", PASSWORD), 200);
            wait::until(LONG, "the end of the lockout", || {
                (login(&api, "first", "Firstpass1") == 200).then_some(())
            });
            // Failures by Basic count as well.
            for _ in 0..5 {
                api.with(basic("second", "nope")).get("/api/users").expect(401);
            }
            assert_eq!(login(&api, "second", "Secondpass1"), 401, "{}: Basic does not count", world.name);
        },
    );
}

#[test]
fn a_session_ends_by_time_by_logout_and_by_a_change_of_the_password() {
    both_with(
        |setup| setup.env("SESSION_DURATION", "4s"),
        |world| {
            let admin = world.server.admin();
            let one = admin.user("ops", "Opspassw0rd");
            let other = admin.login("ops", "Opspassw0rd");
            one.post("/api/logout", &json!({})).expect(204);
            one.get("/api/users").expect(401);
            other.get("/api/users").expect(200);
            let change = json!({"current_password": "Opspassw0rd", "new_password": "Newpassw0rd1"});
            other.patch("/api/users/password", &change).expect(204);
            other.get("/api/users").expect(401);
            assert_eq!(login(&admin, "ops", "Opspassw0rd"), 401);
            let third = admin.login("ops", "Newpassw0rd1");
            wait::until(LONG, "the end of a session", || {
                (third.get("/api/users").status == 401).then_some(())
            });
            let admin = world.server.admin();
            let fourth = admin.login("ops", "Newpassw0rd1");
            admin.patch("/api/users/ops/password", &json!({"new_password": "Newpassw0rd2"})).expect(204);
            fourth.get("/api/users").expect(401);
            let fifth = admin.login("ops", "Newpassw0rd2");
            admin.delete("/api/users/ops").expect(204);
            fifth.get("/api/users").expect(401);
            admin.get("/api/users").expect(200);
        },
    );
}

#[test]
fn sessions_and_the_administrator_outlive_a_restart() {
    for world in [Some(sqlite(|setup| setup)), postgres(|setup| setup)].into_iter().flatten() {
        let admin = world.server.admin();
        admin.user("ops", "Opspassw0rd");
        let mut server = world.server;
        server.revive();
        let again = server.anonymous().with(admin.authorization().unwrap());
        assert_eq!(again.read("/api/users")[0]["username"], "ops");
        server.admin();
        server.anonymous().login("ops", "Opspassw0rd");
        assert!(server.stop().success());
    }
}

#[test]
fn passwords_and_tokens_are_neither_in_the_log_nor_in_the_database_as_they_are() {
    let Some(mut world) = postgres(|setup| setup.env("RUST_LOG", "debug")) else { return };
    let admin = world.server.admin();
    admin.user("ops", "Opspassw0rd");
    admin.config("c1");
    admin.group("g1", &[]);
    let token = admin.register("sat1", &["g1"], "c1");
    let robot = admin.exchange(&token);
    admin.sync(&robot, &satellite_tests::ground_control::heartbeat("sat1")).expect(200);
    let other = admin.register("sat2", &["g1"], "c1");
    let session = admin.authorization().unwrap().trim_start_matches("Bearer ").to_owned();
    let secrets = [PASSWORD, "Opspassw0rd", &token, &other, &robot.password, &session];
    let log = world.server.daemon().log();
    for secret in secrets {
        assert!(!log.contains(secret), "a secret is in the log:\n{log}");
    }
    let dump = world.database.as_ref().unwrap().dump();
    assert!(dump.contains("sat2"), "not a dump: {dump}");
    for secret in secrets {
        assert!(!dump.contains(secret), "{secret} is in the database in clear");
    }
}
