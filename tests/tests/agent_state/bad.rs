use crate::can_run;
use crate::world::{STATE, World, at};
use satellite_tests::http::Request;
use satellite_tests::image::{Artifact, Blob};
use satellite_tests::oci;
use satellite_tests::proxy::Fault;
use serde_json::json;
use std::fmt::Write as _;

/// What hostile or broken states say, and the code that is told of it.
fn states(registry: &str) -> Vec<(&'static str, String, &'static str)> {
    let group = |artifacts: serde_json::Value| {
        json!({"group": "g", "registry": registry, "artifacts": artifacts}).to_string()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let one = |repository: &str, tag: &str, digest: &str| {
        group(json!([{"repository": repository, "tag": [tag], "digest": digest}]))
    };
    vec![
        ("HTML", "<html><title>Sign in</title></html>".into(), "state.unreadable"),
        ("nothing", String::new(), "state.unreadable"),
        ("a number", "7".into(), "state.unreadable"),
        ("a list", "[]".into(), "state.unreadable"),
        ("cut JSON", "{\"group\": \"g\", \"artifacts\": [".into(), "state.unreadable"),
        ("nested a hundred thousand deep", "[".repeat(100_000), "state.unreadable"),
        ("artifacts that are a text", group(json!("all of them")), "state.unreadable"),
        ("an artifact that is a number", group(json!([7])), "state.unreadable"),
        ("a repository outside the grammar", one("Library/../../etc", "v1", &digest), "state.invalid"),
        ("a repository of another host", one("evil.example:99/a b", "v1", &digest), "state.invalid"),
        ("a tag outside the grammar", one("library/app", "../v1", &digest), "state.invalid"),
        ("a digest that is none", one("library/app", "v9", "sha256:zz"), "state.invalid"),
        ("a digest that nothing has", one("library/app", "v9", &digest), "registry.not-found"),
        (
            "more artifacts than may be",
            group(json!(
                (0..60_000)
                    .map(|n| json!({"repository": "l/a", "tag": [format!("v{n}")]}))
                    .collect::<Vec<_>>()
            )),
            "state.invalid",
        ),
    ]
}

#[test]
fn whatever_a_groups_state_says_the_last_good_one_stays_and_the_cause_is_told() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let image = world.image("library/app", "v1", 1);
    let good = || world.group("g", &[("library/app", &["v1"], &image.digest)]);
    good();
    world.satellite(&["g"]);
    let life = world.start();
    life.turn().unwrap();
    let mut wrong = String::new();
    let registry = format!("http://{}", world.link.host());
    for (what, text, cause) in states(&registry) {
        world.publish(&at("g"), &text);
        match life.turn() {
            Err(trouble) if trouble.cause.as_str().starts_with(cause) => {}
            other => {
                let _ = writeln!(wrong, "{what}: {other:?}, and not {cause}");
            }
        }
        life.holds("library/app", "v1", &image);
        good();
        life.turn().unwrap_or_else(|t| panic!("after {what}: {t}"));
        life.holds("library/app", "v1", &image);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn artifacts_that_are_no_states_are_refused_in_bounded_memory() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let image = world.image("library/app", "v1", 1);
    let good = world.group("g", &[("library/app", &["v1"], &image.digest)]);
    world.satellite(&["g"]);
    let life = world.start();
    life.turn().unwrap();
    let config = || Blob::new(oci::DOCKER_CONFIG, b"{}".as_slice());
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    };
    let manifest = |layers: Vec<Blob>| {
        let descriptor =
            |b: &Blob| json!({"mediaType": b.media_type, "digest": b.digest, "size": b.bytes.len()});
        let value = json!({"schemaVersion": 2, "mediaType": oci::DOCKER_MANIFEST, "config": descriptor(&config()),
            "layers": layers.iter().map(descriptor).collect::<Vec<_>>()});
        Artifact::new(oci::DOCKER_MANIFEST, &value, [vec![config()], layers].concat())
    };
    let layer = |bytes: Vec<u8>| Blob::new(oci::DOCKER_LAYER, bytes);
    let inside = Artifact::index(vec![world.image("library/other", "v1", 5)]);
    for (what, artifact) in [
        ("no layer", manifest(vec![])),
        ("noise for a layer", manifest(vec![layer(oci::noise(1000, 3))])),
        ("an empty tar", manifest(vec![layer(gzip(&[0; 1024]))])),
        ("200 MB of zeros in 200 KB", manifest(vec![layer(gzip(&vec![0; 200 << 20]))])),
        ("an index", inside),
    ] {
        for child in &artifact.children {
            child.push(&world.central.client(), &at("g"), &child.digest);
        }
        artifact.push(&world.central.client(), &at("g"), "latest");
        let trouble = life.turn().expect_err(what);
        assert!(trouble.cause.as_str().starts_with("state."), "{what}: {trouble}");
        life.holds("library/app", "v1", &image);
    }
    // A layer that is not what its digest says.
    world.group("g", &[("library/app", &["v1", "v2"], &image.digest)]);
    world.link.on(|seen, _| if seen.is_blob() { Fault::WrongByte(20) } else { Fault::Pass });
    assert_eq!(life.turn().unwrap_err().cause.as_str(), "state.digest-lies");
    world.link.behave();
    life.turn().unwrap();
    life.holds("library/app", "v2", &image);
    assert_ne!(good, "");
}

