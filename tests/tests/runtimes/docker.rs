use crate::{OURS, STUCK, Site, THEIRS, Table};
use rustix::process::Signal;
use satellite_tests::process::{Finished, run};
use satellite_tests::runtimes::Runtime;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn pull(runtime: &Runtime, image: &str) -> Finished {
    runtime.docker_run(["rmi", "--force", image]);
    let socket = format!("unix://{}", runtime.fact("socket"));
    run(Command::new("docker").args(["-H", &socket, "pull", "--quiet", image]), STUCK)
}

fn says(runtime: &Runtime, image: &str) -> String {
    runtime.docker_run(["run", "--rm", "--pull=never", "--network", "none", image]).ok().trim().to_string()
}

/// Docker Hub's place is taken by a front with TLS at port 443, whose address only this dockerd is told.
#[test]
fn docker_pulls_originals_through_the_satellite_and_goes_on_without_it() {
    let programs = ["dockerd", "docker", "containerd", "openssl", "python3", "curl"];
    let Some(mut site) = Site::new("docker", &programs) else { return };
    if std::net::TcpListener::bind("127.0.0.1:443").is_err() {
        return satellite_tests::skip(
            "docker",
            "port 443 of 127.0.0.1 is taken, where Docker Hub is to be played",
        );
    }
    let (key, certificate, hosts) =
        (site.dir.join("hub.key"), site.dir.join("hub.crt"), site.dir.join("hosts"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "30", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:registry-1.docker.io"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate), STUCK).ok();
    std::fs::write(&hosts, "127.0.0.1 localhost registry-1.docker.io\n").unwrap();
    let origin = site.origin.address().port();
    let _hub = Runtime::tls_front(&site.scripts, 443, origin, &certificate, &key);
    let runtime = Runtime::docker(
        &site.scripts,
        &["--hosts".as_ref(), hosts.as_ref(), "--ca".as_ref(), certificate.as_ref()],
    );
    let config = Path::new(runtime.fact("config")).to_owned();
    site.root(&[
        ("/etc/docker/daemon.json", &config),
        ("/etc/docker/certs.d", &Path::new(runtime.fact("etc_docker")).join("certs.d")),
        ("/run/docker.pid", &runtime.state().join("docker.pid")),
        ("/run/docker.sock", Path::new(runtime.fact("socket"))),
    ]);
    let before = std::fs::read_to_string(&config).unwrap();
    let (web, other) = ("docker.io/library/web:v1", "docker.io/library/other:v1");
    pull(&runtime, web).ok();
    let without = pull(&runtime, web);
    let mut table = Table::new(format!("docker {}", runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(says(&runtime, web), THEIRS);

    let said = site.runtimes("apply", &["docker:true"]).ok();
    assert!(said.contains("dockerd got SIGHUP"), "{said}");
    assert!(site.runtimes("apply", &["docker:true"]).ok().contains("nothing to change"));
    table.quick("satellite has it", pull(&runtime, web));
    assert_eq!(says(&runtime, web), OURS);
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
    let runtime = Runtime::docker(&site.scripts, &["--containerd-store".as_ref()]);
    let certs_d = Path::new(runtime.fact("etc_docker")).join("certs.d");
    site.root(&[
        ("/etc/docker/daemon.json", Path::new(runtime.fact("config"))),
        ("/etc/docker/certs.d", &certs_d),
        ("/run/docker.sock", Path::new(runtime.fact("socket"))),
    ]);
    let origin = site.origin.host();
    let before = format!(
        "server = \"http://{origin}\"\n# the origin\n[host.\"http://{origin}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    let file = certs_d.join("registry.test/hosts.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, &before).unwrap();
    let (web, other) = ("registry.test/library/web:v1", "registry.test/library/other:v1");
    pull(&runtime, web).ok();
    let without = pull(&runtime, web);
    let mut table = Table::new(format!("docker {} (containerd)", runtime.fact("version")), without.took);
    without.ok();
    assert_eq!(says(&runtime, web), THEIRS);

    site.runtimes("apply", &["docker:registry.test"]).ok();
    table.quick("satellite has it", pull(&runtime, web));
    assert_eq!(says(&runtime, web), OURS);
    table.quick("satellite says 404", pull(&runtime, other));
    assert_eq!(says(&runtime, other), THEIRS);
    site.server.daemon().signal(Signal::STOP);
    let stuck = pull(&runtime, other);
    site.server.daemon().signal(Signal::CONT);
    table.measured("satellite stuck (STOP)", &stuck);
    site.runtimes("revert", &[]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    site.runtimes("apply", &["docker:registry.test"]).ok();
    site.server.stop();
    table.quick("satellite stopped", pull(&runtime, web));
    assert_eq!(says(&runtime, web), THEIRS);
}
