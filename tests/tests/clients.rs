//! The real thing: an image of Debian's busybox goes from docker-registry through the satellite into real
//! runtimes, runs there, and says what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use satellite_tests::certs::Certs;
use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::{Finished, run};
use satellite_tests::registry::{PASSWORD, Registry, USER, htpasswd};
use satellite_tests::runtimes::{Runtime, make_image, needs};
use satellite_tests::satellite::{Server, Store};
use satellite_tests::{has, oci, skip};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// An upstream with a runnable image in it, and a store that has pulled it, being served.
struct Chain {
    server: Server,
    /// The upstream's `HOST:PORT`, where nobody listens any more.
    upstream: String,
    digest: String,
    scripts: PathBuf,
    _dir: Dir,
}

/// Two platforms: a real index, of which runtimes take one part and run it.
fn chain(test: &str, programs: &[&str], message: &str) -> Option<Chain> {
    let mut all = vec!["docker-registry", "skopeo", "busybox", "runc"];
    all.extend(programs);
    let scripts = needs(test, &all)?;
    let (dir, upstream) = (Dir::new(), Registry::start());
    let reference = format!("{}/app/web:v1", upstream.host());
    let arguments = [
        "--message",
        message,
        "--platforms",
        "linux/amd64,linux/arm64",
        "--filler",
        "3000000",
        "--push",
        &reference,
    ];
    let digest = make_image(&scripts, &dir.join("image"), &arguments);
    let store = Store::at(dir.join("s"));
    store.run("pull", ["--plain-http", "--all-platforms", &reference]).ok();
    // What is served from here on is the satellite's own.
    let host = upstream.host();
    drop(upstream);
    let server = store.serve_with::<&str>([]);
    Some(Chain { server, upstream: host, digest, scripts, _dir: dir })
}

#[test]
fn containerd_pulls_by_tag_through_hosts_toml_and_runs_what_was_replicated() {
    let Some(chain) = chain("containerd", &["containerd", "ctr"], "hello containerd") else { return };
    let runtime = Runtime::containerd(&chain.scripts);
    // It asks the mirror for app/web with `?ns=` and the upstream's name.
    runtime.containerd_mirror(&chain.upstream, &format!("http://{}", chain.server.host()));
    let image = &format!("{}/app/web:v1", chain.upstream);
    runtime.ctr(["images", "pull", "--hosts-dir", runtime.fact("certs_d"), image.as_str()]).ok();
    let listed = runtime.ctr(["images", "ls", &format!("name=={image}")]).ok();
    assert!(listed.contains(&chain.digest), "{} is not what containerd has:\n{listed}", chain.digest);
    assert_eq!(runtime.ctr(["run", "--rm", image, "one"]).ok().trim(), "hello containerd");
}

#[test]
fn podman_pulls_through_a_mirror_and_runs_what_was_replicated() {
    let Some(chain) = chain("podman", &["podman", "conmon"], "hello podman") else { return };
    let runtime = Runtime::podman(&chain.scripts);
    runtime.podman_mirror(&chain.upstream, &chain.server.host());
    let image = format!("{}/app/web", chain.upstream);
    let said = runtime.podman_run(["run", "--rm", "--quiet", &format!("{image}:v1")]).ok();
    assert_eq!(said.trim(), "hello podman");
    let by_digest = format!("{image}@{}", chain.digest);
    let said = runtime.podman_run(["run", "--rm", "--quiet", &by_digest, "cat", "/message"]).ok();
    assert_eq!(said.trim(), "hello podman");
}

#[test]
fn one_upstreams_image_is_not_given_to_runtimes_as_another_upstreams() {
    let Some(chain) = chain("other names", &["containerd", "ctr", "podman", "conmon"], "hello") else {
        return;
    };
    let podman = Runtime::podman(&chain.scripts);
    // `location = "MIRROR/HOST"`: asks for /v2/HOST/app/web/manifests/v1.
    podman.podman_mirror("registry.test", &format!("{}/registry.test", chain.server.host()));
    let said = podman.podman_run(["pull", "--quiet", "registry.test/app/web:v1"]);
    assert_ne!(said.code, Some(0), "{said}");
    let containerd = Runtime::containerd(&chain.scripts);
    containerd.containerd_mirror("registry.test", &format!("http://{}", chain.server.host()));
    let said = containerd.ctr([
        "images",
        "pull",
        "--hosts-dir",
        containerd.fact("certs_d"),
        "registry.test/app/web:v1",
    ]);
    assert_ne!(said.code, Some(0), "{said}");
}

fn skopeo(args: &[&str]) -> Finished {
    run(Command::new("skopeo").arg("--insecure-policy").args(args), Duration::from_secs(120))
}

fn sample() -> Artifact {
    let amd64 = Image::new().file("etc/message", b"both ways").noise(2_000_000, 11).build();
    Artifact::index(vec![amd64, Image::new().platform("linux/arm/v7").noise(10_000, 12).build()])
}

