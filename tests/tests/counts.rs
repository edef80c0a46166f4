//! What work costs, in counts that no neighbour of the machine changes: system calls, syncs, bytes, requests, threads.
//!
//! Bounds have a fifth of air over the most that was measured, also on a busy machine. Who makes one tighter lowers it;
//! who breaks one has made every gateway slower or its flash older, and says why if that is worth it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use satellite_tests::{
    dir::Dir,
    has,
    http::{Client, Request},
    image::{Artifact, Blob, Image},
    proxy::Proxy,
    satellite::{Server, Store, binary},
    skip, wait,
};

const MIB: usize = 1 << 20;
/// Of one request for a manifest, head to answer, by the build that the tests make: unoptimised.
const MANIFEST_INSTRUCTIONS: u64 = 480_000;
/// Of one request for a blob of 32 MiB, by the same build; the kernel sends the bytes.
const PULL_INSTRUCTIONS: u64 = 1_310_000;

/// System calls of the process with its threads while `job` runs, by name.
fn calls(pid: u32, dir: &Dir, job: impl FnOnce()) -> BTreeMap<String, u64> {
    let report = dir.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&report).args(["-p", &pid.to_string()]);
    let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
    let traced = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0")).then_some(())
    };
    wait::until(Duration::from_secs(10), "strace is attached", traced);
    job();
    let interrupt = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    assert!(interrupt.expect("kill").success());
    strace.wait().expect("its end");
    counts(&report)
}

fn counts(report: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(report).expect("strace's report");
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((fields.last()?.to_string(), fields.get(3)?.parse().ok()?))
    });
    rows.collect()
}

fn all(counts: &BTreeMap<String, u64>) -> u64 {
    counts.iter().filter(|(name, _)| *name != "total").map(|(_, n)| n).sum()
}

fn of(counts: &BTreeMap<String, u64>, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| counts.get(*name)).sum()
}

/// Instructions in user space of a server on the store of `dir`, from its start over `job` to its end, by callgrind.
fn instructions(dir: &Dir, name: &str, job: impl FnOnce(&Client)) -> u64 {
    let store = Store::at(dir.join("s"));
    let report = dir.join(format!("{name}.callgrind"));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--fair-sched=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", report.display()));
    command.arg(binary()).arg("serve").arg("--data-dir").arg(store.dir());
    command.args(["--listen", "127.0.0.1:0", "--trust-loopback", "--scrub-rate", "0"]);
    let server = Server::start(&mut command, store.dir());
    job(&server.client());
    assert!(server.stop().success());
    spent(&fs::read_to_string(&report).expect("callgrind's report"))
}

/// sled's threads spin here while one of them sets something up. valgrind runs one thread at a time: at a start it is
/// anything up to a hundred million instructions, where all the rest is the same to a thousandth.
const SPIN: &str = "<sled::lazy::Lazy<T,F> as core::ops::deref::Deref>::deref";

/// What a callgrind report (its manual, "Callgrind Format Specification") says of all functions but [`SPIN`].
fn spent(report: &str) -> u64 {
    let (mut sum, mut function, mut spin, mut called) = (0, "", None, false);
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            // `(7) name` the first time, `(7)` from then on; also where it is called first.
            function = name.split_whitespace().next().unwrap_or_default();
        }
        if let Some((id, name)) = line.split_once("fn=").and_then(|(_, f)| f.split_once(' '))
            && name == SPIN
        {
            spin = Some(id);
        }
        let cost = line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c));
        // The line after `calls=` is what the called function spent, which is counted there.
        if cost && !called && Some(function) != spin {
            sum += line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a cost");
        }
        called = line.starts_with("calls=");
    }
    sum
}

fn ask(client: &Client, path: &str, times: usize) {
    let mut connection = client.connect().unwrap();
    for _ in 0..times {
        assert_eq!(connection.exchange(&Request::new("GET", path)).unwrap().status, 200);
    }
}

#[test]
fn manifests_and_pulls_cost_few_instructions() {
    if !has("valgrind") {
        return skip("instructions of manifests and pulls", "valgrind is missing; tests/install gets it");
    }
    let dir = Dir::new();
    let image = Image::new().noise(32 * MIB, 1).build();
    {
        // Not under valgrind, which takes seconds to hash it.
        let server = serve(&dir);
        image.push(&server.client(), "app", "v1");
        assert!(server.stop().success());
    }
    let manifest = "/v2/app/manifests/v1";
    let blob = format!("/v2/app/blobs/{}", image.blobs[1].digest);
    // Differences: starting and stopping do not count, nor does what only the first requests pay.
    let few = instructions(&dir, "few", |c| {
        ask(c, manifest, 100);
        ask(c, &blob, 1);
    });
    let many = instructions(&dir, "many", |c| {
        ask(c, manifest, 300);
        ask(c, &blob, 1);
    });
    let pulls = instructions(&dir, "pulls", |c| {
        ask(c, manifest, 100);
        ask(c, &blob, 5);
    });
    let each = |more: u64, times: u64| more.checked_sub(few).filter(|n| *n > 0).expect("more work") / times;
    at_most("instructions for a manifest", each(many, 200), MANIFEST_INSTRUCTIONS);
    at_most("instructions for a pull of 32 MiB", each(pulls, 4), PULL_INSTRUCTIONS);
}

