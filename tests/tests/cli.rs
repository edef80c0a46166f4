//! The commands: alone and beside a running server, for people and for scripts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::ports;
use satellite_tests::process::run;
use satellite_tests::satellite::{BOUND, Server, Store, command};
use serde_json::Value;
use std::time::Duration;

const NONE: [&str; 0] = [];

/// An upstream satellite with `team/one:v1` and `team/two:v1` (two platforms), and an empty store.
struct Site {
    upstream: Server,
    one: Artifact,
    two: Artifact,
    store: Store,
    dir: Dir,
}

fn site() -> Site {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("u")).serve();
    let one = Image::new().noise(50_000, 1).build();
    let two =
        Artifact::index(vec![one.clone(), Image::new().platform("linux/arm64/v8").noise(60_000, 2).build()]);
    one.push(&upstream.client(), "team/one", "v1");
    two.push(&upstream.client(), "team/two", "v1");
    Site { store: Store::at(dir.join("s")), upstream, one, two, dir }
}

impl Site {
    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.upstream.host())
    }
}

/// One JSON document, or one a line.
#[track_caller]
fn json(text: &str) -> Vec<Value> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return vec![value];
    }
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}")))
        .collect()
}

#[test]
fn every_command_works_alone_and_beside_a_server() {
    for beside in [false, true] {
        let site = site();
        let server = beside.then(|| site.store.serve());
        let (one, two) = (site.named("team/one:v1"), site.named("team/two:v1"));
        site.store.run("pull", ["--plain-http", "--all-platforms", &one, &two]).ok();
        // Again: nothing to do, and no harm.
        site.store.run("pull", ["--plain-http", "--all-platforms", &one, &two]).ok();
        let listed = site.store.run("images", NONE).ok();
        for word in ["team/one", "team/two", "v1"] {
            assert!(listed.contains(word), "{word} is missing in\n{listed}");
        }
        let shown = site.store.run("inspect", ["team/two:v1"]).ok();
        assert!(shown.contains(&site.two.digest), "{shown}");
        site.store.run("fsck", NONE).ok();
        site.store.run("rm", ["team/one:v1"]).ok();
        site.store.run("inspect", ["team/one:v1"]).exits(3).decent().complains(&["team/one"]);
        site.store.run("rm", ["team/one:v1"]).exits(3).decent();
        site.store.run("gc", ["--grace", "0s"]).ok();
        site.store.run("fsck", NONE).ok();
        let server = server.unwrap_or_else(|| site.store.serve());
        site.two.check(&server.client(), "team/two", "v1");
        server.client().get("/v2/team/one/manifests/v1").expect(404);
    }
}

#[test]
fn json_is_json_in_every_command_that_offers_it_and_names_the_digests() {
    let site = site();
    let pulled = site.store.run("pull", ["--plain-http", "--json", &site.named("team/one:v1")]).ok();
    json(&pulled);
    let images = json(&site.store.run("images", ["--json"]).ok());
    assert!(serde_json::to_string(&images).unwrap().contains(&site.one.digest), "{images:?}");
    let inspected = json(&site.store.run("inspect", ["team/one:v1", "--json"]).ok());
    assert!(serde_json::to_string(&inspected).unwrap().contains(&site.one.digest), "{inspected:?}");
    json(&site.store.run("gc", ["--json"]).ok());
    json(&site.store.run("fsck", ["--json"]).ok());
    // An empty store has a list too.
    let empty = Store::at(site.dir.join("empty"));
    json(&empty.run("images", ["--json"]).ok());
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let site = site();
    site.store
        .run("pull", ["--plain-http", &site.named("team/none:v1")])
        .exits(3)
        .decent()
        .complains(&["team/none"]);
    site.store
        .run("pull", ["--plain-http", &site.named("team/one:none")])
        .exits(3)
        .decent()
        .complains(&["none"]);
    let closed = format!("127.0.0.1:{}/team/one:v1", ports::free());
    site.store.run("pull", ["--plain-http", &closed]).exits(6).decent().complains(&["127.0.0.1"]);
    site.store
        .run("pull", ["--plain-http", "no-such-host.invalid/x:v1"])
        .exits(6)
        .decent()
        .complains(&["no-such-host.invalid"]);
    site.store.run("inspect", ["team/none:v1"]).exits(3).decent();
    let guarded = Store::at(site.dir.join("g")).serve_with(NONE);
    site.store.pull(&site.named("team/one:v1")).ok();
    let to = format!("{}/x:v1", guarded.host());
    site.store.run("push", ["--plain-http", "team/one:v1", &to]).exits(4).decent();
    site.store.run("push", ["--plain-http", "team/none:v1", &to]).exits(3).decent();
}

#[test]
fn a_platform_is_chosen_and_the_index_stays_as_it_is() {
    let site = site();
    site.store.run("pull", ["--plain-http", "--platform", "linux/arm64", &site.named("team/two:v1")]).ok();
    let server = site.store.serve();
    let index = server.client().get("/v2/team/two/manifests/v1").expect(200);
    assert_eq!(index.body, site.two.manifest);
    site.two.children[1].check(&server.client(), "team/two", &site.two.children[1].digest);
    server.client().get(&format!("/v2/team/two/manifests/{}", site.two.children[0].digest)).expect(404);
    site.store
        .run("pull", ["--plain-http", "--platform", "windows/amd64", &site.named("team/two:v1")])
        .exits(3)
        .decent()
        .complains(&["windows/amd64"]);
}

