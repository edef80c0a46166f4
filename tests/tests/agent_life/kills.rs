//! Power that goes at any instant.

use satellite_tests::agent::Site;
use satellite_tests::ground_control::PASSWORD;
use satellite_tests::image::Image;
use satellite_tests::satellite::command;
use satellite_tests::wire::Wire;
use serde_json::json;
use std::time::Duration;

/// Lives that end in a kill.
const LIVES: u64 = 14;
/// Bytes of the larger layer of each image.
const SIZE: u64 = 2_000_000;

#[test]
fn killed_at_any_instant_it_ends_up_with_what_it_shall_hold_and_nothing_else() {
    let site = Site::start();
    let admin = site.server.client().basic("admin", PASSWORD);
    let images: Vec<_> =
        (0..LIVES).map(|n| Image::new().noise(SIZE as usize, n).noise(100_000, 100 + n).build()).collect();
    for (n, image) in images.iter().enumerate() {
        image.push(&admin, "library/app", &format!("v{n}"));
    }
    site.publish("edge", &json!({}));
    site.admin.group("shop", &[]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let wire = Wire::to(site.server.address());
    let url = format!("http://{}", wire.address());
    // From before the exchange of the token to after a whole replication; other instants at each run.
    for (n, image) in images.iter().enumerate() {
        site.admin.group("shop", &[("library/app", &format!("v{n}"), &image.digest)]);
        let before = wire.counts().1;
        let mut agent =
            site.run_with(Some(&token), &["--ground-control-url", &url, "--harbor-registry-url", &url]);
        // From the first instant to after the last byte.
        let most = SIZE * n as u64 / (LIVES - 1);
        let come = fastrand::u64(0..=most);
        site.wait(&mut agent, "some of the image", || (wire.counts().1 - before >= come).then_some(()));
        agent.kill();
    }
    let last = images.last().unwrap();
    let tag = format!("v{}", LIVES - 1);
    let mut agent = site.run(Some(&token));
    site.serves(&mut agent, "library/app", &tag, last);
    for n in 0..LIVES - 1 {
        site.gone(&mut agent, "library/app", &format!("v{n}"));
    }
    let status = site.wait(&mut agent, "all to be well", || site.well());
    assert_eq!(status["images"], 1, "{status}");
    let health = site.admin.read("/api/satellites/gate/health");
    assert_eq!((&health["state"], &health["last_error"]), (&json!("online"), &json!(null)), "{health}");
    assert!(agent.terminate(Duration::from_secs(10)).success());
    // Every byte is what its digest says.
    let store = site.machine.join("zot");
    let checked = command(["fsck", "--data-dir", store.to_str().unwrap()]).output().unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}
