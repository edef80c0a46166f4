//! One image of several platforms, from a registry to a client, with a kill in the middle: what `cross/smoke` runs on
//! binaries for other machines, under emulation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::Daemon;
use satellite_tests::proxy::Proxy;
use satellite_tests::registry::Registry;
use satellite_tests::satellite::{BOUND, Store};
use satellite_tests::{skip, wait};

const MIB: u64 = 1 << 20;
/// Size of each platform's layer.
const LAYER: usize = 12 << 20;

#[test]
fn an_image_is_replicated_through_a_kill_and_served_with_the_digests_it_has() {
    if !Registry::available() {
        return skip("smoke", "docker-registry is missing; tests/install gets it");
    }
    let dir = Dir::new();
    let registry = Registry::start();
    let one = |(n, platform): (u64, &str)| Image::new().platform(platform).noise(LAYER, n).build();
    let platforms = ["linux/amd64", "linux/arm64", "linux/riscv64"];
    let image = Artifact::index((1..).zip(platforms).map(one).collect());
    image.push(&registry.client(), "edge/app", "v1");
    let (link, store) = (Proxy::start(registry.address()), Store::at(dir.join("s")));
    let reference = format!("{}/edge/app:v1", link.host());

    link.limit(12 * MIB);
    let mut command = store.command("pull", ["--plain-http", "--all-platforms", &reference]);
    let mut pull = Daemon::start("satellite pull", &mut command, &dir.join("pull"));
    wait::until(BOUND, "16 MiB across the link", || (link.bytes("/blobs/") > 16 * MIB).then_some(()));
    pull.kill();
    let had = link.bytes("/blobs/");
    link.limit(0);
    store.run("pull", ["--plain-http", "--all-platforms", &reference]).ok();
    let all = 3 * LAYER as u64;
    let again = link.bytes("/blobs/").saturating_sub(all);
    eprintln!("killed after {had} bytes of {all}; {again} bytes came twice");
    // Of each of the blobs under way at once at most what a checkpoint is behind, and what the sockets held.
    assert!(again <= 3 * 8 * MIB, "{again} bytes came twice");

    let server = store.serve();
    image.check(&server.client(), "edge/app", "v1");
    assert!(server.stop().success());
    let fsck = store.run("fsck", [] as [&str; 0]);
    fsck.ok();
}
