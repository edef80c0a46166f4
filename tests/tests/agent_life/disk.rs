//! A disk that an image does not fit on.

use satellite_tests::agent::Site;
use satellite_tests::disk::Disk;
use satellite_tests::ground_control::PASSWORD;
use satellite_tests::image::Image;
use satellite_tests::wire::Wire;
use serde_json::json;

#[test]
fn an_image_that_does_not_fit_is_told_and_not_tried_in_vain_and_the_others_stay() {
    let site = Site::start();
    let Some(disk) = Disk::new("full disk under satellite run", &site.dir.join("disk"), "96m") else {
        return;
    };
    let small = site.image("library/web", "v1", 1);
    let large = Image::new().noise(80 << 20, 2).build();
    large.push(&site.server.client().basic("admin", PASSWORD), "library/large", "v1");
    site.publish("edge", &json!({}));
    site.admin.group("shop", &[("library/web", "v1", &small.digest)]);
    let token = site.admin.register("gate", &["shop"], "edge");
    let wire = Wire::to(site.server.address());
    let url = format!("http://{}", wire.address());
    site.own(
        &site.machine,
        json!({"zot_config": {"storage": {"rootDirectory": site.dir.join("disk/store")}}}),
    );
    let flags = ["--harbor-registry-url", &url];
    let mut agent = site.run_with(Some(&token), &flags);
    site.serves(&mut agent, "library/web", "v1", &small);

    site.admin.group("shop", &[("library/web", "v1", &small.digest), ("library/large", "v1", &large.digest)]);
    let cause = site.wait(&mut agent, "the trouble in Ground Control", || site.cause());
    assert_eq!(cause, "disk.blocked", "{}", agent.log());
    let message = site.admin.read("/api/satellites/gate/health")["last_error"]["message"].to_string();
    assert!(message.contains("are needed"), "what is needed, and what there is: {message}");
    // Many times the interval: nothing of it comes again and again.
    let before = wire.counts().1;
    site.beats(&mut agent, 4);
    assert!(wire.counts().1 - before < 2 << 20, "{} bytes came in vain", wire.counts().1 - before);
    site.serves(&mut agent, "library/web", "v1", &small);

    // Whoever put it there takes it away: known as soon as ever. And once more.
    site.admin.group("shop", &[("library/web", "v1", &small.digest)]);
    site.wait(&mut agent, "all to be well", || site.well());
    site.admin.group("shop", &[("library/web", "v1", &small.digest), ("library/large", "v1", &large.digest)]);
    site.wait(&mut agent, "the trouble in Ground Control", || site.cause());

    // Somebody gives it room: it comes by itself, when somebody says so at once.
    disk.remount("size=256m");
    let now =
        satellite_tests::satellite::command(["now", "state", "--config-dir", site.machine.to_str().unwrap()])
            .output()
            .unwrap();
    assert!(now.status.success(), "{}", String::from_utf8_lossy(&now.stderr));
    site.serves(&mut agent, "library/large", "v1", &large);
    site.wait(&mut agent, "all to be well", || site.well());
    site.wait(&mut agent, "Ground Control to know", || site.cause().is_none().then_some(()));
    drop(agent);
}
