use crate::{OURS, STUCK, Site, THEIRS, Table};
use rustix::process::Signal;
use satellite_tests::process::{Finished, run};
use satellite_tests::runtimes::Runtime;
use std::path::Path;
use std::process::Command;

struct Node {
    runtime: Runtime,
}

impl Node {
    /// A fresh pull of an image, with the other images gone before.
    fn pull(&self, image: &str) -> Finished {
        self.runtime.ctr(["images", "rm", "--sync", image]);
        let mut command = Command::new("ctr");
        command.args(["-a", self.runtime.fact("socket"), "images", "pull", "--hosts-dir"]);
        run(command.args([self.runtime.fact("certs_d"), image]), STUCK)
    }

    fn says(&self, image: &str) -> String {
        self.runtime.ctr(["run", "--rm", image, "one"]).ok().trim().to_string()
    }
}

#[test]
fn containerd_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let Some(mut site) = Site::new("containerd", &["containerd", "ctr"]) else { return };
    let node = Node { runtime: Runtime::containerd(&site.scripts) };
    let certs_d = Path::new(node.runtime.fact("certs_d")).to_owned();
    // certs_d is an absolute path of the host's.
    let top = Path::new("/").join(certs_d.components().nth(1).unwrap());
    let config = node.runtime.fact("config").to_string();
    site.root(&[(top.to_str().unwrap(), &top), ("/etc/containerd/config.toml", Path::new(&config))]);
    // What an admin has: where the origins are in this test, beside a host that is not to be lost.
    for host in ["docker.io", "registry.test"] {
        std::fs::create_dir_all(certs_d.join(host)).unwrap();
        let origin = site.origin.host();
        let text = format!(
            "server = \"http://{origin}\"\n# the origin\n[host.\"http://{origin}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(certs_d.join(host).join("hosts.toml"), text).unwrap();
    }
    let before = std::fs::read_to_string(certs_d.join("docker.io/hosts.toml")).unwrap();
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
    assert_eq!(std::fs::read_to_string(certs_d.join("docker.io/hosts.toml")).unwrap(), before);
}
