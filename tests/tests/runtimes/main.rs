//! `satellite runtimes` with real runtimes: each pulls an image by the name it has at its origin through the satellite, which
//! has it under another, and goes to the origin when the satellite is down, stuck, or does not have it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod containerd;
mod docker;
mod podman;
mod unattended;

use satellite_tests::dir::Dir;
use satellite_tests::process::{Finished, run};
use satellite_tests::registry::Registry;
use satellite_tests::runtimes::{make_image, needs};
use satellite_tests::satellite::{Server, Store, command};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the image says that the satellite has, and the one at its origin.
const OURS: &str = "from the satellite";
const THEIRS: &str = "from the origin";
/// After this long a pull is called stuck.
const STUCK: Duration = Duration::from_secs(20);

/// An origin with `library/web:v1` and `library/other:v1`, and a satellite that has another `web` as
/// `dockerhub/library/web`, and knows by its rules that this is what is meant.
struct Site {
    origin: Registry,
    server: Server,
    scripts: PathBuf,
    dir: Dir,
}

impl Site {
    fn new(test: &str, programs: &[&str]) -> Option<Self> {
        let mut all = vec!["docker-registry", "skopeo", "busybox", "runc"];
        all.extend(programs);
        let scripts = needs(test, &all)?;
        let (dir, origin, harbor) = (Dir::new(), Registry::start(), Registry::start());
        let push = |registry: &Registry, name: &str, message: &str| {
            let reference = format!("{}/{name}:v1", registry.host());
            let flags = ["--message", message, "--filler", "200000", "--push", &reference];
            make_image(&scripts, &dir.join(name.replace('/', "-")), &flags);
            reference
        };
        push(&origin, "library/web", THEIRS);
        push(&origin, "library/other", THEIRS);
        let store = Store::at(dir.join("s"));
        store.pull(&push(&harbor, "dockerhub/library/web", OURS)).ok();
        let server = store.serve_with(["--map", "docker.io=dockerhub", "--map", "registry.test=dockerhub"]);
        Some(Self { origin, server, scripts, dir })
    }

    /// Its host's root.
    fn root(&self, links: &Links) {
        link(&self.dir.join("root"), links);
    }

    /// `satellite runtimes ACTION` on that root.
    fn runtimes(&self, action: &str, mirrors: &[&str]) -> Finished {
        let mut command = command(["runtimes", action]);
        command.arg("--root").arg(self.dir.join("root")).arg("--state-dir").arg(self.dir.join("journal"));
        if !mirrors.is_empty() {
            command.args(["--mirror", &format!("http://{}", self.server.host())]);
            command.args(mirrors.iter().flat_map(|m| ["--mirrors", m]));
        }
        run(&mut command, Duration::from_secs(60))
    }
}

/// Paths of a host, and where they are here.
type Links = Vec<(String, PathBuf)>;

/// Makes a host's root, in which the paths of a runtime lead to where a script started it.
fn link(root: &Path, links: &Links) {
    for (path, target) in links {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

/// The pull times of a runtime, against those without a satellite.
struct Table {
    runtime: String,
    without: Duration,
    rows: Vec<(&'static str, Option<Duration>)>,
}

impl Table {
    fn new(runtime: impl Into<String>, without: Duration) -> Self {
        Self { runtime: runtime.into(), without, rows: Vec::new() }
    }

    /// A pull that must work and may take a second more than without a satellite.
    fn quick(&mut self, state: &'static str, pull: Finished) {
        let took = pull.took;
        pull.ok();
        self.rows.push((state, Some(took)));
        let most = self.without + Duration::from_secs(1);
        assert!(
            took <= most,
            "{}: {state}: {took:.2?}, without a satellite {:.2?}",
            self.runtime,
            self.without
        );
    }

    /// A pull that is only measured; it may have been given up.
    fn measured(&mut self, state: &'static str, pull: &Finished) {
        self.rows.push((state, (pull.code == Some(0)).then_some(pull.took)));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        eprintln!("\n{:<28} {:<22} {:>8.2?}", self.runtime, "without a satellite", self.without);
        for (state, took) in &self.rows {
            match took {
                Some(took) => eprintln!("{:<28} {state:<22} {took:>8.2?}", ""),
                None => eprintln!("{:<28} {state:<22} not done in {STUCK:?}", ""),
            }
        }
    }
}