/// Bytes given to the disk, from /proc.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap();
    line.trim().parse().unwrap()
}

#[track_caller]
fn at_most(what: &str, is: u64, bound: u64) {
    eprintln!("{what}: {is} (at most {bound})");
    assert!(is <= bound, "{what}: {is}, and {bound} was enough");
}

fn ready(test: &str) -> bool {
    if has("strace") {
        return true;
    }
    skip(test, "strace is missing; tests/install gets it");
    false
}

fn serve(dir: &Dir) -> Server {
    Store::at(dir.join("s")).serve_with(["--trust-loopback", "--scrub-rate", "0"])
}

#[test]
fn pulls_cost_few_system_calls() {
    if !ready("system calls of pulls") {
        return;
    }
    let dir = Dir::new();
    let mut server = serve(&dir);
    let image = Image::new().noise(64 * MIB, 1).build();
    image.push(&server.client(), "app", "v1");
    let (client, pid) = (server.client(), server.daemon().pid());
    let path = format!("/v2/app/blobs/{}", image.blobs[1].digest);
    let blob = calls(pid, &dir, || drop(client.get(&path).expect(200)));
    at_most("system calls for 64 MiB", all(&blob), 1080);
    let manifests = calls(pid, &dir, || {
        let mut connection = client.connect().unwrap();
        for _ in 0..200 {
            let request = Request::new("GET", "/v2/app/manifests/v1");
            assert_eq!(connection.exchange(&request).unwrap().status, 200);
        }
    });
    at_most("system calls for 200 manifests", all(&manifests), 200 * 17);
    at_most(
        "looks at files for 200 manifests",
        of(&manifests, &["stat", "lstat", "statx", "newfstatat"]),
        450,
    );
    at_most("files opened for 200 manifests", of(&manifests, &["open", "openat"]), 5);
}

#[test]
fn what_comes_is_written_once_and_synced_seldom() {
    if !ready("writes and syncs") {
        return;
    }
    let dir = Dir::new();
    let mut server = serve(&dir);
    let (client, pid) = (server.client(), server.daemon().pid());
    let image = Image::new().noise(64 * MIB, 1).build();
    let before = written(pid);
    let push = calls(pid, &dir, || image.push(&client, "app", "v1"));
    // Two every 3 MiB, for what is durable of an upload; a handful for the end.
    at_most("syncs of a push of 64 MiB", of(&push, &["fsync", "fdatasync"]), 62);
    let bytes = written(pid) - before;
    at_most("bytes written for a thousand stored", bytes * 1000 / (64 * MIB as u64), 1020);

    let layers = (0..200).fold(Image::new(), |image, n| image.layer(Blob::noise(3000, n)));
    let many: Artifact = layers.build();
    let upstream = Store::at(dir.join("upstream")).serve();
    many.push(&upstream.client(), "many", "v1");
    let store = Store::at(dir.join("s"));
    let reference = format!("{}/many:v1", upstream.host());
    let pull = calls(pid, &dir, || drop(store.run("pull", ["--plain-http", &reference]).ok()));
    // The blob, its folder: two each; a manifest for all.
    at_most("syncs for 200 small blobs", of(&pull, &["fsync", "fdatasync"]), 480);
    at_most("system calls for 200 small blobs", all(&pull), 16_500);
}

#[test]
fn a_replication_of_what_is_there_costs_a_request_an_image() {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let link = Proxy::start(upstream.address());
    let names: Vec<String> = (0..50).map(|n| format!("{}/team/app{n}:v1", link.host())).collect();
    for n in 0..50 {
        Image::new().noise(1000, n).build().push(&upstream.client(), &format!("team/app{n}"), "v1");
    }
    let store = Store::at(dir.join("s"));
    let arguments =
        |names: &[String]| ["--plain-http".to_string()].into_iter().chain(names.to_vec()).collect::<Vec<_>>();
    store.run("pull", arguments(&names)).ok();
    link.forget();
    store.run("pull", arguments(&names)).ok();
    at_most("requests for 50 images that are there", link.seen("").len() as u64, 50);
    at_most("bytes of bodies for them", link.bytes(""), 0);
}

#[test]
fn a_server_at_rest_is_small_and_stays_so() {
    let dir = Dir::new();
    let mut server = Store::at(dir.join("s")).serve();
    let pid = server.daemon().pid();
    let status = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap().to_string();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    at_most("KiB of its own at rest", status("RssAnon:"), 4 << 10);
    let image = Image::new().noise(16 * MIB, 1).build();
    for n in 0..3 {
        image.push(&server.client(), &format!("app{n}"), "v1");
        image.check(&server.client(), &format!("app{n}"), "v1");
    }
    // The executor, sled's, at most eight for files, the scrub.
    at_most("threads", status("Threads:"), 20);
    at_most("KiB of its own after work", status("RssAnon:"), 16 << 10);
}
