//! What a satellite shall hold, and how it comes to hold it: the agent's state room, with docker-registry as the central one
//! and a proxy that counts and lies in front of it.
//!
//! | file | is about |
//! |---|---|
//! | `world` | the central registry, its states, and a satellite's lives |
//! | `turns` | changes, removals, several groups, two hundred images |
//! | `bad` | vanished groups, garbage, lies, refusals |
//! | `costs` | what a turn asks the registry |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

mod bad;
mod costs;
mod turns;
mod world;

/// Whether the registry is here; says so if it is not.
fn can_run() -> bool {
    let can = satellite_tests::registry::Registry::available();
    if !can {
        satellite_tests::skip("the agent's state", "docker-registry is missing; tests/install gets it");
    }
    can
}
