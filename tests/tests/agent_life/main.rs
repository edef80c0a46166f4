//! `satellite run` through what happens to a gateway in years: links that go away, disks that are full, clocks that are wrong,
//! power that goes at any instant; and what it costs while nothing happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

mod clock;
mod disk;
mod kills;
mod link;
mod traffic;

use satellite_tests::agent::Site;
use serde_json::Value;

/// The cause code that Ground Control has of the satellite `gate`.
fn cause(site: &Site) -> Option<String> {
    let health = site.admin.read("/api/satellites/gate/health");
    health["last_error"]["cause"].as_str().map(String::from)
}

/// Nothing is missing, and nothing is wrong.
fn well(site: &Site) -> Option<Value> {
    site.status().filter(|s| {
        s["state"]["missing"] == 0
            && s["troubles"] == serde_json::json!([])
            && !s["ground_control"]["answered"].is_null()
    })
}
