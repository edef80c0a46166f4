//! What a month costs in which nothing happens.

use crate::{https, site_for_tls, speak_tls};
use satellite_tests::satellite::BOUND;
use satellite_tests::wait;
use satellite_tests::wire::Wire;
use serde_json::json;

/// Heartbeats of a quiet month: `agent::report::Pace` has the test that counts them.
const BEATS: u64 = 2960;
/// What may be spent, in bytes.
const BUDGET: u64 = 10_000_000;
/// Heads of IP and TCP: three packets of greeting, four of parting, and one for each that carries something or
/// acknowledges it; 52 bytes each.
const PACKETS: u64 = 14 * 52;

#[test]
fn a_month_in_which_nothing_happens_costs_less_than_ten_megabytes_by_tls() {
    let (mut site, certs) = site_for_tls();
    // So far apart that Ground Control does not keep the connection, as it does not for half a minute.
    site.publish("edge", &json!({"tls": {"ca_file": certs.ca}, "heartbeat_interval": "@every 00h00m04s"}));
    let images: Vec<_> = (0..3).map(|n| site.image("library/web", &format!("v{n}"), n)).collect();
    let tags = ["v0", "v1", "v2"];
    let named = images.iter().zip(tags).map(|(image, tag)| ("library/web", tag, image.digest.as_str()));
    site.admin.group("shop", &named.collect::<Vec<_>>());
    let token = site.admin.register("gate", &["shop"], "edge");
    speak_tls(&mut site, &certs);
    let wire = Wire::to(site.server.address());
    let over = https(wire.address());
    let mut agent =
        site.run_with(Some(&token), &["--ground-control-url", &over, "--harbor-registry-url", &over]);
    site.wait(&mut agent, "the images", || {
        site.well().filter(|s| s["images"] == 3 && s["config"]["on_trial"] == false)
    });
    // The first heartbeats say everything.
    let settled = |at: u64| {
        wait::until(BOUND, "heartbeats", || {
            let counts = wire.counts();
            (counts.2 >= at).then_some(counts)
        })
    };
    let from = settled(wire.counts().2 + 3);
    let to = settled(from.2 + 5);
    let per = |n: u64| n / (to.2 - from.2);
    let (up, down) = (per(to.0 - from.0), per(to.1 - from.1));
    let month = (up + down + PACKETS) * BEATS;
    eprintln!(
        "a heartbeat: {up} bytes up, {down} down, {PACKETS} of packet heads; a quiet month: {month} bytes"
    );
    assert!(month <= BUDGET, "{up} up and {down} down make {month} bytes a month");
    assert!(site.well().is_some(), "{}", agent.log());
}
