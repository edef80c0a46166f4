//! Harbor when it is ill, slow, frozen or gone, and when calls to it are lost.

use crate::harbor::{central, pulls, settings};
use crate::{STATE, failure, run, want};
use ground_control::central::{Central, Harbor, HarborSettings, Health};
use satellite_core::remote::Secret;
use satellite_tests::harbor::{self as standin, Fault, Part};
use std::time::{Duration, Instant};

#[test]
fn a_harbor_that_is_ill_is_not_believed() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        let made = central.ensure_robot(&want("sat1", &["satellite"])).await.unwrap();
        assert_eq!(central.health().await, Health::Well);
        // Right credentials get 401 then: its own report is asked, and nothing is concluded.
        harbor.fail(Fault::Down(Part::Postgres));
        assert_eq!(central.health().await, Health::Ill("unhealthy: database".into()));
        assert_eq!(failure(central.project_exists("satellite").await), ("ill", true));
        assert_eq!(failure(central.rotate_robot(&made.id).await), ("ill", true));
        assert_eq!(failure(central.delete_robot(&made.id).await), ("ill", true));
        assert_eq!(failure(central.publish(STATE, b"{}", 1).await), ("ill", true));
        assert_eq!(failure(central.resolve(STATE, "latest").await), ("ill", true));
        harbor.heal();
        harbor.fail(Fault::Down(Part::Core));
        assert_eq!(failure(central.ensure_robot(&want("sat2", &["satellite"])).await), ("ill", true));
        assert!(matches!(central.health().await, Health::Ill(_)));
        harbor.heal();
        harbor.fail(Fault::Down(Part::Registry));
        assert_eq!(failure(central.publish(STATE, b"{}", 1).await), ("ill", true));
        harbor.heal();
        harbor.fail(Fault::Down(Part::Redis));
        central.ensure_robot(&want("sat3", &["satellite"])).await.unwrap();
        harbor.heal();
        for status in [500, 503, 429] {
            harbor.fail_on("", "/api/v2.0/robots", 1, Fault::Status(status));
            let (_, transient) = failure(central.list_robots().await);
            assert!(transient, "{status}");
        }
        // More than once: a connection that was kept open may have ended, and is tried anew.
        harbor.fail_on("", "/api/v2.0/robots", 5, Fault::Cut);
        assert_eq!(failure(central.list_robots().await), ("unreachable", true));
        harbor.heal();
        central.publish(STATE, b"{}", 1).await.unwrap();
        assert_eq!(harbor.robots().len(), 2);
    });
}

#[test]
fn a_wrong_password_of_somebody_else_a_moment_ago_changes_nothing() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        // The administrator is frozen while this one waits for its refusal.
        let wrong = satellite_tests::http::Client::new(harbor.address()).basic("admin", "wrong");
        let asked = std::thread::spawn(move || wrong.get("/api/v2.0/users/current").status);
        satellite_tests::wait::until(Duration::from_secs(5), "the wrong login", || {
            harbor.calls().iter().any(|c| c.target.ends_with("current")).then_some(())
        });
        assert!(central.project_exists("library").await.unwrap());
        assert_eq!(asked.join().unwrap(), 401);
    });
}

#[test]
fn a_401_that_passes_is_waited_out_everywhere() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        for n in 0..14 {
            // Each call of a rotation and of a publication once, the token service's too.
            harbor.fail_after(n, Fault::Status(401));
            let made = central.ensure_robot(&want("sat1", &["satellite"])).await.unwrap();
            central.rotate_robot(&made.id).await.unwrap();
            central.publish(STATE, n.to_string().as_bytes(), i64::try_from(n).unwrap()).await.unwrap();
            harbor.heal();
        }
        assert_eq!((harbor.robots().len(), harbor.artifacts().len()), (1, 1));
    });
}

