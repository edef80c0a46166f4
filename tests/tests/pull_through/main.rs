//! Pull-through: what a client asks for and the satellite lacks comes from upstream, once, verified, by rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod capacity;
mod clients;
mod streams;
mod tags;

use std::{fs, thread, time::Duration};

use satellite_tests::{
    dir::Dir,
    http::{Client, Request, Response},
    image::{Artifact, Image},
    proxy::{Fault, Proxy},
    satellite::{Server, Store},
    wait,
};

const MIB: usize = 1 << 20;

/// An upstream (a satellite too), the link to it, and an edge that may pull through everything of it.
struct Site {
    upstream: Server,
    link: Proxy,
    edge: Server,
    store: Store,
    _dir: Dir,
}

impl Site {
    fn new() -> Self {
        Self::with(&["--revalidate", "1h"])
    }

    fn with(flags: &[&str]) -> Self {
        let dir = Dir::new();
        let upstream = Store::at(dir.join("upstream")).serve();
        let link = Proxy::start(upstream.address());
        let store = Store::at(dir.join("edge"));
        let edge = edge(&store, &link, flags);
        Self { upstream, link, edge, store, _dir: dir }
    }

    fn push(&self, image: &Artifact, repository: &str, tag: &str) {
        image.push(&self.upstream.client(), repository, tag);
    }

    fn client(&self) -> Client {
        self.edge.client()
    }

    /// A repository of the upstream, as podman's `location = "MIRROR/HOST"` spells it.
    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.link.host())
    }

    /// Everything of the image, through the edge, with the right bytes.
    #[track_caller]
    fn check(&self, image: &Artifact, repository: &str, tag: &str) {
        image.check(&self.client(), &self.name(repository), tag);
    }

    fn manifest(&self, repository: &str, reference: &str) -> Response {
        self.client().get(&format!("/v2/{repository}/manifests/{reference}?ns={}", self.link.host()))
    }

    fn blob(&self, repository: &str, digest: &str) -> Response {
        self.client().get(&format!("/v2/{repository}/blobs/{digest}?ns={}", self.link.host()))
    }

    /// Waits until the image is in the edge's store, whole.
    #[track_caller]
    fn settles(&self, image: &Artifact) {
        let blobs = self.store.dir().join("blobs/sha256");
        for (digest, bytes) in image.reach() {
            let path = blobs.join(digest.trim_start_matches("sha256:"));
            let whole = || fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64).then_some(());
            wait::until(Duration::from_secs(20), digest, whole);
        }
    }
}

/// A server that may fetch everything of the link's upstream.
fn edge(store: &Store, link: &Proxy, flags: &[&str]) -> Server {
    let rule = link.host();
    store.serve_with(["--trust-loopback", "--pull-through", &rule].iter().chain(flags))
}

#[test]
fn what_is_missing_is_fetched_and_served_without_the_upstream_afterwards() {
    let site = Site::new();
    let amd64 = Image::new().noise(MIB, 1).noise(3000, 2).build();
    let image = Artifact::index(vec![amd64, Image::new().platform("linux/arm64").noise(50_000, 3).build()]);
    site.push(&image, "team/app", "v1");
    site.check(&image, "team/app", "v1");
    for (digest, bytes) in image.reach() {
        let crossed = site.link.bytes(digest);
        assert!(crossed <= 2 * bytes.len() as u64, "{digest}: {crossed} bytes for {}", bytes.len());
    }
    site.settles(&image);
    site.link.on(|_, _| Fault::Close);
    site.check(&image, "team/app", "v1");
    // After a restart too, with the upstream still away.
    let Site { edge: server, store, link, .. } = site;
    server.kill();
    let server = edge(&store, &link, &[]);
    image.check(&server.client(), &format!("{}/team/app", link.host()), "v1");
}

