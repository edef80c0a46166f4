//! Real runtimes pull by the original name what nobody has replicated, and run it.

use super::*;
use satellite_tests::{
    registry::Registry,
    runtimes::{Runtime, make_image, needs},
};

#[test]
fn containerd_and_podman_pull_through_by_the_original_name_and_run() {
    let all = ["docker-registry", "skopeo", "busybox", "runc", "containerd", "ctr", "podman", "conmon"];
    let Some(scripts) = needs("pull-through by runtimes", &all) else { return };
    let (dir, upstream) = (Dir::new(), Registry::start());
    let reference = format!("{}/app/web:v1", upstream.host());
    let arguments = [
        "--message",
        "hello through",
        "--platforms",
        "linux/amd64,linux/arm64",
        "--filler",
        "3000000",
        "--push",
        &reference,
    ];
    let digest = make_image(&scripts, &dir.join("image"), &arguments);
    let rule = format!("{}/app/*", upstream.host());
    let host = upstream.host();
    let server = Store::at(dir.join("s")).serve_with(["--pull-through", &rule, "--default-upstream", &host]);
    let podman = Runtime::podman(&scripts);
    podman.podman_mirror(&host, &server.host());
    let said = podman.podman_run(["run", "--rm", "--quiet", &reference]).ok();
    assert_eq!(said.trim(), "hello through");
    let containerd = Runtime::containerd(&scripts);
    containerd.containerd_mirror(&host, &format!("http://{}", server.host()));
    // What podman pulled is here: the upstream is not needed any more, but for the tag, which was just looked up.
    drop(upstream);
    let image = format!("{host}/app/web:v1");
    containerd.ctr(["images", "pull", "--hosts-dir", containerd.fact("certs_d"), image.as_str()]).ok();
    let listed = containerd.ctr(["images", "ls", &format!("name=={image}")]).ok();
    assert!(listed.contains(&digest), "{digest} is not what containerd has:\n{listed}");
    assert_eq!(containerd.ctr(["run", "--rm", image.as_str(), "one"]).ok().trim(), "hello through");
}
