//! A clock that is wrong, as that of a gateway without a battery after each power cut.

use crate::{site_for_tls, speak_tls};
use satellite_tests::agent::Site;
use satellite_tests::clock::Clock;
use satellite_tests::process::Daemon;
use serde_json::json;

#[test]
fn a_clock_of_1970_deletes_and_stops_nothing() {
    let Some(clock) = Clock::new() else { return };
    let site = Site::start();
    let (first, second) = (site.image("library/web", "v1", 1), site.image("library/web", "v2", 2));
    site.publish("edge", &json!({}));
    site.admin.group("shop", &[("library/web", "v1", &first.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let start = |token: Option<&str>| {
        let mut command = site.command(token, &[]);
        Daemon::start("satellite run", clock.command(&mut command), &site.machine.join("log"))
    };
    // Its very first start is in 1970.
    clock.set("@1970-01-01 00:00:10");
    let mut agent = start(Some(&token));
    site.serves(&mut agent, "library/web", "v1", &first);
    let troubles = site.wait(&mut agent, "the clock", || {
        site.status().filter(|s| {
            s["past"].to_string().contains("clock.wrong") || s["troubles"].to_string().contains("clock.wrong")
        })
    });
    assert!(!troubles["name"].is_null());

    // The time is set while it runs, a leap of decades; and lost again at the next start.
    clock.set("+0");
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    site.serves(&mut agent, "library/web", "v2", &second);
    site.gone(&mut agent, "library/web", "v1");
    site.wait(&mut agent, "all to be well", || site.well());
    agent.kill();
    clock.set("@1970-01-01 00:00:10");
    let mut agent = start(None);
    site.serves(&mut agent, "library/web", "v2", &second);
    site.admin.group("shop", &[("library/web", "v1", &first.digest), ("library/web", "v2", &second.digest)]);
    site.serves(&mut agent, "library/web", "v1", &first);
    site.serves(&mut agent, "library/web", "v2", &second);
    // A year ahead is as bad.
    clock.set("+400d");
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    site.gone(&mut agent, "library/web", "v1");
    site.serves(&mut agent, "library/web", "v2", &second);
}

/// Certificates were not valid yet in 1970: what was known before the power went is what they are judged by.
#[test]
fn tls_goes_on_after_a_power_cut_took_the_time() {
    let Some(clock) = Clock::new() else { return };
    let (mut site, certs) = site_for_tls();
    let image = site.image("library/web", "v1", 1);
    site.publish("edge", &json!({"tls": {"ca_file": certs.ca}}));
    site.admin.group("shop", &[("library/web", "v1", &image.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    speak_tls(&mut site, &certs);
    let start = |token: Option<&str>| {
        let mut command = site.command(token, &[]);
        Daemon::start("satellite run", clock.command(&mut command), &site.machine.join("log"))
    };
    let mut agent = start(Some(&token));
    site.serves(&mut agent, "library/web", "v1", &image);
    site.wait(&mut agent, "all to be well", || site.well().filter(|s| s["config"]["on_trial"] == false));
    let kept = site.machine.join("last-time");
    site.wait(&mut agent, "the time to be kept", || kept.exists().then_some(()));
    agent.kill();
    // The images too, so that they have to come over TLS.
    std::fs::remove_dir_all(site.machine.join("zot")).unwrap();
    clock.set("@1970-01-01 00:00:10");
    let mut agent = start(None);
    site.serves(&mut agent, "library/web", "v1", &image);
    let status = site.wait(&mut agent, "an answer", || {
        site.status().filter(|s| !s["ground_control"]["answered"].is_null() && s["state"]["missing"] == 0)
    });
    let causes: Vec<_> = status["troubles"].as_array().unwrap().iter().map(|t| t["cause"].clone()).collect();
    assert_eq!(causes, ["clock.wrong"], "{status}");
}