#[test]
fn several_images_come_from_a_list_and_one_that_fails_is_named_and_stops_no_other() {
    let site = site();
    let list = site.dir.join("list");
    let text = format!(
        "# ours\n{}\n\n  {}  \n{}\n",
        site.named("team/one:v1"),
        site.named("team/gone:v1"),
        site.named("team/two:v1")
    );
    std::fs::write(&list, text).unwrap();
    let arguments = ["--plain-http", "--all-platforms", "--from-file", list.to_str().unwrap()];
    let said = site.store.run("pull", arguments).decent().complains(&["team/gone"]);
    assert!(matches!(said.code, Some(1 | 3)), "{said}");
    let server = site.store.serve();
    site.one.check(&server.client(), "team/one", "v1");
    site.two.check(&server.client(), "team/two", "v1");
}

#[test]
fn copy_is_pull_and_push_gives_it_on_with_every_digest_kept() {
    let site = site();
    let docker = Artifact::docker_list(vec![Image::new().docker().noise(9000, 5).build()]);
    docker.push(&site.upstream.client(), "team/docker", "v1");
    let references = [site.named("team/two:v1"), site.named("team/docker:v1")];
    site.store.run("copy", ["--plain-http", "--all-platforms", &references[0], &references[1]]).ok();
    let other = Store::at(site.dir.join("o")).serve();
    for (image, name) in [(&site.two, "team/two"), (&docker, "team/docker")] {
        let to = format!("{}/copied/{name}:v7", other.host());
        site.store.run("push", ["--plain-http", &format!("{name}:v1"), &to]).ok();
        image.check(&other.client(), &format!("copied/{name}"), "v7");
    }
}

#[test]
fn signatures_and_referrers_come_with_their_subject() {
    let site = site();
    let client = site.upstream.client();
    let (sbom, signature) = (site.one.referrer("application/spdx+json", b"{}"), site.one.signature());
    sbom.push(&client, "team/one", &sbom.digest);
    signature.push(&client, "team/one", &site.one.signature_tag());
    site.store.pull(&site.named("team/one:v1")).ok();
    let server = site.store.serve();
    signature.check(&server.client(), "team/one", &site.one.signature_tag());
    let list = server.client().get(&format!("/v2/team/one/referrers/{}", site.one.digest)).expect(200).json();
    assert_eq!(list["manifests"][0]["digest"], sbom.digest.as_str(), "{list}");
    assert_eq!(list["manifests"][0]["artifactType"], "application/spdx+json");
    sbom.check(&server.client(), "team/one", &sbom.digest);
}

#[test]
fn a_name_can_be_spelled_with_its_upstream_in_three_ways() {
    let site = site();
    site.store.pull(&site.named("team/one:v1")).ok();
    let (server, host) = (site.store.serve(), site.upstream.host());
    let plain = server.client().get("/v2/team/one/manifests/v1").expect(200).body;
    assert_eq!(plain, site.one.manifest);
    let blob = &site.one.blobs[1];
    for (before, after) in [
        (format!("/v2/{host}/team/one"), String::new()),
        ("/v2/team/one".into(), format!("?ns={host}")),
        (format!("/{host}/v2/team/one"), String::new()),
        (format!("/v2/{host}/team/one"), format!("?ns={host}")),
    ] {
        let manifest = server.client().get(&format!("{before}/manifests/v1{after}"));
        assert_eq!(manifest.expect(200).body, site.one.manifest, "{before}{after}");
        let layer = server.client().get(&format!("{before}/blobs/{}{after}", blob.digest));
        assert_eq!(layer.expect(200).body, blob.bytes, "{before}{after}");
    }
    // Another upstream's image of the same name is another image.
    server.client().get("/v2/team/one/manifests/v1?ns=elsewhere.test").expect(404);
    server.client().get("/v2/elsewhere.test/team/one/manifests/v1").expect(404);
}

#[test]
fn health_metrics_and_the_ready_file_are_there_for_whoever_watches() {
    let dir = Dir::new();
    let ready = dir.join("ready");
    let server = Store::at(dir.join("s")).serve_with(["--ready-file", ready.to_str().unwrap()]);
    let client = server.client();
    assert!(ready.exists());
    client.get("/healthz").expect(200);
    client.get("/v2/").expect(200);
    let metrics = client.get("/metrics").expect(200);
    assert!(metrics.text().contains("# TYPE "), "{}", metrics.text());
    assert!(server.stop().success());
    assert!(client.connect().is_err(), "it still listens");
}

#[test]
fn a_graceful_stop_lets_a_running_download_end() {
    let dir = Dir::new();
    let mut server = Store::at(dir.join("s")).serve();
    let client = server.client();
    let image = Image::new().noise(32 << 20, 4).build();
    image.push(&client, "app", "v1");
    let blob = &image.blobs[1];
    let mut connection = client.connect().unwrap();
    let get = satellite_tests::http::Request::new("GET", &format!("/v2/app/blobs/{}", blob.digest));
    connection.write_request(&get).unwrap();
    let mut answer = connection.read_head().unwrap();
    server.daemon().signal(rustix::process::Signal::TERM);
    satellite_tests::wait::until(Duration::from_secs(5), "the listener to close", || {
        client.connect().is_err().then_some(())
    });
    connection.read_body(32 << 20, &mut answer.body).unwrap();
    assert_eq!(satellite_tests::oci::sha256(&answer.body), blob.digest);
    drop(connection);
    assert!(server.daemon().wait(Duration::from_secs(20)).success());
}

#[test]
fn completions_are_made_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&mut command(["completions", shell]), BOUND).ok().contains("satellite"), "{shell}");
    }
}

#[test]
fn nothing_but_results_goes_to_standard_output_and_no_bar_into_a_file() {
    let site = site();
    let said =
        run(&mut site.store.command("pull", ["--plain-http", &site.named("team/one:v1")]), BOUND).exits(0);
    for text in [&said.stdout, &said.stderr] {
        assert!(!text.contains('\r') && !text.contains('\u{1b}'), "terminal codes in {text:?}");
    }
}
