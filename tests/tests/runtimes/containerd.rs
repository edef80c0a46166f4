use crate::{Links, OURS, STUCK, Site, THEIRS, Table};
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
        let node = Self { runtime: Runtime::containerd(scripts) };
        for host in hosts {
            let file = node.hosts_toml(host);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let origin = origin.host();
            let text = format!(
                "server = \"http://{origin}\"\n# the origin\n[host.\"http://{origin}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
            );
            std::fs::write(file, text).unwrap();
        }
        node
    }

    pub(crate) fn hosts_toml(&self, host: &str) -> PathBuf {
        Path::new(self.runtime.fact("certs_d")).join(host).join("hosts.toml")
    }

    pub(crate) fn links(&self) -> Links {
        // certs_d is an absolute path of the host's.
        let top = Path::new("/").join(Path::new(self.runtime.fact("certs_d")).components().nth(1).unwrap());
        vec![
            (top.to_str().unwrap().into(), top),
            ("/etc/containerd/config.toml".into(), self.runtime.fact("config").into()),
        ]
    }

    /// A fresh pull of an image, with the other images gone before.
    pub(crate) fn pull(&self, image: &str) -> Finished {
        self.runtime.ctr(["images", "rm", "--sync", image]);
        let mut command = Command::new("ctr");
        command.args(["-a", self.runtime.fact("socket"), "images", "pull", "--hosts-dir"]);
        run(command.args([self.runtime.fact("certs_d"), image]), STUCK)
    }

    pub(crate) fn says(&self, image: &str) -> String {
        self.runtime.ctr(["run", "--rm", image, "one"]).ok().trim().to_string()
    }
}

#[test]
fn containerd_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let Some(mut site) = Site::new("containerd", &["containerd", "ctr"]) else { return };
    let node = Node::start(&site.scripts, &site.origin, &["docker.io", "registry.test"]);
    site.root(&node.links());
    let file = node.hosts_toml("docker.io");
    let before = std::fs::read_to_string(&file).unwrap();
    let (web, other) = ("docker.io/library/web:v1", "registry.test/library/other:v1");
    node.pull(web).ok();
    let without = node.pull(web);
    let mut table = Table::new(format!("containerd {}", node.runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(node.says(web), THEIRS);

    let mirrors = ["containerd:docker.io,registry.test"];
    let planned = site.runtimes("plan", &mirrors).ok();
    assert!(planned.contains(&format!("+[host.\"http://{}\"]", site.server.host())), "{planned}");
    let said = site.runtimes("apply", &mirrors).ok();
    assert!(!said.contains("restart"), "certs.d was on already:\n{said}");
    assert!(site.runtimes("apply", &mirrors).ok().contains("nothing to change"));
    for image in [web, "registry.test/library/web:v1"] {
        let pulled = node.pull(image);
        table.quick("satellite has it", pulled);
        assert_eq!(node.says(image), OURS);
    }

    table.quick("satellite says 404", node.pull(other));
    assert_eq!(node.says(other), THEIRS);
    site.server.daemon().signal(Signal::STOP);
    let stuck = node.pull(other);
    site.server.daemon().signal(Signal::CONT);
    table.measured("satellite stuck (STOP)", &stuck);
    let Site { server, .. } = site;
    let address = server.host();
    server.stop();
    table.quick("satellite stopped", node.pull(web));
    assert_eq!(node.says(web), THEIRS, "{address} is down");

    let mut revert = satellite_tests::satellite::command(["runtimes", "revert"]);
    revert.arg("--root").arg(site.dir.join("root")).arg("--state-dir").arg(site.dir.join("journal"));
    run(&mut revert, STUCK).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}
