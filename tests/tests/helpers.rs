//! The helpers themselves, against docker-registry and skopeo: what is used to judge must be right first.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use satellite_tests::dir::Dir;
use satellite_tests::http::{Client, Request};
use satellite_tests::image::{Artifact, Image};
use satellite_tests::postgres::Cluster;
use satellite_tests::process::run;
use satellite_tests::proxy::{Fault, Proxy};
use satellite_tests::registry::{Options, PASSWORD, Registry, USER};
use satellite_tests::{has, skip};
use std::process::Command;
use std::time::Duration;

fn upstream(test: &str, options: &Options) -> Option<Registry> {
    if Registry::available() && has("skopeo") && has("htpasswd") {
        return Some(Registry::with(options));
    }
    skip(test, "docker-registry, skopeo or htpasswd is missing; tests/install gets them");
    None
}

fn skopeo(args: &[&str]) -> satellite_tests::process::Finished {
    run(Command::new("skopeo").args(["--insecure-policy"]).args(args), Duration::from_secs(60))
}

#[test]
fn an_image_made_here_is_what_a_registry_and_skopeo_take_it_for() {
    let Some(registry) = upstream("helpers", &Options::default()) else { return };
    let one = Image::new().file("etc/message", b"hello").noise(300_000, 7).build();
    let other = Image::new().platform("linux/arm/v7").docker().noise(1000, 8).build();
    let both = Artifact::index(vec![one.clone(), Image::new().platform("linux/arm64/v8").build()]);
    let client = registry.client();
    for (name, artifact) in [("one", &one), ("docker", &other), ("both", &both)] {
        artifact.push(&client, "app/web", name);
        artifact.check(&client, "app/web", name);
        let said = skopeo(&[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{}/app/web:{name}", registry.host()),
        ]);
        assert_eq!(said.ok().as_bytes(), artifact.manifest);
    }
    let dir = Dir::new();
    both.write_layout(dir.path(), "both");
    let (from, to) =
        (format!("oci:{}:both", dir.path().display()), format!("docker://{}/copy:v1", registry.host()));
    skopeo(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &to]).ok();
    both.check(&client, "copy", "v1");
}

#[test]
fn registries_with_passwords_tokens_and_tls_let_in_who_knows_and_nobody_else() {
    for options in [
        Options { basic: true, ..Options::default() },
        Options { token: true, ..Options::default() },
        Options { token: true, tls: true, ..Options::default() },
    ] {
        let Some(registry) = upstream("helpers", &options) else { return };
        let dir = Dir::new();
        Image::new().noise(1000, 1).build().write_layout(dir.path(), "x");
        let (from, to) =
            (format!("oci:{}:x", dir.path().display()), format!("docker://{}/x:v1", registry.host()));
        let trust = if options.tls {
            std::fs::copy(&registry.certs().ca, dir.join("ca.crt")).unwrap();
            format!("--dest-cert-dir={}", dir.path().display())
        } else {
            "--dest-tls-verify=false".to_owned()
        };
        let copy = |creds: &str| skopeo(&["copy", &trust, &format!("--dest-creds={creds}"), &from, &to]);
        copy(&format!("{USER}:{PASSWORD}")).ok();
        assert_ne!(copy("somebody:else").code, Some(0), "{options:?}");
        if options.token {
            assert!(registry.tokens().issued() > 0);
            assert!(registry.tokens().scopes().iter().any(|scope| scope == "repository:x:pull,push"));
        }
    }
}

#[test]
fn the_link_drops_lies_and_counts_as_it_is_told() {
    let Some(registry) = upstream("helpers", &Options::default()) else { return };
    let image = Image::new().noise(200_000, 3).build();
    image.push(&registry.client(), "x", "v1");
    let link = Proxy::start(registry.address());
    let client = Client::new(link.address());
    image.check(&client, "x", "v1");
    let blob = format!("/v2/x/blobs/{}", image.blobs[1].digest);
    assert_eq!(link.bytes(&image.blobs[1].digest), 200_000);
    assert_eq!(link.seen("/manifests/v1").len(), 1);

    link.on(|seen, _| if seen.is_blob() { Fault::DropAfter(50_000) } else { Fault::Pass });
    let cut = client.get(&blob);
    assert_eq!((cut.status, cut.whole, cut.body.len()), (200, false, 50_000));

    link.on(|_, _| Fault::WrongByte(199_999));
    let range = Request::new("GET", &blob).header("Range", "bytes=199990-");
    let answer = client.send(&range).expect(206);
    let truth = &image.blobs[1].bytes[199_990..];
    assert_eq!(answer.body[..9], truth[..9]);
    assert_ne!(answer.body[9], truth[9]);
    link.on(|_, _| Fault::IgnoreRange);
    assert_eq!(client.send(&range).expect(200).body.len(), 200_000);

    link.on(|_, _| Fault::Short(10));
    assert_eq!(client.get(&blob).body.len(), 199_990);
    link.on(|_, _| Fault::Long(10));
    assert_eq!(client.get(&blob).body.len(), 200_010);
    link.on(|_, before| if before % 2 == 0 { Fault::Close } else { Fault::status(503) });
    link.forget();
    assert!(client.try_send(&range).is_err());
    assert_eq!(client.send(&range).status, 503);
    let quick = client.clone().bound(Duration::from_millis(300));
    link.on(|_, _| Fault::StallAfter(1000));
    assert!(quick.try_send(&Request::new("GET", &blob)).is_err());
    link.on(|_, _| Fault::Silence);
    assert!(quick.try_send(&range).is_err());
}

#[test]
fn a_cluster_keeps_its_databases_apart_and_over_a_restart_and_a_crash() {
    let Some(cluster) = Cluster::own() else { return };
    let (one, other) = (cluster.database(), cluster.database());
    one.query("CREATE TABLE t (n int)");
    assert_eq!(other.query("SELECT count(*) FROM information_schema.tables WHERE table_name = 't'"), "0");
    cluster.stop();
    cluster.start();
    one.query("INSERT INTO t VALUES (1), (2)");
    one.query("CHECKPOINT");
    cluster.crash();
    cluster.start();
    assert_eq!(one.query("SELECT sum(n), 'x' FROM t"), "3|x");
    assert!(std::path::Path::new(&format!("/proc/{}", cluster.pid())).exists());
}
