//! A link that goes away in the middle of a blob.

use satellite_tests::agent::Site;
use satellite_tests::ground_control::PASSWORD;
use satellite_tests::image::Image;
use satellite_tests::satellite::BOUND;
use satellite_tests::wait;
use satellite_tests::wire::Wire;
use serde_json::json;

const LARGE: usize = 48 << 20;
/// What may come twice: a second's bytes at the rate that is set, and what was under way.
const TWICE: u64 = 12 << 20;

#[test]
fn a_link_that_is_cut_costs_no_image_and_few_bytes() {
    let site = Site::start();
    let small = site.image("library/web", "v1", 1);
    let large = Image::new().noise(LARGE, 2).build();
    large.push(&site.server.client().basic("admin", PASSWORD), "library/large", "v1");
    site.publish("edge", &json!({"satellite": {"limit_rate": "16MiB"}}));
    site.admin.group("shop", &[("library/web", "v1", &small.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let wire = Wire::to(site.server.address());
    // Slower than the satellite takes it: what waits in its sockets is lost with it, and is as much as the kernel likes.
    wire.limit(12 << 20);
    let url = format!("http://{}", wire.address());
    let mut agent =
        site.run_with(Some(&token), &["--ground-control-url", &url, "--harbor-registry-url", &url]);
    site.serves(&mut agent, "library/web", "v1", &small);

    site.admin.group("shop", &[("library/web", "v1", &small.digest), ("library/large", "v1", &large.digest)]);
    let before = wire.counts().1;
    wait::until(BOUND, "half of the blob", || (wire.counts().1 - before > LARGE as u64 / 2).then_some(()));
    wire.cut();
    // It serves what it has, and says how it is, while nothing comes through.
    site.serves(&mut agent, "library/web", "v1", &small);
    assert_eq!(site.status().expect("a status")["name"], "gate");
    // A new life on a machine without a link.
    agent.kill();
    let mut agent = site.run_with(None, &["--ground-control-url", &url, "--harbor-registry-url", &url]);
    site.serves(&mut agent, "library/web", "v1", &small);
    wire.mend();
    site.serves(&mut agent, "library/large", "v1", &large);
    let came = wire.counts().1 - before;
    assert!(came < LARGE as u64 + TWICE, "{came} bytes for {LARGE}");
    site.wait(&mut agent, "all to be well", || site.well());
}
