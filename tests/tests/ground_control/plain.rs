//! Any registry in Harbor's place: Debian's docker-registry, with credentials that all satellites share.

use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{Setup, heartbeat, state};
use satellite_tests::image::Image;
use satellite_tests::registry::{Options, PASSWORD, Registry, USER};
use satellite_tests::satellite::Store;
use satellite_tests::{has, skip};

#[test]
fn a_plain_registry_holds_the_states_and_the_images_and_its_credentials_are_handed_out() {
    if !Registry::available() || !has("htpasswd") {
        skip("a plain registry", "docker-registry or htpasswd is missing; tests/install gets them");
        return;
    }
    let registry = Registry::with(&Options { basic: true, ..Options::default() });
    let url = format!("http://{}", registry.host());
    let dir = Dir::new();
    let setup = Setup::new(dir.join("data"))
        .env("REGISTRY_URL", &url)
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .env("REGISTRY_PULL_USERNAME", USER)
        .env("REGISTRY_PULL_PASSWORD", PASSWORD);
    let server = setup.start();
    let admin = server.admin();
    let image = Image::new().noise(50_000, 9).build();
    image.push(&registry.client(), "library/web", "v1");
    admin.config("c1");
    admin.group("g1", &[("library/web", "v1", &image.digest)]);
    let robot = admin.enrol("sat1", &["g1"], "c1");
    assert_eq!((robot.url.as_str(), robot.password.as_str()), (url.as_str(), PASSWORD));
    let own = state::read(&registry.client(), &robot.state).expect("the satellite's state");
    let group =
        state::read(&registry.client(), own["states"][0].as_str().unwrap()).expect("the group's state");
    assert_eq!(group["artifacts"][0]["digest"], image.digest.as_str());
    let store = Store::at(dir.join("store"));
    let reference = format!("{}/library/web:v1", registry.host());
    store
        .run_with(
            "pull",
            ["--plain-http", "--username", &robot.username, "--password-stdin", &reference],
            &robot.password,
        )
        .ok();
    admin.sync(&robot, &heartbeat("sat1")).expect(200);
    assert_eq!(admin.read("/api/satellites/active")[0]["Name"], "sat1");
    admin.delete("/api/satellites/sat1").expect(200);
    admin.sync(&robot, &heartbeat("sat1")).expect(401);
}
