//! TLS: certificates that are exchanged while the server runs, and certificates that name satellites.

use satellite_tests::certs::Certs;
use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{GroundControl, PASSWORD, Setup, heartbeat};
use satellite_tests::process::{Finished, run};
use satellite_tests::wait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(90);

struct Curl<'a> {
    server: &'a GroundControl,
    ca: &'a Path,
    client: Option<&'a (PathBuf, PathBuf)>,
}

impl Curl<'_> {
    fn run(&self, path: &str, arguments: &[&str]) -> Finished {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            "--cacert",
        ]);
        curl.arg(self.ca);
        if let Some((cert, key)) = self.client {
            curl.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        run(curl.args(arguments).arg(format!("{}{path}", self.server.url())), Duration::from_secs(30))
    }

    /// Status and body.
    #[track_caller]
    fn ask(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let said = self.run(path, arguments).ok();
        let (body, status) = said.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), body.to_owned())
    }
}

fn curl<'a>(server: &'a GroundControl, ca: &'a Path, client: Option<&'a (PathBuf, PathBuf)>) -> Curl<'a> {
    Curl { server, ca, client }
}

fn with_tls(setup: Setup, certs: &Certs) -> Setup {
    setup.env("TLS_CERT_FILE", &certs.cert).env("TLS_KEY_FILE", &certs.key)
}

#[test]
fn a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let dir = Dir::new();
    let (old, new) = (Certs::make(&dir.join("old")), Certs::make(&dir.join("new")));
    let server = with_tls(Setup::new(dir.join("data")), &old).start();
    assert!(server.url().starts_with("https://"));
    let curl = |ca| curl(&server, ca, None);
    assert_eq!(curl(&old.ca).ask("/ping", &[]), (200, "pong".into()));
    assert_ne!(
        curl(&new.ca).run("/ping", &[]).code,
        Some(0),
        "the new authority vouches for the old certificate"
    );
    let plain = server.client().try_send(&satellite_tests::http::Request::new("GET", "/ping"));
    assert!(plain.is_err() || plain.is_ok_and(|answer| answer.status != 200), "plain HTTP is served");
    std::fs::copy(&new.cert, &old.cert).unwrap();
    std::fs::copy(&new.key, &old.key).unwrap();
    wait::until(LONG, "the new certificate", || {
        (curl(&new.ca).run("/ping", &[]).code == Some(0)).then_some(())
    });
    std::fs::write(&old.key, "no key").unwrap();
    // Long enough for it to have looked at the files twice, if it looks as often as it says.
    let end = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < end {
        assert_eq!(curl(&new.ca).ask("/ping", &[]).0, 200);
    }
}

#[test]
fn a_certificate_names_a_satellite_and_no_other() {
    let dir = Dir::new();
    let (certs, strangers) = (Certs::make(&dir.join("certs")), Certs::make(&dir.join("strangers")));
    let setup = with_tls(Setup::new(dir.join("data")), &certs)
        .env("SPIFFE_SERVER_ENABLED", "true")
        .env("SPIFFE_TRUST_DOMAIN", "fleet.example")
        .env("SPIFFE_BUNDLE_FILE", &certs.ca);
    let server = setup.start();
    let gate = certs.client("spiffe://fleet.example/satellite/region/north/gate-1");
    let (status, body) = curl(&server, &certs.ca, Some(&gate)).ask("/satellites/spiffe-ztr", &[]);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert!(
        answer["state"].as_str().unwrap().ends_with("/satellite/satellite-state/gate-1/state:latest"),
        "{answer}"
    );
    let beat = heartbeat("gate-1").to_string();
    let post = ["--header", "Content-Type: application/json", "--data", &beat];
    assert_eq!(curl(&server, &certs.ca, Some(&gate)).ask("/satellites/sync", &post).0, 200);
    let admin = format!("admin:{PASSWORD}");
    let listed = curl(&server, &certs.ca, None).ask("/api/satellites/active", &["--user", &admin]);
    assert!(listed.0 == 200 && listed.1.contains("\"gate-1\""), "{listed:?}");
    // Without one, with another domain's, with another authority's, with a path of no satellite.
    assert_eq!(curl(&server, &certs.ca, None).ask("/satellites/spiffe-ztr", &[]).0, 401);
    for uri in [
        "spiffe://other.example/satellite/gate-1",
        "spiffe://fleet.example/node/gate-1",
        "https://fleet.example/satellite/gate-1",
    ] {
        let wrong = certs.client(uri);
        let said = curl(&server, &certs.ca, Some(&wrong)).run("/satellites/spiffe-ztr", &[]);
        assert!(
            said.code != Some(0) || ["400", "401"].iter().any(|status| said.stdout.ends_with(status)),
            "{uri}: {said}"
        );
    }
    let stranger = strangers.client("spiffe://fleet.example/satellite/gate-1");
    let said = curl(&server, &certs.ca, Some(&stranger)).run("/satellites/spiffe-ztr", &[]);
    assert!(said.code != Some(0) || said.stdout.ends_with("401"), "{said}");
}
