//! The same under `satellite run`: nobody there but a one-time token.

use crate::{Links, OURS, STUCK, THEIRS, containerd, docker, link, podman};
use satellite_tests::agent::Site;
use satellite_tests::ground_control::PASSWORD;
use satellite_tests::process::{Daemon, Finished, run};
use satellite_tests::registry::Registry;
use satellite_tests::runtimes::{make_image, needs};
use satellite_tests::satellite::command;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const WEB: &str = "docker.io/library/web:v1";

/// A runtime, as this test needs it.
trait Node {
    /// A fresh pull.
    fn pull(&self, image: &str) -> Finished;
    /// What a container of it says.
    fn says(&self, image: &str) -> String;
}

impl Node for containerd::Node {
    fn pull(&self, image: &str) -> Finished {
        Self::pull(self, image)
    }

    fn says(&self, image: &str) -> String {
        Self::says(self, image)
    }
}

impl Node for docker::Node {
    fn pull(&self, image: &str) -> Finished {
        Self::pull(self, image)
    }

    fn says(&self, image: &str) -> String {
        Self::says(self, image)
    }
}

impl Node for podman::Node {
    fn pull(&self, image: &str) -> Finished {
        Self::pull(self, image)
    }

    fn says(&self, image: &str) -> String {
        Self::says(self, image)
    }
}

/// An origin whose `web` is another one than the fleet's.
struct Fleet {
    site: Site,
    token: String,
    origin: Registry,
    scripts: PathBuf,
}

impl Fleet {
    fn new(test: &str, programs: &[&str]) -> Option<Self> {
        let mut all = vec!["docker-registry", "skopeo", "busybox", "runc"];
        all.extend(programs);
        let scripts = needs(test, &all)?;
        let (site, origin, harbor) = (Site::start(), Registry::start(), Registry::start());
        let image = |registry: &Registry, message: &str| {
            let reference = format!("{}/library/web:v1", registry.host());
            let flags = ["--message", message, "--filler", "200000", "--push", &reference];
            make_image(&scripts, &site.dir.join(message.replace(' ', "-")), &flags)
        };
        image(&origin, THEIRS);
        let digest = image(&harbor, OURS);
        // Ground Control's registry is the fleet's Harbor.
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds"]);
        copy.arg(format!("admin:{PASSWORD}")).arg(format!("docker://{}/library/web:v1", harbor.host()));
        let central = site.server.url().replace("http://", "docker://");
        run(copy.arg(format!("{central}/library/web:v1")), STUCK).ok();
        site.publish("edge", &serde_json::json!({}));
        site.admin.group("shop", &[("library/web", "v1", &digest)]);
        let token = site.admin.register("gate", &["shop"], "edge");
        Some(Self { site, token, origin, scripts })
    }

    /// Runs the agent on a host with these paths, through a life of it; `restores`: the runtime's file.
    fn live(mut self, node: &dyn Node, links: &Links, mirrors: &str, restores: &Path) {
        let root = self.site.dir.join("root");
        link(&root, links);
        let before = std::fs::read(restores).ok();
        node.pull(WEB).ok();
        let without = node.pull(WEB);
        let alone = without.took;
        without.ok();
        assert_eq!(node.says(WEB), THEIRS);
        let flags = ["--mirrors", mirrors, "--host-root", root.to_str().unwrap()];

        // From the token to a pull by the image's own name.
        let mut agent = self.site.run_with(Some(&self.token), &flags);
        let there = |site: &Site| {
            site.status()
                .filter(|s| s["images"] == 1 && s["state"]["missing"] == 0 && s["runtimes"].is_string())
        };
        let status = self.site.wait(&mut agent, "image and runtime", || there(&self.site));
        let said = status["runtimes"].as_str().unwrap();
        assert!(said.contains("come here first") && !said.contains("restart"), "{status}");
        if mirrors.starts_with("docker") {
            // Proved by a pull of its own, as soon as it was pointed here.
            assert!(agent.log().contains("docker was seen to come here for docker.io"), "{}", agent.log());
        }
        node.pull(WEB).ok();
        assert_eq!(node.says(WEB), OURS);

        // Killed: the runtime goes to the origin, within a second more.
        agent.kill();
        let pulled = node.pull(WEB);
        let more = pulled.took.saturating_sub(alone);
        assert!(
            more <= Duration::from_secs(1),
            "{alone:?} without a satellite, {more:?} more with a dead one"
        );
        pulled.ok();
        assert_eq!(node.says(WEB), THEIRS);

        // It comes back, without token, Ground Control or central registry, and finds its runtime as it left it.
        self.site.server.daemon().kill();
        let written = std::fs::read(restores).ok();
        let mut agent = self.site.run_with(None, &flags);
        self.served(&mut agent);
        node.pull(WEB).ok();
        assert_eq!(node.says(WEB), OURS);
        assert_eq!(std::fs::read(restores).ok(), written);

        // Taken back byte for byte. A stop is orderly.
        assert!(agent.terminate(Duration::from_secs(10)).success());
        let mut revert = command(["runtimes", "revert", "--root"]);
        revert.arg(&root).arg("--state-dir").arg(self.site.machine.join("runtimes"));
        run(&mut revert, STUCK).ok();
        assert_eq!(std::fs::read(restores).ok(), before);
    }

    fn served(&self, agent: &mut Daemon) {
        self.site.wait(agent, "the image", || {
            let answer = self.site.client().try_send(&satellite_tests::http::Request::new(
                "HEAD",
                "/v2/library/web/manifests/v1?ns=docker.io",
            ));
            (answer.ok()?.status == 200).then_some(())
        });
    }
}

#[test]
fn containerd_runs_what_the_fleet_says_from_a_token_on() {
    let Some(fleet) = Fleet::new("containerd under satellite run", &["containerd", "ctr"]) else { return };
    let node = containerd::Node::start(&fleet.scripts, &fleet.origin, &["docker.io"]);
    fleet.live(&node, &node.links(), "containerd:docker.io", &node.hosts_toml("docker.io"));
}

#[test]
fn podman_runs_what_the_fleet_says_from_a_token_on() {
    let Some(fleet) = Fleet::new("podman under satellite run", &["podman", "conmon"]) else { return };
    let node = podman::Node::start(&fleet.scripts, &fleet.origin, &["docker.io"]);
    let links = vec![("/etc/containers".into(), node.etc())];
    fleet.live(&node, &links, "podman:docker.io", &node.etc().join("registries.conf.d/50-satellite.conf"));
}

#[test]
fn docker_runs_what_the_fleet_says_from_a_token_on() {
    let Some(fleet) = Fleet::new("docker under satellite run", docker::PROGRAMS) else { return };
    let Some(node) = docker::Node::start(&fleet.scripts, &fleet.origin, &fleet.site.dir) else { return };
    fleet.live(&node, &node.links(), "docker:true", &node.config());
}
