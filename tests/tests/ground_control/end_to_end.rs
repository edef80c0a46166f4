//! The whole loop from one process with nothing configured: an image, a group, a satellite that finds, fetches and
//! reports it.

use crate::worlds::{World, both};
use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{PASSWORD, heartbeat, state};
use satellite_tests::http::Request;
use satellite_tests::image::Image;
use satellite_tests::satellite::Store;
use serde_json::json;

fn the_loop(world: &World) {
    let admin = world.server.admin();
    let image = Image::new().file("etc/message", b"hello").noise(200_000, 4).build();
    let pusher = world.server.client().basic("admin", PASSWORD);
    image.push(&pusher, "library/web", "v1");
    let other = Image::new().noise(1000, 5).build();
    other.push(&pusher, "private/other", "v1");
    admin.config("edge");
    admin.group("shop", &[("library/web", "v1", &image.digest)]);
    let robot = admin.enrol("gate-1", &["shop"], "edge");

    // The satellite's side, by what the robot was told alone.
    let registry = state::registry(&robot);
    let own = state::read(&registry, &robot.state).expect("the satellite's state");
    let groups: Vec<&str> =
        own["states"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert_eq!(groups.len(), 1, "{own}");
    let group = state::read(&registry, groups[0]).expect("the group's state");
    assert_eq!(group["group"], "shop");
    assert_eq!(group["artifacts"][0]["repository"], "library/web");
    assert_eq!(group["artifacts"][0]["digest"], image.digest.as_str());
    let config = state::read(&registry, own["config"].as_str().unwrap()).expect("the configuration");
    assert_eq!(config["app_config"]["log_level"], "info");

    // The image, by the program that gateways run.
    let dir = Dir::new();
    let store = Store::at(dir.join("store"));
    let host = robot.url.trim_start_matches("http://");
    let arguments = ["--plain-http", "--username", &robot.username, "--password-stdin"];
    let pull = |image: &str| store.run_with("pull", arguments.into_iter().chain([image]), &robot.password);
    pull(&format!("{host}/library/web:v1")).ok();
    let served = store.serve();
    image.check(&served.client(), "library/web", "v1");
    drop(served);

    // What it must not do.
    assert_ne!(
        pull(&format!("{host}/private/other:v1")).code,
        Some(0),
        "a robot pulled what no group of it holds"
    );
    let push = Image::new().noise(10, 6).build().try_push(&registry, "library/web", "v2");
    assert!(push.is_err(), "a robot pushed");
    let wrong = world.server.client().basic(&robot.username, "wrong");
    wrong.get("/v2/library/web/manifests/v1").expect(401);
    world.server.client().get("/v2/library/web/manifests/v1").expect(401);

    // Seen, and healthy.
    assert!(admin.read("/api/satellites/active").is_null());
    let mut body = heartbeat("gate-1");
    body["cached_images"] = json!([{"reference": format!("127.0.0.1:8585/library/web:v1@{}", image.digest), "size_bytes": 200_000}]);
    body["image_count"] = json!(1);
    admin.sync(&robot, &body).expect(200);
    let active = admin.read("/api/satellites/active");
    assert_eq!(active[0]["Name"], "gate-1", "{active}");
    let images = admin.read("/api/satellites/gate-1/images");
    assert!(images[0]["Reference"].as_str().unwrap().contains(&image.digest), "{images}");

    // A change of the group arrives at the same address.
    admin.group("shop", &[]);
    let group = state::read(&registry, groups[0]).expect("the group's state");
    assert!(group["artifacts"].as_array().is_none_or(Vec::is_empty), "{group}");
    let gone = admin.delete("/api/satellites/gate-1");
    gone.expect(200);
    registry.send(&Request::new("GET", "/v2/library/web/manifests/v1")).expect(401);
}

#[test]
fn an_image_a_group_and_a_satellite_come_together_in_one_process() {
    both(the_loop);
}
