//! `satellite run` that puts images into a registry of the user's own, a real docker-registry, and serves none itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

use std::process::Command;
use std::time::Duration;

use satellite_tests::agent::Site;
use satellite_tests::ground_control::PASSWORD as ADMIN;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::Daemon;
use satellite_tests::registry::{Options, PASSWORD, Registry, USER};
use satellite_tests::wire::Wire;
use satellite_tests::{has, skip, wait};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(20);

fn start(site: &Site, token: Option<&str>, url: &str, password: &str) -> Daemon {
    let flags = ["--byo-registry", "--registry-url", url, "--registry-username", USER];
    let mut command = site.command(token, &flags);
    Daemon::start("satellite run", command.env("REGISTRY_PASSWORD", password), &site.machine.join("log"))
}

fn both(seed: u64) -> Artifact {
    let one = |platform: &str, n| Image::new().noise(200_000, seed * 10 + n).platform(platform).build();
    Artifact::index(vec![one("linux/amd64", 1), one("linux/arm64/v8", 2)])
}

/// By curl, which speaks TLS: the bytes of a manifest, if it is there.
fn manifest(registry: &Registry, path: &str) -> Option<Vec<u8>> {
    let mut curl = Command::new("curl");
    curl.args(["-sf", "--cacert"]).arg(&registry.certs().ca).args(["-u", &format!("{USER}:{PASSWORD}")]);
    curl.args([
        "-H",
        "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json",
    ]);
    let done = curl.arg(format!("https://{}/v2/{path}", registry.host())).output().unwrap();
    done.status.success().then_some(done.stdout)
}

#[test]
fn images_come_into_the_users_registry_byte_for_byte_and_go_again() {
    if !Registry::available() || !has("curl") {
        return skip(
            "a registry of the user's own",
            "docker-registry or curl is missing; tests/install gets them",
        );
    }
    let site = Site::start();
    let registry = Registry::with(&Options { basic: true, tls: true, ..Options::default() });
    let central = site.server.client().basic("admin", ADMIN);
    let (first, second) = (both(1), both(2));
    first.push(&central, "library/web", "v1");
    second.push(&central, "library/web", "v2");
    site.publish(
        "edge",
        &json!({"satellite": {"platforms": "all"}, "tls": {"ca_file": registry.certs().ca}}),
    );
    site.admin.group("shop", &[("library/web", "v1", &first.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let url = format!("https://{}", registry.host());

    // Without its authority, and with the wrong password: told, by its code.
    let mut agent = start(&site, Some(&token), &url, "wrong");
    let told = site.wait(&mut agent, "the refusal in Ground Control", || site.cause());
    assert_eq!(told, "registry.unauthorized", "{}", agent.log());
    assert!(agent.terminate(BOUND).success());

    let mut agent = start(&site, None, &url, PASSWORD);
    let there = |image: &Artifact, tag: &str| {
        let whole = image.children.iter().all(|child| {
            manifest(&registry, &format!("library/web/manifests/{}", child.digest)).as_ref()
                == Some(&child.manifest)
        });
        (whole
            && manifest(&registry, &format!("library/web/manifests/{tag}")).as_ref() == Some(&image.manifest))
        .then_some(())
    };
    site.wait(&mut agent, "the image", || there(&first, "v1"));
    site.wait(&mut agent, "Ground Control to know", || {
        let health = site.admin.read("/api/satellites/gate/health");
        (health["last_error"].is_null() && health["missing_count"] == 0 && health["drifted"] == false)
            .then_some(())
    });
    // None is served here.
    assert!(std::net::TcpStream::connect(site.address).is_err());

    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    site.wait(&mut agent, "the second image", || there(&second, "v2"));
    site.wait(&mut agent, "the first to go", || {
        manifest(&registry, "library/web/manifests/v1").is_none().then_some(())
    });
    assert!(there(&second, "v2").is_some());
    let log = agent.log();
    assert!(!log.contains(PASSWORD) && !log.contains(&token), "{log}");
    assert!(agent.terminate(BOUND).success());
}

#[test]
fn a_registry_that_keeps_everything_is_told_and_gets_what_is_new_through_kills_and_cuts() {
    if !Registry::available() {
        return skip("a registry of the user's own", "docker-registry is missing; tests/install gets it");
    }
    let site = Site::start();
    let registry = Registry::with(&Options { keeps: true, ..Options::default() });
    let first = site.image("library/web", "v1", 1);
    let second = Image::new().noise(24 << 20, 2).noise(300_000, 3).build();
    second.push(&site.server.client().basic("admin", ADMIN), "library/web", "v2");
    site.publish("edge", &json!({}));
    site.admin.group("shop", &[("library/web", "v1", &first.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let wire = Wire::to(registry.address());
    let url = format!("http://{}", wire.address());
    let has = |tag: &str, image: &Artifact| {
        let answer = registry.client().get(&format!("/v2/library/web/manifests/{tag}"));
        (answer.status == 200 && answer.body == image.manifest).then_some(())
    };
    let mut agent = start(&site, Some(&token), &url, "unused");
    site.wait(&mut agent, "the image", || has("v1", &first));

    // Killed in the middle of the push, and the way to the registry cut for the next life.
    let before = wire.counts().0;
    site.admin.group("shop", &[("library/web", "v2", &second.digest)]);
    wait::until(satellite_tests::satellite::BOUND, "a push", || {
        (wire.counts().0 - before > 4 << 20).then_some(())
    });
    agent.kill();
    wire.cut();
    let mut agent = start(&site, None, &url, "unused");
    site.wait(&mut agent, "a status", || site.status());
    wire.mend();
    site.wait(&mut agent, "the second image", || has("v2", &second));
    second.check(&registry.client(), "library/web", "v2");

    // The old one cannot be removed: that is said, and nothing is held up by it.
    site.wait(&mut agent, "the word of it in Ground Control", || {
        let events = site.admin.read("/api/satellites/gate/events");
        events.as_array()?.iter().any(|e| e["cause"] == "byo.no-delete").then_some(())
    });
    let third = site.image("library/web", "v3", 4);
    site.admin.group("shop", &[("library/web", "v2", &second.digest), ("library/web", "v3", &third.digest)]);
    site.wait(&mut agent, "the third image", || has("v3", &third));
    has("v1", &first).expect("what cannot be removed is there");
    assert!(agent.terminate(BOUND).success());
}