#[test]
fn without_a_rule_nothing_is_asked_for() {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let (link, image) = (Proxy::start(upstream.address()), Image::new().noise(1000, 1).build());
    for repository in ["open/app", "open/deep/app", "closed/app", "some/app"] {
        for tag in ["v1.0", "v2.0"] {
            image.push(&upstream.client(), repository, tag);
        }
    }
    let host = link.host();
    let rules = [format!("{host}/open/*"), format!("{host}/some/*:v1.*")];
    let edge =
        Store::at(dir.join("edge")).serve_with(["--pull-through", &rules[0], "--pull-through", &rules[1]]);
    let status = |path: &str| edge.client().get(&format!("/v2/{path}?ns={host}")).status;
    assert_eq!(status("closed/app/manifests/v1.0"), 404);
    assert_eq!(status(&format!("closed/app/manifests/{}", image.digest)), 404);
    assert_eq!(status(&format!("closed/app/blobs/{}", image.blobs[0].digest)), 404);
    assert_eq!(status("open/deep/app/manifests/v1.0"), 404);
    assert_eq!(status("some/app/manifests/v2.0"), 404);
    // By digest only what an allowed tag led to.
    assert_eq!(status(&format!("some/app/manifests/{}", image.digest)), 404);
    assert_eq!(status(&format!("some/app/blobs/{}", image.blobs[0].digest)), 404);
    assert_eq!(edge.client().get("/v2/open/app/manifests/v1.0").status, 404, "no default upstream");
    assert_eq!(edge.client().get("/v2/open/app/manifests/v1.0?ns=elsewhere.test").status, 404);
    assert!(link.seen("").is_empty(), "asked: {:?}", link.seen(""));
    assert_eq!(status("open/app/manifests/v2.0"), 200);
    assert_eq!(status("some/app/manifests/v1.0"), 200);
    assert_eq!(status(&format!("some/app/manifests/{}", image.digest)), 200);
    assert_eq!(status(&format!("some/app/blobs/{}", image.blobs[0].digest)), 200);
    wait::until(Duration::from_secs(5), "the count of what was denied", || {
        edge.client().get("/metrics").text().contains("satellite_pull_through_denied 8").then_some(())
    });
}

#[test]
fn an_upstream_that_is_the_satellite_itself_ends_in_an_error_and_not_in_a_circle() {
    let dir = Dir::new();
    let port = satellite_tests::ports::free();
    let host = format!("127.0.0.1:{port}");
    let mut command = Store::at(dir.join("s")).command("serve", ["--listen", &host, "--pull-through", &host]);
    let mut server = Server::start(&mut command, &dir.join("s"));
    let begun = std::time::Instant::now();
    assert_eq!(server.client().get(&format!("/v2/a/b/manifests/v1?ns={host}")).status, 404);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let log = server.daemon().log();
    assert!(log.contains("is its own upstream"), "{log}");
    // Two that ask each other.
    let dir = Dir::new();
    let (one, two) = (satellite_tests::ports::free(), satellite_tests::ports::free());
    let hosts = [format!("127.0.0.1:{one}"), format!("127.0.0.1:{two}")];
    let start = |n: usize| {
        let store = Store::at(dir.join(n.to_string()));
        let other = &hosts[1 - n];
        let flags = ["--listen", &hosts[n], "--pull-through", other, "--default-upstream", other];
        Server::start(&mut store.command("serve", flags), store.dir())
    };
    let servers = [start(0), start(1)];
    assert_eq!(servers[0].client().get("/v2/a/b/manifests/v1").status, 404);
    assert_eq!(servers[0].client().get("/v2/").status, 200);
}

#[test]
fn rules_that_do_not_parse_are_refused_before_anything_is_touched() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    for (flags, words) in [
        (&["--pull-through", "library/alpine"][..], &["library/alpine", "neither a dot nor a port"][..]),
        (&["--pull-through", "docker.io/A"], &["docker.io/A", "characters"]),
        (&["--pull-through", "docker.io", "--default-upstream", "quay.io"], &["quay.io", "no rule"]),
        (&["--default-upstream", "quay.io"], &["--pull-through"]),
        (&["--capacity", "much"], &["much", "is not a size"]),
        (&["--pull-through", "docker.io", "--revalidate", "soon"], &["soon", "is not a time"]),
    ] {
        store.run("serve", flags).exits(2).decent().complains(words);
    }
    let two = ["--pull-through", "a.test", "--pull-through", "b.test", "--username", "u", "--password-stdin"];
    store.run_with("serve", two, "p").exits(2).complains(&["several"]);
    assert!(!store.dir().exists(), "the store was touched");
}
