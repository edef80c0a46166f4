//! The examples with a registry: an image comes in, by another program out again, and is the same.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use satellite_tests::{
    dir::Dir,
    http::Client,
    image::{Artifact, Image},
    process::{Daemon, run},
    proxy::Proxy,
    registry::{Options, PASSWORD, Registry, USER},
    skip, wait,
};

use crate::{
    library::{Library, Link, built, command, links, missing, missing_here, other_machine},
    misuse::valgrind,
};

const BOUND: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

fn lacking() -> Option<String> {
    let registry = || (!Registry::available()).then_some("docker-registry");
    missing().or_else(registry).map(|program| format!("{program} is missing; tests/install gets it"))
}

/// The three examples, and how they are begun: by themselves or by valgrind.
struct Examples {
    dir: Dir,
    watched: bool,
}

impl Examples {
    fn new(link: Link, watched: bool) -> Self {
        let dir = Dir::new();
        for name in ["store", "replicate", "serve"] {
            Library::get().compile(&format!("satellite-core/capi/examples/{name}.c"), link, dir.path());
        }
        Self { dir, watched }
    }

    fn command(&self, name: &str) -> Command {
        let program = self.dir.join(name);
        if !self.watched {
            return command(program);
        }
        let mut command = valgrind();
        command.arg(program);
        command
    }

