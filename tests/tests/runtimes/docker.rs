use crate::{Links, OURS, STUCK, Site, THEIRS, Table};
use rustix::process::Signal;
use satellite_tests::dir::Dir;
use satellite_tests::process::{Finished, run};
use satellite_tests::registry::Registry;
use satellite_tests::runtimes::Runtime;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the test with Docker Hub's place taken needs.
pub(crate) const PROGRAMS: &[&str] = &["dockerd", "docker", "containerd", "openssl", "python3", "curl"];

/// Port 443 is had by one at a time.
static HUB: Mutex<()> = Mutex::new(());

/// A dockerd. Docker Hub's place may be taken by a front with TLS at port 443, whose address only this dockerd is told.
pub(crate) struct Node {
    runtime: Runtime,
    _hub: Option<(Runtime, MutexGuard<'static, ()>)>,
}

impl Node {
    /// One whose Docker Hub is `origin`. `None`, and says so, if port 443 is taken.
    pub(crate) fn start(scripts: &Path, origin: &Registry, dir: &Dir) -> Option<Self> {
        let turn = HUB.lock().unwrap_or_else(PoisonError::into_inner);
        if std::net::TcpListener::bind("127.0.0.1:443").is_err() {
            let why = "port 443 of 127.0.0.1 is taken, where Docker Hub is to be played";
            satellite_tests::skip("docker", why);
            return None;
        }
        let (key, certificate, hosts) = (dir.join("hub.key"), dir.join("hub.crt"), dir.join("hosts"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "30", "-subj", "/CN=test"]);
        openssl.args(["-addext", "subjectAltName=DNS:registry-1.docker.io"]);
        run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate), STUCK).ok();
        std::fs::write(&hosts, "127.0.0.1 localhost registry-1.docker.io\n").unwrap();
        let hub = Runtime::tls_front(scripts, 443, origin.address().port(), &certificate, &key);
        let flags = ["--hosts".as_ref(), hosts.as_ref(), "--ca".as_ref(), certificate.as_ref()];
        let runtime = Runtime::docker(scripts, &flags);
        Some(Self { runtime, _hub: Some((hub, turn)) })
    }

    /// One with the containerd store.
    fn with_containerd(scripts: &Path) -> Self {
        Self { runtime: Runtime::docker(scripts, &["--containerd-store".as_ref()]), _hub: None }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.runtime.fact("config").into()
    }

    fn certs_d(&self) -> PathBuf {
        Path::new(self.runtime.fact("etc_docker")).join("certs.d")
    }

    pub(crate) fn links(&self) -> Links {
        vec![
            ("/etc/docker/daemon.json".into(), self.config()),
            ("/etc/docker/certs.d".into(), self.certs_d()),
            ("/run/docker.pid".into(), self.runtime.state().join("docker.pid")),
            ("/run/docker.sock".into(), self.runtime.fact("socket").into()),
        ]
    }

    /// A fresh pull.
    pub(crate) fn pull(&self, image: &str) -> Finished {
        self.runtime.docker_run(["rmi", "--force", image]);
        let socket = format!("unix://{}", self.runtime.fact("socket"));
        run(Command::new("docker").args(["-H", &socket, "pull", "--quiet", image]), STUCK)
    }

    pub(crate) fn says(&self, image: &str) -> String {
        self.runtime
            .docker_run(["run", "--rm", "--pull=never", "--network", "none", image])
            .ok()
            .trim()
            .to_string()
    }
}

#[test]
fn docker_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let Some(mut site) = Site::new("docker", PROGRAMS) else { return };
    let Some(node) = Node::start(&site.scripts, &site.origin, &site.dir) else { return };
    let config = node.config();
    site.root(&node.links());
    let before = std::fs::read_to_string(&config).unwrap();
    let (web, other) = ("docker.io/library/web:v1", "docker.io/library/other:v1");
    node.pull(web).ok();
    let without = node.pull(web);
    let mut table = Table::new(format!("docker {}", node.runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(node.says(web), THEIRS);

    let said = site.runtimes("apply", &["docker:true"]).ok();
    assert!(said.contains("dockerd got SIGHUP"), "{said}");
    assert!(site.runtimes("apply", &["docker:true"]).ok().contains("nothing to change"));
    table.quick("satellite has it", node.pull(web));
    assert_eq!(node.says(web), OURS);
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
    run(&mut revert, Duration::from_secs(60)).ok();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
}

/// Since 28 the containerd store reads `certs.d/HOST/hosts.toml`: any registry has a mirror.
#[test]
fn docker_with_the_containerd_store_pulls_other_registries_originals_too() {
    const NAME: &str = "docker with the containerd store";
    let Some(mut site) = Site::new(NAME, &["dockerd", "docker", "containerd", "curl"]) else { return };
    let version = run(Command::new("dockerd").arg("--version"), STUCK).ok();
    let major = version.split_whitespace().nth(2).and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < 28) {
        return satellite_tests::skip(NAME, &format!("it needs Docker 28, and here is {}", version.trim()));
    }
    let node = Node::with_containerd(&site.scripts);
    let certs_d = node.certs_d();
    site.root(&node.links());
    let origin = site.origin.host();
    let before = format!(
        "server = \"http://{origin}\"\n# the origin\n[host.\"http://{origin}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    let file = certs_d.join("registry.test/hosts.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, &before).unwrap();
    let (web, other) = ("registry.test/library/web:v1", "registry.test/library/other:v1");
    node.pull(web).ok();
    let without = node.pull(web);
    let mut table = Table::new(format!("docker {} (containerd)", node.runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(node.says(web), THEIRS);

    site.runtimes("apply", &["docker:registry.test"]).ok();
    table.quick("satellite has it", node.pull(web));
    assert_eq!(node.says(web), OURS);
    table.quick("satellite says 404", node.pull(other));
    assert_eq!(node.says(other), THEIRS);
    site.server.daemon().signal(Signal::STOP);
    let stuck = node.pull(other);
    site.server.daemon().signal(Signal::CONT);
    table.measured("satellite stuck (STOP)", &stuck);
    site.runtimes("revert", &[]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    site.runtimes("apply", &["docker:registry.test"]).ok();
    site.server.stop();
    table.quick("satellite stopped", node.pull(web));
    assert_eq!(node.says(web), THEIRS);
}
