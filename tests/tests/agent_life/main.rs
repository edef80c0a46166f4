//! `satellite run` through what happens to a gateway in years: links that go away, disks that are full, clocks that are wrong,
//! power that goes at any instant; and what it costs while nothing happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

mod clock;
mod disk;
mod kills;
mod link;
mod traffic;

use satellite_tests::agent::Site;
use satellite_tests::certs::Certs;
use satellite_tests::ground_control::Setup;
use serde_json::json;
use std::net::SocketAddr;

fn https(address: SocketAddr) -> String {
    format!("https://{address}")
}

/// A site whose Ground Control will speak TLS once everything is set up there, and the files for that.
fn site_for_tls() -> (Site, Certs) {
    let site = Site::with(|setup, address| setup.env("PUBLIC_URL", https(address)));
    let certs = Certs::make(&site.dir.join("certs"));
    site.own(&site.machine, json!({"app_config": {"tls": {"ca_file": certs.ca}}}));
    (site, certs)
}

/// From now on its Ground Control speaks TLS, where it spoke plain HTTP.
fn speak_tls(site: &mut Site, certs: &Certs) {
    let address = site.server.address();
    let setup = Setup::new(site.dir.join("gc")).env("PUBLIC_URL", https(address));
    site.server.daemon().kill();
    site.server = setup.env("TLS_CERT_FILE", &certs.cert).env("TLS_KEY_FILE", &certs.key).start_at(address);
}