    fn store(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// `store DIR ARGS…`: its standard output.
    fn ask(&self, arguments: &[&str]) -> String {
        run(self.command("store").arg(self.store()).args(arguments), BOUND).ok()
    }

    /// Everything of the image is here: read as a whole from the store by C, and from the registry that C serves.
    fn check(&self, image: &Artifact, repository: &str, at: &str) {
        assert!(self.ask(&["list"]).contains(&format!("{repository} v1 {}", image.digest)));
        // valgrind takes seconds for each.
        let count = if self.watched { 2 } else { usize::MAX };
        for (digest, bytes) in image.reach().into_iter().take(count) {
            let mut read = self.command("store");
            read.arg(self.store()).args(["read", digest]).stderr(Stdio::inherit());
            assert!(read.output().unwrap().stdout == bytes, "{digest} is not what was pushed");
        }
        let blob = &image.children.first().unwrap_or(image).blobs[0];
        let part = self.ask(&["read", &blob.digest, "3", "5"]);
        assert_eq!(part.as_bytes(), &blob.bytes[3..8]);
        let server = Serving::start(self.command("serve").arg(self.store()).arg(at));
        image.check(&Client::new(server.address), repository, "v1");
        if !self.watched && other_machine().is_none() {
            server.leaves_signals_to_the_program();
        }
        server.stop();
        assert_eq!(self.ask(&["verify"]), "0 findings\n");
    }
}

/// The example `serve`, until its standard input ends.
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    /// The port is the last thing in a line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = |line: &str| line.rsplit(':').next()?.parse::<u16>().ok();
        let port = lines.map_while(Result::ok).find_map(|line| port(&line)).expect("a port");
        Self { child, address: ([127, 0, 0, 1], port).into() }
    }

    /// Of its threads only that one takes signals which the program had before.
    fn leaves_signals_to_the_program(&self) {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut open = Vec::new();
        for task in tasks {
            // A thread may end meanwhile.
            let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
            let field =
                |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_string();
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
            let signals = [Signal::INT, Signal::TERM, Signal::PIPE, Signal::CHILD];
            if signals.iter().any(|s| blocked & 1 << (s.as_raw() - 1) == 0) {
                open.push(field("Name:"));
            }
        }
        assert_eq!(open, ["serve"]);
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        let ended = wait::within(BOUND, || self.child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "serve: {ended:?}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two platforms, so that a choice has to be made, and a signature.
fn push(registry: &Registry, layer: usize) -> Artifact {
    let one = |(seed, platform): (u64, &str)| Image::new().platform(platform).noise(layer, seed).build();
    let image = Artifact::index((1..).zip(["linux/amd64", "linux/arm64"]).map(one).collect());
    image.push(&registry.client(), "edge/app", "v1");
    image
}

#[test]
fn an_image_comes_through_a_login_and_is_served_as_it_was() {
    if let Some(why) = lacking() {
        return skip("capi", &why);
    }
    let registry = Registry::with(&Options { basic: true, ..Options::default() });
    let image = push(&registry, 3 << 20);
    let reference = format!("{}/edge/app:v1", registry.host());
    for (&link, at) in links().iter().zip(["127.0.0.1:0", "socket"]) {
        let examples = Examples::new(link, false);
        let replicate = |user: &str, password: &str| {
            let mut command = examples.command("replicate");
            command.args(["-n", "-p", "all", "-u", user]).arg(examples.store()).arg(&reference);
            run(command.env("REGISTRY_PASSWORD", password), BOUND)
        };
        replicate(USER, "another").exits(11).complains(&["replicate: ", &reference]);
        let said = replicate(USER, PASSWORD);
        assert!(said.stderr.contains("of 4 blobs"), "{said}");
        assert!(said.ok().starts_with(&format!("{} ", image.digest)));
        examples.check(&image, "edge/app", at);
        // Once more: nothing has to be fetched.
        assert!(replicate(USER, PASSWORD).ok().contains(" 0 received"));
        // A registry that lacks it.
        let lacks = format!("{}/edge/other:v1", registry.host());
        let mut command = examples.command("replicate");
        command.args(["-n", "-q", "-u", USER]).arg(examples.store()).arg(&lacks);
        run(command.env("REGISTRY_PASSWORD", PASSWORD), BOUND).exits(3);
    }
}

#[test]
fn an_image_comes_by_tls_whose_authority_is_named_and_by_no_other() {
    if let Some(why) = lacking() {
        return skip("capi", &why);
    }
    let registry = Registry::with(&Options { tls: true, ..Options::default() });
    let examples = Examples::new(links()[0], false);
    let reference = format!("{}/edge/app:v1", registry.host());
    let replicate = |ca: &Path| {
        let mut command = examples.command("replicate");
        run(command.arg("-c").arg(ca).args(["-q"]).arg(examples.store()).arg(&reference), BOUND)
    };
    // It is not there, but that was said by a server that is believed.
    replicate(&registry.certs().ca).exits(3);
    replicate(Path::new("/nonexistent.pem")).exits(1).complains(&["/nonexistent.pem"]);
    let mut without = examples.command("replicate");
    run(without.args(["-q"]).arg(examples.store()).arg(&reference), BOUND).exits(10);
}

#[test]
fn a_signal_to_the_program_cancels_and_the_next_run_goes_on() {
    if let Some(why) = lacking() {
        return skip("capi", &why);
    }
    let registry = Registry::start();
    let image = push(&registry, 12 << 20);
    let examples = Examples::new(links()[0], false);
    let link = Proxy::start(registry.address());
    let reference = format!("{}/edge/app:v1", link.host());
    let command = || {
        let mut command = examples.command("replicate");
        command.args(["-n", "-p", "all"]).arg(examples.store()).arg(&reference);
        command
    };
    link.limit(6 * MIB);
    let mut first = Daemon::start("replicate", &mut command(), &examples.dir.join("log"));
    wait::until(BOUND, "10 MiB across the link", || (link.bytes("/blobs/") > 10 * MIB).then_some(()));
    first.signal(Signal::INT);
    assert_eq!(first.wait(Duration::from_secs(20)).code(), Some(12), "{}", first.log());
    assert!(first.log().contains("cancelled"), "{}", first.log());
    link.limit(0);
    let said = run(&mut command(), BOUND).ok();
    let resumed: u64 = said.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(resumed >= MIB, "nothing was kept of the first run: {said}");
    examples.check(&image, "edge/app", "127.0.0.1:0");
}

#[test]
fn a_program_in_rust_does_the_same_by_the_library_itself() {
    if let Some(why) = missing_here("docker-registry") {
        return skip("the library in Rust", &why);
    }
    let registry = Registry::start();
    let image = Image::new().noise(1 << 20, 7).build();
    image.push(&registry.client(), "edge/app", "v1");
    let program = built("satellite-core", &["--example", "embed"]).join("examples/embed");
    let dir = Dir::new();
    let mut command = Command::new(program);
    command.arg(dir.join("data")).arg(format!("{}/edge/app:v1", registry.host()));
    let server = Serving::start(&mut command);
    image.check(&Client::new(server.address), "edge/app", "v1");
    server.stop();
}

#[test]
fn the_examples_leak_nothing() {
    let why = lacking().or_else(|| missing_here("valgrind"));
    if let Some(why) = why {
        return skip("capi under valgrind", &why);
    }
    let registry = Registry::start();
    let image = push(&registry, 300_000);
    let examples = Examples::new(Link::Shared, true);
    let mut command = examples.command("replicate");
    command.args(["-n", "-q", "-p", "all"]).arg(examples.store());
    run(command.arg(format!("{}/edge/app:v1", registry.host())), BOUND).ok();
    examples.check(&image, "edge/app", "socket");
    assert_eq!(examples.ask(&["gc", "0"]), "0 bytes freed\n");
}