#[test]
fn a_password_that_is_really_wrong_is_said_so_after_the_second_401() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        harbor.set_password("Changed12345");
        harbor.forget_calls();
        assert_eq!(failure(central.project_exists("library").await), ("unauthorized", true));
        let asked: Vec<_> =
            harbor.calls().into_iter().map(|call| (call.method, call.status, call.user)).collect();
        let row = |method: &str, status, user: &str| (method.to_string(), status, user.to_string());
        assert_eq!(
            asked,
            [row("HEAD", 401, "admin"), row("GET", 200, ""), row("HEAD", 401, "admin"), row("GET", 200, "")],
            "the health anonymously, and before believing it"
        );
    });
}

#[test]
fn calls_are_bounded_in_time() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let mut settings = settings(&harbor);
        settings.timeout = Duration::from_millis(300);
        let central = Harbor::new(settings, client).unwrap();
        harbor.fail(Fault::Hang);
        let begun = Instant::now();
        assert_eq!(failure(central.list_robots().await), ("timeout", true));
        assert!(begun.elapsed() < Duration::from_secs(3));
        harbor.heal();
    });
    let gone = harbor.url();
    let password = Secret::new(harbor.password());
    drop(harbor);
    run(async |client| {
        let central = Harbor::new(HarborSettings::new(gone, "admin", password), client).unwrap();
        assert_eq!(failure(central.list_robots().await), ("unreachable", true));
        assert!(matches!(central.health().await, Health::Away(_)));
    });
}

/// Every call of every operation is lost in turn, before or after it was done; the operation is repeated, as the outbox
/// does, and all must be as if nothing had happened.
#[test]
fn whatever_call_is_lost_a_repetition_brings_it_to_its_end() {
    let calls = lose(usize::MAX, &Fault::Cut);
    assert!(calls > 30, "there were only {calls} calls to lose");
    let cases: Vec<(usize, Fault)> = [Fault::Cut, Fault::CutAfter, Fault::Status(500)]
        .into_iter()
        .flat_map(|fault| (0..calls).map(move |lost| (lost, fault.clone())))
        .collect();
    // They wait more than they work.
    for some in cases.chunks(24) {
        std::thread::scope(|scope| {
            for (lost, fault) in some {
                scope.spawn(|| lose(*lost, fault));
            }
        });
    }
}

/// Does everything once, with the call of that number lost. Gives the number of calls.
fn lose(lost: usize, fault: &Fault) -> usize {
    let harbor = standin::Harbor::start();
    harbor.project("edge", false);
    let other = "satellite/group-state/g2/state";
    run(async |client| {
        let central = central(&harbor, client);
        harbor.fail_after(lost, fault.clone());
        repeat(async || central.ensure_project("satellite", false).await).await;
        let made = repeat(async || central.ensure_robot(&want("sat1", &["edge", "satellite"])).await).await;
        let robot = repeat(async || central.rotate_robot(&made.id).await).await;
        repeat(async || central.publish(STATE, b"1", 1).await).await;
        repeat(async || central.publish(STATE, b"2", 2).await).await;
        repeat(async || central.publish(other, b"2", 2).await).await;
        repeat(async || central.unpublish(other).await).await;
        let calls = harbor.calls().len();
        harbor.heal();
        let rows = harbor.robots();
        assert_eq!(rows.len(), 1, "{fault:?} at {lost}");
        assert_eq!(rows[0].rights, pulls(&["edge", "satellite"]));
        assert_eq!(robot.secret.unwrap().expose(), rows[0].secret);
        let artifacts = harbor.artifacts();
        assert_eq!(artifacts.len(), 1, "{fault:?} at {lost}: {artifacts:?}");
        assert_eq!(artifacts[0].tags, ["2", "latest"]);
        repeat(async || central.delete_robot(&made.id).await).await;
        assert!(harbor.robots().is_empty());
        calls
    })
}

/// As the outbox: while it may pass, again.
async fn repeat<T>(operation: impl AsyncFn() -> ground_control::central::Result<T>) -> T {
    for _ in 0..4 {
        match operation().await {
            Ok(value) => return value,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    panic!("not done after four tries");
}
