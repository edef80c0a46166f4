//! The cap: what is pulled through makes room for itself, what is replicated stays.

use super::*;

/// Bytes of content, of what is on its way included.
fn used(store: &Store) -> u64 {
    [store.dir().join("blobs/sha256"), store.dir().join(".satellite/partial")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap().flatten())
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

#[test]
fn pulls_through_stay_under_the_cap_and_replicated_images_stay() {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let link = Proxy::start(upstream.address());
    let images: Vec<Artifact> =
        (0..12).map(|n| Image::new().noise(MIB, n).noise(MIB, 100 + n).build()).collect();
    for (n, image) in images.iter().enumerate() {
        image.push(&upstream.client(), "app", &format!("v{n}"));
    }
    let store = Store::at(dir.join("edge"));
    store.pull(&format!("{}/app:v0", link.host())).ok();
    let cap = 9 * MIB as u64;
    let rule = link.host();
    let flags = ["--pull-through", &rule, "--capacity", "9MiB", "--revalidate", "1h", "--keep-used", "0"];
    let server = store.serve_with(flags);
    let name = format!("{}/app", link.host());
    for (n, image) in images.iter().enumerate().skip(1) {
        image.check(&server.client(), &name, &format!("v{n}"));
        assert!(used(&store) <= cap, "{} bytes after image {n}", used(&store));
    }
    images[0].check(&server.client(), "app", "v0");
    link.on(|_, _| Fault::Close);
    images[11].check(&server.client(), &name, "v11");
    assert_ne!(server.client().get(&format!("/v2/{name}/manifests/v1")).status, 200, "long evicted");
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_begun_and_the_log_says_what_it_needs() {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let link = Proxy::start(upstream.address());
    let (pinned, big) = (Image::new().noise(2 * MIB, 1).build(), Image::new().noise(3 * MIB, 2).build());
    pinned.push(&upstream.client(), "app", "pinned");
    big.push(&upstream.client(), "app", "big");
    let store = Store::at(dir.join("edge"));
    store.pull(&format!("{}/app:pinned", link.host())).ok();
    let rule = link.host();
    let mut server = store.serve_with(["--pull-through", &rule, "--capacity", "1MiB"]);
    server
        .daemon()
        .wait_log(Duration::from_secs(10), |line| line.contains("taken by what must stay").then_some(()));
    let name = format!("{rule}/app");
    server.client().get(&format!("/v2/{name}/manifests/big")).expect(404);
    assert_eq!(link.bytes(&big.blobs[1].digest), 0);
    pinned.check(&server.client(), &name, "pinned");
    let refused = store.run("pull", [format!("{rule}/app:big")]);
    assert_ne!(refused.code, Some(0));
    refused.complains(&["needed", "cap"]);
    assert!(server.daemon().log().contains("it needs") || server.daemon().log().contains("no room"));
}
