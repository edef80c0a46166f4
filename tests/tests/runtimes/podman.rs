use crate::{OURS, STUCK, Site, THEIRS, Table};
use rustix::process::Signal;
use satellite_tests::process::{Finished, run};
use satellite_tests::runtimes::Runtime;
use std::path::Path;
use std::process::Command;

fn pull(runtime: &Runtime, image: &str) -> Finished {
    runtime.podman_run(["rmi", "--force", image]);
    run(Command::new(runtime.fact("podman")).args(["pull", "--quiet", image]), STUCK)
}

fn says(runtime: &Runtime, image: &str) -> String {
    runtime.podman_run(["run", "--rm", "--quiet", "--pull=never", image]).ok().trim().to_string()
}

#[test]
fn podman_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let Some(mut site) = Site::new("podman", &["podman", "conmon"]) else { return };
    let runtime = Runtime::podman(&site.scripts);
    let etc = Path::new(runtime.fact("etc_containers")).to_owned();
    site.root(&[("/etc/containers", &etc)]);
    // What an admin has: where the origins are in this test.
    let mut text = "unqualified-search-registries = [\"docker.io\"]\n".to_string();
    for host in ["docker.io", "registry.test"] {
        let origin = site.origin.host();
        text +=
            &format!("[[registry]]\nprefix = \"{host}\"\nlocation = \"{origin}\"\ninsecure = true # lab\n");
    }
    std::fs::write(etc.join("registries.conf"), &text).unwrap();
    let (web, other) = ("docker.io/library/web:v1", "registry.test/library/other:v1");
    pull(&runtime, web).ok();
    let without = pull(&runtime, web);
    let mut table = Table::new(format!("podman {}", runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(says(&runtime, web), THEIRS);

    let mirrors = ["podman:docker.io,registry.test"];
    site.runtimes("apply", &mirrors).ok();
    assert!(site.runtimes("apply", &mirrors).ok().contains("nothing to change"));
    let info = runtime.podman_run(["info", "--format", "json"]).ok();
    assert!(info.contains(&format!("{}/registry.test", site.server.host())), "{info}");
    for image in [web, "registry.test/library/web:v1"] {
        table.quick("satellite has it", pull(&runtime, image));
        assert_eq!(says(&runtime, image), OURS);
    }
    table.quick("satellite says 404", pull(&runtime, other));
    assert_eq!(says(&runtime, other), THEIRS);
    site.server.daemon().signal(Signal::STOP);
    let stuck = pull(&runtime, other);
    site.server.daemon().signal(Signal::CONT);
    table.measured("satellite stuck (STOP)", &stuck);
    let Site { server, .. } = site;
    server.stop();
    table.quick("satellite stopped", pull(&runtime, web));
    assert_eq!(says(&runtime, web), THEIRS);

    let mut revert = satellite_tests::satellite::command(["runtimes", "revert"]);
    revert.arg("--root").arg(site.dir.join("root")).arg("--state-dir").arg(site.dir.join("journal"));
    run(&mut revert, STUCK).ok();
    assert!(!etc.join("registries.conf.d/50-satellite.conf").exists());
    assert_eq!(std::fs::read_to_string(etc.join("registries.conf")).unwrap(), text);
}
