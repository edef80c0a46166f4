//! `satellite run` from the token to a workload's pull, with a real Ground Control and its registry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

use std::time::Duration;

use satellite_tests::agent::Site;
use satellite_tests::image::Artifact;
use satellite_tests::process::Daemon;
use satellite_tests::satellite::{BOUND, command};
use serde_json::json;

/// A site whose agent has the first of two images, as its group says, and the token it began with.
fn at_work() -> (Site, [Artifact; 2], String, Daemon) {
    let site = Site::start();
    let images = [site.image("library/web", "v1", 1), site.image("library/web", "v2", 2)];
    site.publish("edge", &json!({}));
    site.admin.group("shop", &[("library/web", "v1", &images[0].digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let mut agent = site.run(Some(&token));
    site.serves(&mut agent, "library/web", "v1", &images[0]);
    (site, images, token, agent)
}

#[test]
fn from_a_token_to_a_pull_through_changes_kills_and_the_end_of_ground_control() {
    let (mut site, [first, second], token, mut agent) = at_work();

    // Ground Control sees what it holds, and that nothing is wrong.
    site.wait(&mut agent, "a healthy report", || {
        let health = site.admin.read("/api/satellites/gate/health");
        (health["state"] == "online"
            && health["missing_count"] == 0
            && health["drifted"] == false
            && health["last_error"].is_null()
            && !health["running"]["state_digest"].is_null())
        .then_some(())
    });
    let status = site.status().expect("a status");
    assert_eq!((&status["name"], &status["state"]["missing"]), (&json!("gate"), &json!(0)), "{status}");
    let events = site.admin.read("/api/satellites/gate/events");
    assert!(events.as_array().unwrap().iter().any(|e| e["event"] == "completed"), "{events}");

    // Its secret is on the disk, encrypted, and in no log.
    let kept = std::fs::read_to_string(site.machine.join("config.json")).unwrap();
    assert!(kept.contains("\"version\":2") && !kept.contains("robot"), "{kept}");
    assert!(!agent.log().contains(&token));

    // The group changes: the new one comes, then the old one goes.
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    site.serves(&mut agent, "library/web", "v2", &second);
    site.gone(&mut agent, "library/web", "v1");
    // And back, and forth again: what was just removed is here still, without its name.
    site.admin.group("shop", &[("library/web", "v1", &first.digest)]);
    site.serves(&mut agent, "library/web", "v1", &first);
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    site.serves(&mut agent, "library/web", "v2", &second);
    site.gone(&mut agent, "library/web", "v1");

    // Killed, and started without a token: it is who it was.
    agent.kill();
    let mut agent = site.run(None);
    site.serves(&mut agent, "library/web", "v2", &second);

    // Without Ground Control, and its registry, it starts and serves what it has.
    site.server.daemon().kill();
    agent.kill();
    let mut agent = site.run(None);
    site.serves(&mut agent, "library/web", "v2", &second);
    let status = site.wait(&mut agent, "a trouble", || {
        site.status().filter(|s| s["troubles"].as_array().is_some_and(|t| !t.is_empty()))
    });
    assert!(status["troubles"][0]["cause"].as_str().unwrap().starts_with("center."), "{status}");

    // A support bundle tells all of it, and no secret.
    let bundle = site.machine.join("support.tar.gz");
    let done = command([
        "support-bundle",
        "--config-dir",
        site.machine.to_str().unwrap(),
        "--output",
        bundle.to_str().unwrap(),
    ])
    .output()
    .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::metadata(&bundle).unwrap().len() > 500);
    assert!(agent.terminate(Duration::from_secs(10)).success());
}

#[test]
fn a_configuration_is_taken_while_it_runs_and_a_wrong_one_is_refused_and_told() {
    let site = Site::start();
    site.publish("edge", &json!({}));
    let token = site.admin.register("gate", &[], "edge");
    let mut agent = site.run(Some(&token));
    let digest =
        |site: &Site| site.status().map(|s| s["config"]["digest"].as_str().unwrap_or_default().to_string());
    let before = site.wait(&mut agent, "the first configuration", || digest(&site).filter(|d| !d.is_empty()));
    let pid = agent.pid();

    site.admin.patch("/api/configs/edge", &json!({"app_config": {"log_level": "debug"}})).expect(200);
    site.wait(&mut agent, "the second", || digest(&site).filter(|d| *d != before));
    site.wait(&mut agent, "its proof", || site.status().filter(|s| s["config"]["on_trial"] == false));

    // What is ours alone is checked by the satellite, and nobody else.
    let wrong = json!({"app_config": {"satellite": {"limit_rat": "1MB"}}});
    site.admin.patch("/api/configs/edge", &wrong).expect(200);
    let cause = site.wait(&mut agent, "the refusal in Ground Control", || site.cause());
    assert_eq!(cause, "config.refused");
    let log = agent.log();
    assert!(log.contains("app_config.satellite.limit_rat"), "{log}");

    // One that needs another store begins a new process, under the same number.
    let other = json!({"app_config": {"satellite": {"limit_rat": null, "capacity": "1GB"}}});
    site.admin.patch("/api/configs/edge", &other).expect(200);
    agent.wait_log(BOUND, |log| log.contains("beginning anew").then_some(()));
    site.wait(&mut agent, "its answer", || {
        site.status().filter(|s| s["pid"] == pid && s["troubles"] == json!([]))
    });
    assert!(agent.terminate(Duration::from_secs(10)).success());
}

#[test]
fn a_satellite_whose_secret_is_lost_comes_back_by_its_key_and_a_used_token_is_told() {
    let site = Site::start();
    site.publish("edge", &json!({}));
    let token = site.admin.register("gate", &[], "edge");
    let mut agent = site.run(Some(&token));
    let answered = |site: &Site| site.status().filter(|s| !s["ground_control"]["answered"].is_null());
    site.wait(&mut agent, "an answer", || answered(&site));
    // Somebody else takes its account: another token for the same satellite was exchanged.
    let again = site.admin.call("POST", "/api/satellites/gate/token").expect(200).json();
    site.admin.exchange(again["token"].as_str().unwrap());
    let issued =
        |site: &Site| site.admin.read("/api/satellites/gate/health")["robot"]["issued_at"].to_string();
    let stolen = issued(&site);
    site.wait(&mut agent, "a secret of its own", || (issued(&site) != stolen).then_some(()));
    site.wait(&mut agent, "its way back", || site.well());
    agent.kill();

    let other = site.machine.with_file_name("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::copy(site.machine.join("config.json"), other.join("absent")).unwrap();
    let stranger = Site { machine: other.clone(), ..site };
    stranger.own(&other, json!({}));
    let mut agent = stranger.run(Some(&token));
    let status = stranger.wait(&mut agent, "a trouble", || {
        stranger.status().filter(|s| s["troubles"].as_array().is_some_and(|t| !t.is_empty()))
    });
    assert_eq!(status["troubles"][0]["cause"], "token.used", "{status}");
    assert!(agent.terminate(Duration::from_secs(10)).success());
}

#[test]
fn a_suspended_satellite_goes_on_serving_and_is_let_in_again() {
    let (site, [first, second], _, mut agent) = at_work();
    site.admin.call("POST", "/api/satellites/gate/suspend").expect(200);
    site.wait(&mut agent, "the refusal", || {
        site.status().filter(|s| s["troubles"].to_string().contains("account.re"))
    });
    // What it has, it serves; also after a restart.
    agent.kill();
    let mut agent = site.run(None);
    site.serves(&mut agent, "library/web", "v1", &first);

    site.admin.call("POST", "/api/satellites/gate/resume").expect(200);
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    // It would ask again within minutes; somebody there has it ask now.
    site.wait(&mut agent, "its way back", || {
        for job in ["heartbeat", "state"] {
            let _ = command(["now", job, "--config-dir", site.machine.to_str().unwrap()]).output();
        }
        site.well()
    });
    site.serves(&mut agent, "library/web", "v2", &second);
    assert!(agent.terminate(Duration::from_secs(10)).success());
}
