//! Disks that are full, and disks that cannot be written to: small file systems in memory.

use satellite_tests::dir::Dir;
use satellite_tests::disk::Disk;
use satellite_tests::http::Request;
use satellite_tests::image::Image;
use satellite_tests::registry::Registry;
use satellite_tests::satellite::Store;
use satellite_tests::skip;

#[test]
fn a_disk_that_fills_up_at_any_write_refuses_what_is_new_and_keeps_what_is_old() {
    let dir = Dir::new();
    let Some(disk) = Disk::new("full disk", &dir.join("d"), "80m") else { return };
    let store = Store::at(dir.join("d"));
    let image = Image::new().noise(200_000, 1).build();
    let mut server = store.serve();
    image.push(&server.client(), "app", "v1");
    let (mut refused, mut seed) = (0, 100);
    // Below and around what it keeps back for itself, 32 MiB.
    let kept = 32 << 20;
    for free in [
        0,
        4 << 10,
        200 << 10,
        1 << 20,
        6 << 20,
        kept,
        kept + 100_000,
        kept + 400_000,
        kept + (2 << 20),
        kept + (6 << 20),
    ] {
        disk.fill(free);
        for size in [100, 300_000, 2_000_000] {
            seed += 1;
            let new = Image::new().noise(size, seed).build();
            match new.try_push(&server.client(), "app", &format!("v{seed}")) {
                Ok(()) => new.check(&server.client(), "app", &format!("v{seed}")),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(": 507 "), "{free} bytes free, {size} pushed: {text}");
                    refused += 1;
                }
            }
        }
        image.check(&server.client(), "app", "v1");
        // It starts on a disk that is as full as before, and serves.
        server.kill();
        server = store.serve();
        image.check(&server.client(), "app", "v1");
    }
    assert!(refused > 3, "the disk was never full");
    disk.free();
    let new = Image::new().noise(500_000, 99).build();
    new.push(&server.client(), "app", "after");
    new.check(&server.client(), "app", "after");
    assert!(!server.daemon().log().contains("panicked"), "{}", server.daemon().log());
}

#[test]
fn a_pull_that_does_not_fit_says_so_before_or_while_it_writes_and_leaves_room() {
    if !Registry::available() {
        return skip("pull to a full disk", "docker-registry is missing; tests/install gets it");
    }
    let (dir, registry) = (Dir::new(), Registry::start());
    let Some(_disk) = Disk::new("pull to a full disk", &dir.join("d"), "80m") else { return };
    let (small, large) = (Image::new().noise(50_000, 1).build(), Image::new().noise(70 << 20, 2).build());
    small.push(&registry.client(), "app", "small");
    large.push(&registry.client(), "app", "large");
    let store = Store::at(dir.join("d"));
    store.pull(&format!("{}/app:small", registry.host())).ok();
    store.pull(&format!("{}/app:large", registry.host())).exits(5).decent().complains(&["space"]);
    let server = store.serve();
    small.check(&server.client(), "app", "small");
    server.client().get("/v2/app/manifests/large").expect(404);
    Image::new().noise(100_000, 3).build().push(&server.client(), "app", "more");
}

#[test]
fn a_disk_that_is_read_only_is_named_as_the_reason() {
    let dir = Dir::new();
    let Some(disk) = Disk::new("read-only disk", &dir.join("d"), "80m") else { return };
    let store = Store::at(dir.join("d"));
    let image = Image::new().noise(50_000, 1).build();
    let server = store.serve();
    image.push(&server.client(), "app", "v1");
    assert!(server.stop().success());
    disk.remount("ro");
    for (command, arguments) in
        [("serve", vec!["--listen", "127.0.0.1:0"]), ("gc", vec![]), ("pull", vec!["127.0.0.1:1/x:v1"])]
    {
        store.run(command, arguments).exits(5).decent().complains(&["read-only"]);
    }
    disk.remount("rw");
    image.check(&store.serve().client(), "app", "v1");
}

#[test]
fn an_upload_is_refused_at_once_when_it_says_that_it_is_larger_than_the_disk() {
    let dir = Dir::new();
    let Some(_disk) = Disk::new("too large an upload", &dir.join("d"), "80m") else { return };
    let server = Store::at(dir.join("d")).serve();
    let location = server.client().post("/v2/app/blobs/uploads/").expect(202).location();
    let put = Request::new("PATCH", &location).header("Content-Type", "application/octet-stream");
    let body = satellite_tests::http::Body::Cut { announced: 1 << 40, sent: vec![0; 1000] };
    server.client().send(&put.body(body)).expect(507);
    Image::new().noise(1_000_000, 3).build().push(&server.client(), "app", "v1");
}