#[test]
fn a_group_that_vanished_keeps_what_it_named_and_a_satellite_of_no_state_everything() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (first, second) = (world.image("library/app", "v1", 1), world.image("library/app", "v2", 2));
    let gone = world.group("a", &[("library/app", &["v1"], &first.digest)]);
    world.group("b", &[("library/app", &["v2"], &second.digest)]);
    let state = world.satellite(&["a", "b"]);
    let life = world.start();
    life.turn().unwrap();
    world.vanish("a", &gone);
    assert_eq!(life.turn().unwrap_err().cause.as_str(), "state.vanished");
    // The other group goes on.
    let third = world.image("library/app", "v3", 3);
    world.group("b", &[("library/app", &["v3"], &third.digest)]);
    life.turn().unwrap_err();
    life.holds("library/app", "v1", &first);
    life.holds("library/app", "v3", &third);

    // The satellite's own state is not there: a registry that lost it is no reason to lose images.
    let path = format!("/v2/{STATE}/manifests/{state}");
    world.central.client().send(&Request::new("DELETE", &path)).expect(202);
    let trouble = life.turn().unwrap_err();
    assert!(
        trouble.cause.as_str() == "registry.not-found" || trouble.cause.as_str() == "state.vanished",
        "{trouble}"
    );
    life.holds("library/app", "v1", &first);
    life.holds("library/app", "v3", &third);
    // Named no more by the satellite, it goes.
    world.satellite(&["b"]);
    life.turn().unwrap();
    life.lacks("library/app", "v1");
}

#[test]
fn a_registry_that_refuses_while_its_database_is_down_costs_neither_account_nor_images() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let image = world.image("library/app", "v1", 1);
    world.group("g", &[("library/app", &["v1"], &image.digest)]);
    world.satellite(&["g"]);
    let life = world.start();
    life.turn().unwrap();
    for (fault, cause) in [
        (Fault::status(401), "registry.unauthorized"),
        (Fault::status(403), "registry.unauthorized"),
        (Fault::status(500), "registry.unreachable"),
        (Fault::Answer("text/html".into(), b"<html>Sign in</html>".to_vec()), "state.unreadable"),
        (Fault::Close, "registry.unreachable"),
    ] {
        let shown = format!("{fault:?}");
        world.link.on(move |_, _| fault.clone());
        let trouble = life.turn().unwrap_err();
        assert_eq!(trouble.cause.as_str(), cause, "{shown}: {trouble}");
        life.holds("library/app", "v1", &image);
        assert!(world.vault.0.lock().unwrap().is_some());
    }
    world.link.behave();
    life.turn().unwrap();
    life.holds("library/app", "v1", &image);
}

#[test]
fn groups_beyond_the_bound_groups_named_twice_and_groups_that_are_the_state_itself_change_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let image = world.image("library/app", "v1", 1);
    world.group("g", &[("library/app", &["v1"], &image.digest)]);
    world.satellite(&["g", "g", "g"]);
    let life = world.start();
    life.turn().unwrap();
    assert_eq!(life.job.done().groups, 1);
    let state = |urls: Vec<String>| json!({"states": urls, "config": ""}).to_string();
    let own = format!("http://{}/{STATE}:latest", world.link.host());
    for (what, text) in [
        ("thousands of groups", state((0..5000).map(|n| world.url(&format!("g{n}"))).collect())),
        ("itself", state(vec![world.url("g"), own])),
        ("a file", state(vec![world.url("g"), "file:///etc/passwd".into()])),
        ("nothing", "{}".into()),
    ] {
        world.publish(STATE, &text);
        let result = life.turn();
        if what == "nothing" {
            // That is a state, and it names no group.
            result.unwrap();
            life.lacks("library/app", "v1");
        } else {
            let trouble = result.expect_err(what);
            assert!(trouble.cause.as_str().starts_with("state."), "{what}: {trouble}");
            life.holds("library/app", "v1", &image);
        }
    }
}
