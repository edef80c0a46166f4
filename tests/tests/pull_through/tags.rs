//! What a tag names, and when it is looked up again.

use super::*;
use satellite_tests::{
    has,
    registry::{Options, PASSWORD, Registry, USER},
    skip,
};

#[test]
fn a_tag_that_moved_is_followed_and_one_that_stayed_costs_a_look() {
    let site = Site::with(&["--revalidate", "0"]);
    let (old, new) = (Image::new().noise(1000, 1).build(), Image::new().noise(1000, 2).build());
    site.push(&old, "app", "v1");
    site.check(&old, "app", "v1");
    site.link.forget();
    site.check(&old, "app", "v1");
    let asked: Vec<String> = site.link.seen("").into_iter().map(|s| s.method).collect();
    assert_eq!(asked, ["HEAD"], "an unchanged tag");
    site.push(&new, "app", "v1");
    site.check(&new, "app", "v1");
    // Away: what is here is served as it is, at once.
    site.settles(&new);
    site.link.on(|_, _| Fault::Close);
    site.check(&new, "app", "v1");
    let begun = std::time::Instant::now();
    site.check(&new, "app", "v1");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let metrics = site.client().get("/metrics").text();
    assert!(metrics.contains("satellite_pull_through_stale"), "{metrics}");
}

#[test]
fn a_fresh_tag_is_not_looked_up_and_one_that_is_gone_is_gone() {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let link = Proxy::start(upstream.address());
    let image = Image::new().noise(1000, 1).build();
    image.push(&upstream.client(), "app", "v1");
    let name = format!("{}/app", link.host());
    let store = Store::at(dir.join("edge"));
    let server = edge(&store, &link, &["--revalidate", "1h"]);
    image.check(&server.client(), &name, "v1");
    link.forget();
    image.check(&server.client(), &name, "v1");
    assert!(link.seen("").is_empty(), "{:?}", link.seen(""));
    upstream.client().delete("/v2/app/manifests/v1").expect(202);
    image.check(&server.client(), &name, "v1");
    server.stop();
    let server = edge(&store, &link, &["--revalidate", "0"]);
    server.client().get(&format!("/v2/{name}/manifests/v1")).expect(404);
    link.on(|_, _| Fault::Close);
    server.client().get(&format!("/v2/{name}/manifests/v1")).expect(404);
}

#[test]
fn a_replicated_tag_is_what_the_replication_said() {
    let site = Site::with(&["--revalidate", "0"]);
    let (old, new) = (Image::new().noise(1000, 1).build(), Image::new().noise(1000, 2).build());
    site.push(&old, "app", "v1");
    site.store.pull(&format!("{}/app:v1", site.link.host())).ok();
    site.push(&new, "app", "v1");
    site.link.forget();
    site.check(&old, "app", "v1");
    assert!(site.link.seen("").is_empty(), "{:?}", site.link.seen(""));
    // Another host's tag of the same name does not touch it.
    let other = Proxy::start(site.upstream.address());
    let Site { edge: server, store, upstream: _upstream, _dir, .. } = site;
    server.kill();
    let rule = other.host();
    let server = store.serve_with(["--pull-through", &rule, "--revalidate", "0"]);
    new.check(&server.client(), &format!("{}/app", other.host()), "v1");
    old.check(&server.client(), "app", "v1");
    let tags = server.client().get("/v2/app/tags/list").expect(200).json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 1);
}

#[test]
fn an_upstream_that_never_answers_keeps_nobody_waiting() {
    let site = Site::with(&["--revalidate", "0"]);
    let image = Image::new().noise(1000, 1).build();
    site.push(&image, "app", "v1");
    site.check(&image, "app", "v1");
    site.settles(&image);
    site.link.on(|_, _| Fault::Silence);
    let begun = std::time::Instant::now();
    site.check(&image, "app", "v1");
    assert!(begun.elapsed() < Duration::from_secs(5), "stale: {:?}", begun.elapsed());
    site.manifest("other", "v1").expect(404);
    assert!(begun.elapsed() < Duration::from_secs(16), "a miss: {:?}", begun.elapsed());
}

#[test]
fn what_the_rules_do_not_allow_any_more_is_forgotten() {
    let site = Site::new();
    let image = Image::new().noise(1000, 1).build();
    site.push(&image, "app", "v1");
    site.check(&image, "app", "v1");
    site.settles(&image);
    let Site { edge: server, store, link, upstream: _upstream, _dir } = site;
    server.kill();
    let rule = format!("{}/other", link.host());
    let mut server = store.serve_with(["--pull-through", &rule]);
    server
        .daemon()
        .wait_log(Duration::from_secs(10), |line| line.contains("not allowed any more").then_some(()));
    let name = format!("{}/app", link.host());
    server.client().get(&format!("/v2/{name}/manifests/v1")).expect(404);
    store.run("gc", ["--grace", "0"]).ok();
    server.client().get(&format!("/v2/app/manifests/{}", image.digest)).expect(404);
}

#[test]
fn the_satellites_credentials_stay_with_it_and_the_clients_with_them() {
    if !Registry::available() || !has("htpasswd") {
        return skip(
            "credentials of a pull-through",
            "docker-registry or htpasswd is missing; tests/install gets it",
        );
    }
    let dir = Dir::new();
    let registry = Registry::with(&Options { basic: true, ..Options::default() });
    let link = Proxy::start(registry.address());
    let image = Image::new().noise(100_000, 1).build();
    image.push(&registry.client(), "app", "v1");
    let rule = link.host();
    let name = format!("{rule}/app");
    // Without credentials the upstream refuses, and the client is told nothing but that it is not here.
    let none = Store::at(dir.join("none")).serve_with(["--pull-through", &rule]);
    let refused = none.client().get(&format!("/v2/{name}/manifests/v1"));
    assert_eq!(refused.status, 404);
    assert!(refused.header("www-authenticate").is_none());
    // With them, from Docker's file.
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = serde_json::json!({"auths": {&rule: {"auth": pair}}});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let store = Store::at(dir.join("edge"));
    let mut command = store.command("serve", ["--listen", "127.0.0.1:0", "--pull-through", &rule]);
    let server = Server::start(command.env("DOCKER_CONFIG", dir.path()), store.dir());
    link.forget();
    image.check(&server.client().basic("client", "secret"), &name, "v1");
    let theirs = base64::engine::general_purpose::STANDARD.encode("client:secret");
    for seen in link.seen("") {
        assert!(!seen.header("authorization").unwrap_or_default().contains(&theirs), "{seen:?}");
    }
}

#[test]
fn what_was_pulled_through_is_listed_apart_and_can_be_removed() {
    let site = Site::new();
    let image = Image::new().noise(1000, 1).build();
    site.push(&image, "team/app", "v1");
    site.check(&image, "team/app", "v1");
    site.settles(&image);
    let listed = site.store.run("images", ["--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let name = format!("{}/team/app:v1", site.link.host());
    assert_eq!((&listed[0]["cached"], &listed[0]["tag"]), (&true.into(), &"v1".into()), "{listed}");
    let table = site.store.run("images", [""; 0]).ok();
    assert!(table.contains("cached") && table.contains(&format!("{}/team/app", site.link.host())), "{table}");
    site.store.run("inspect", [&name]).ok();
    site.store.run("rm", [&name]).ok();
    assert_eq!(site.store.run("images", ["--json"]).ok().trim(), "[]");
}
