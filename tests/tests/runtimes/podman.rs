use crate::{OURS, STUCK, Site, THEIRS, Table};
use rustix::process::Signal;
use satellite_tests::process::{Finished, run};
use satellite_tests::registry::Registry;
use satellite_tests::runtimes::Runtime;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Node {
    runtime: Runtime,
}

impl Node {
    /// One whose admin wrote down where the origins of `hosts` are in this test.
    pub(crate) fn start(scripts: &Path, origin: &Registry, hosts: &[&str]) -> Self {
        let node = Self { runtime: Runtime::podman(scripts) };
        let mut text = "unqualified-search-registries = [\"docker.io\"]\n".to_string();
        for host in hosts {
            let origin = origin.host();
            text += &format!(
                "[[registry]]\nprefix = \"{host}\"\nlocation = \"{origin}\"\ninsecure = true # lab\n"
            );
        }
        std::fs::write(node.etc().join("registries.conf"), text).unwrap();
        node
    }

    /// Its /etc/containers.
    pub(crate) fn etc(&self) -> PathBuf {
        self.runtime.fact("etc_containers").into()
    }

    /// A fresh pull.
    pub(crate) fn pull(&self, image: &str) -> Finished {
        self.runtime.podman_run(["rmi", "--force", image]);
        run(Command::new(self.runtime.fact("podman")).args(["pull", "--quiet", image]), STUCK)
    }

    pub(crate) fn says(&self, image: &str) -> String {
        self.runtime.podman_run(["run", "--rm", "--quiet", "--pull=never", image]).ok().trim().to_string()
    }
}

#[test]
fn podman_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let Some(mut site) = Site::new("podman", &["podman", "conmon"]) else { return };
    let node = Node::start(&site.scripts, &site.origin, &["docker.io", "registry.test"]);
    let etc = node.etc();
    site.root(&vec![("/etc/containers".into(), etc.clone())]);
    let text = std::fs::read_to_string(etc.join("registries.conf")).unwrap();
    let (web, other) = ("docker.io/library/web:v1", "registry.test/library/other:v1");
    node.pull(web).ok();
    let without = node.pull(web);
    let mut table = Table::new(format!("podman {}", node.runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(node.says(web), THEIRS);

    let mirrors = ["podman:docker.io,registry.test"];
    site.runtimes("apply", &mirrors).ok();
    assert!(site.runtimes("apply", &mirrors).ok().contains("nothing to change"));
    let info = node.runtime.podman_run(["info", "--format", "json"]).ok();
    assert!(info.contains(&format!("{}/registry.test", site.server.host())), "{info}");
    for image in [web, "registry.test/library/web:v1"] {
        table.quick("satellite has it", node.pull(image));
        assert_eq!(node.says(image), OURS);
    }
    table.quick("satellite says 404", node.pull(other));
    assert_eq!(node.says(other), THEIRS);
    site.server.daemon().signal(Signal::STOP);
    let stuck = node.pull(other);
    site.server.daemon().signal(Signal::CONT);
    table.measured("satellite stuck (STOP)", &stuck);
    let Site { server, .. } = site;
    server.stop();
    table.quick("satellite stopped", node.pull(web));
    assert_eq!(node.says(web), THEIRS);

    let mut revert = satellite_tests::satellite::command(["runtimes", "revert"]);
    revert.arg("--root").arg(site.dir.join("root")).arg("--state-dir").arg(site.dir.join("journal"));
    run(&mut revert, STUCK).ok();
    assert!(!etc.join("registries.conf.d/50-satellite.conf").exists());
    assert_eq!(std::fs::read_to_string(etc.join("registries.conf")).unwrap(), text);
}