#[test]
fn skopeo_copies_in_and_out_and_every_digest_stays() {
    if !has("skopeo") {
        return skip("skopeo", "the program is missing; tests/install gets it");
    }
    let dir = Dir::new();
    let server = Store::at(dir.join("s")).serve();
    let images = [("index", sample()), ("docker", Image::new().docker().noise(50_000, 13).build())];
    for (tag, image) in &images {
        image.write_layout(&dir.join(tag), tag);
        let from = format!("oci:{}:{tag}", dir.join(tag).display());
        let there = format!("docker://{}/team/app:{tag}", server.host());
        let copied =
            skopeo(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &there]);
        if *tag == "docker" && copied.code != Some(0) {
            // skopeo reads an oci: directory by OCI's types alone: push this one ourselves.
            image.push(&server.client(), "team/app", tag);
        } else {
            copied.ok();
        }
        image.check(&server.client(), "team/app", tag);
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &there]).ok();
        assert_eq!(oci::sha256(raw.as_bytes()), image.digest);
        let back = dir.join(format!("{tag}-back"));
        let to = format!("dir:{}", back.display());
        skopeo(&["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &there, &to]).ok();
        let manifest = std::fs::read(back.join("manifest.json")).unwrap();
        assert_eq!(oci::sha256(&manifest), image.digest);
    }
}

#[test]
fn skopeo_pushes_and_pulls_over_tls_of_a_private_authority_with_a_password() {
    if !has("skopeo") || !has("htpasswd") || !has("openssl") {
        return skip("skopeo over TLS", "skopeo, htpasswd or openssl is missing; tests/install gets them");
    }
    let dir = Dir::new();
    let certs = Certs::make(&dir.join("certs"));
    std::fs::write(dir.join("htpasswd"), htpasswd(USER, PASSWORD)).unwrap();
    let flags = [
        "--tls-cert".into(),
        certs.cert.clone(),
        "--tls-key".into(),
        certs.key.clone(),
        PathBuf::from("--htpasswd"),
        dir.join("htpasswd"),
    ];
    let server = Store::at(dir.join("s")).serve_with(flags);
    assert!(server.tls(), "it should say https://");
    let trusted = dir.join("trusted");
    std::fs::create_dir(&trusted).unwrap();
    std::fs::copy(&certs.ca, trusted.join("ca.crt")).unwrap();
    let trusted = trusted.display();
    let image = sample();
    image.write_layout(&dir.join("image"), "v1");
    let from = format!("oci:{}:v1", dir.join("image").display());
    let there = format!("docker://{}/team/app:v1", server.host());

    let anonymous = skopeo(&["copy", "--all", &format!("--dest-cert-dir={trusted}"), &from, &there]);
    assert_ne!(anonymous.code, Some(0), "a push without a password: {anonymous}");
    let wrong = format!("--dest-creds={USER}:no");
    assert_ne!(
        skopeo(&["copy", "--all", &wrong, &format!("--dest-cert-dir={trusted}"), &from, &there]).code,
        Some(0)
    );
    let creds = format!("--dest-creds={USER}:{PASSWORD}");
    skopeo(&[
        "copy",
        "--all",
        "--preserve-digests",
        &creds,
        &format!("--dest-cert-dir={trusted}"),
        &from,
        &there,
    ])
    .ok();

    // Anonymous pull, but not from a server that an unknown authority vouches for.
    let to = format!("dir:{}", dir.join("back").display());
    assert_ne!(skopeo(&["copy", &there, &to]).code, Some(0), "an unknown authority was trusted");
    skopeo(&["copy", "--all", "--preserve-digests", &format!("--src-cert-dir={trusted}"), &there, &to]).ok();
    assert_eq!(oci::sha256(&std::fs::read(dir.join("back/manifest.json")).unwrap()), image.digest);

    // And a second satellite pulls it the same way.
    let other = Store::at(dir.join("s2"));
    let reference = format!("{}/team/app:v1", server.host());
    let stranger = Certs::make(&dir.join("stranger"));
    let arguments = ["--ca-file".as_ref(), stranger.ca.as_os_str(), reference.as_ref()];
    other.run("pull", arguments).exits(6).complains(&["certificate"]);
    other
        .run(
            "pull",
            ["--ca-file".as_ref(), certs.ca.as_os_str(), "--all-platforms".as_ref(), reference.as_ref()],
        )
        .ok();
    image.check(&other.serve().client(), "team/app", "v1");
}

#[test]
fn buildah_finds_its_base_image_in_the_satellite_and_pushes_what_it_made() {
    let Some(chain) = chain("buildah", &["podman", "buildah", "conmon"], "hello buildah") else { return };
    let runtime = Runtime::podman(&chain.scripts);
    let dir = Dir::new();
    let target = Store::at(dir.join("s")).serve();
    let buildah = |args: &[&str]| {
        run(Command::new(runtime.fact("in_ns")).arg("buildah").args(args), Duration::from_secs(120)).ok()
    };
    let container = buildah(&["from", "--tls-verify=false", &format!("{}/app/web:v1", chain.server.host())]);
    buildah(&["config", "--label", "made=here", container.trim()]);
    let to = format!("docker://{}/made/here:v2", target.host());
    buildah(&["commit", "--tls-verify=false", "--quiet", container.trim(), &to]);
    let manifest = target.client().get("/v2/made/here/manifests/v2").expect(200).json();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = target.client().get(&format!("/v2/made/here/blobs/{config}")).expect(200).json();
    assert_eq!(config["config"]["Labels"]["made"], "here");
}
