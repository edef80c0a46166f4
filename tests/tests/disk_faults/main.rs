//! Disks that fail at any call: what was acknowledged is kept, nothing is acknowledged that is not, and the server says
//! what happened.
//!
//! The faults are made by a small library between the program and libc (`fault.c`), for the data directory alone. Calls
//! that do not go through libc (`sendfile`) are not reached by it. `SATELLITE_FAULTS` says how many places in a run
//! of each kind are tried; default 12.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use satellite_tests::{
    dir::Dir,
    has,
    http::Client,
    image::{Artifact, Image},
    process::run,
    satellite::{Server, Store},
    skip,
};

const WRITE: i32 = 1;
const SYNC: i32 = 2;
const RENAME: i32 = 4;
const CREATE: i32 = 8;
const READ: i32 = 16;
const TRUNCATE: i32 = 32;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
/// As many as there are.
const ALL: i32 = i32::MAX;

/// A store on a disk that fails when it is told to.
struct Disk {
    store: Store,
    library: PathBuf,
    control: File,
    control_path: PathBuf,
    dir: Dir,
}

fn disk(test: &str) -> Option<Disk> {
    if !has("cc") {
        skip(test, "there is no C compiler");
        return None;
    }
    let dir = Dir::new();
    let library = dir.join("fault.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk_faults/fault.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    run(&mut cc, Duration::from_secs(60)).ok();
    let control_path = dir.join("control");
    fs::write(&control_path, [0; 16]).unwrap();
    let control = OpenOptions::new().write(true).open(&control_path).unwrap();
    let store = Store::at(dir.join("s"));
    Some(Disk { store, library, control, control_path, dir })
}

impl Disk {
    fn serve(&self) -> Server {
        self.heal();
        // Of one port: it may begin anew by itself.
        let listen = format!("127.0.0.1:{}", satellite_tests::ports::free());
        let mut command =
            self.store.command("serve", ["--listen", &listen, "--trust-loopback", "--scrub-rate", "0"]);
        command.env("LD_PRELOAD", &self.library).env("FAULT_FILE", &self.control_path);
        command.env("FAULT_DIR", self.store.dir());
        Server::start(&mut command, self.store.dir())
    }

    /// After `after` more calls of these kinds, the next `count` fail.
    fn fail(&self, calls: i32, errno: i32, after: i32, count: i32) {
        // The kinds last: nothing fails before the other numbers are there.
        for (place, number) in [(1, errno), (2, after), (3, count), (0, calls)] {
            self.control.write_all_at(&i32::to_ne_bytes(number), place * 4).unwrap();
        }
    }

    fn heal(&self) {
        self.control.write_all_at(&[0; 4], 0).unwrap();
    }
}

fn places() -> i32 {
    std::env::var("SATELLITE_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// Whether all of it was acknowledged.
fn push(client: &Client, image: &Artifact, tag: &str) -> bool {
    image.try_push(client, "app", tag).is_ok()
        && client.get(&format!("/v2/app/manifests/{tag}")).status == 200
}

#[test]
fn a_disk_that_fails_at_any_call_of_a_push_loses_nothing_that_was_acknowledged() {
    let Some(disk) = disk("disk faults") else { return };
    let mut server = disk.serve();
    let (mut kept, mut refused, mut n) = (Vec::new(), 0, 0);
    for (calls, errno) in
        [(WRITE, ENOSPC), (WRITE, EIO), (SYNC, EIO), (RENAME, EIO), (CREATE, ENOSPC), (TRUNCATE, EIO)]
    {
        for after in 0..places() {
            n += 1;
            let image = Image::new().noise(300_000, n).noise(2_000, 1000 + n).build();
            let tag = format!("v{n}");
            disk.fail(calls, errno, after, 1);
            let acknowledged = push(&server.client(), &image, &tag);
            disk.heal();
            if acknowledged {
                kept.push((tag, image));
            } else {
                refused += 1;
                // With the disk well again, the same push goes; the server may have to begin anew for that.
                let again = Instant::now();
                while !push(&server.client(), &image, &tag) {
                    let log = server.daemon().log();
                    assert!(log.contains("ERROR"), "nothing in the log says why: {log}");
                    assert!(again.elapsed() < Duration::from_secs(15), "it does not come back: {log}");
                    thread::sleep(Duration::from_millis(200));
                }
                kept.push((tag, image));
            }
            server.client().get("/v2/").expect(200);
        }
    }
    assert!(refused > 0, "no fault was ever noticed");
    let restarts = server.daemon().log().matches("starting anew").count();
    eprintln!("{n} pushes, {refused} refused, {restarts} restarts of its own");
    for killed in [false, true] {
        for (tag, image) in &kept {
            image.check(&server.client(), "app", tag);
        }
        if !killed {
            server.kill();
            server = disk.serve();
        }
    }
    server.stop();
    disk.store.run("fsck", ["--json"]).ok();
}

#[test]
fn a_disk_that_fails_at_any_call_of_a_pull_leaves_an_error_or_the_image() {
    let Some(disk) = disk("disk faults of a pull") else { return };
    let upstream = Store::at(disk.dir.join("upstream")).serve();
    let server = disk.serve();
    let mut noticed = 0;
    for (calls, errno) in [(WRITE, ENOSPC), (SYNC, EIO), (RENAME, EIO)] {
        for after in 0..places() {
            let n = u64::try_from(after + calls * 100).unwrap();
            let (image, tag) = (Image::new().noise(200_000, n).build(), format!("v{n}"));
            image.push(&upstream.client(), "app", &tag);
            let reference = format!("{}/app:{tag}", upstream.host());
            disk.fail(calls, errno, after, 1);
            let said = disk.store.run("pull", ["--plain-http", &reference]);
            disk.heal();
            if said.code == Some(0) {
                image.check(&server.client(), "app", &tag);
            } else {
                noticed += 1;
                said.decent().complains(&[&tag]);
                // Not acknowledged: it is not there, or all of it is.
                if server.client().get(&format!("/v2/app/manifests/{tag}")).status == 200 {
                    image.check(&server.client(), "app", &tag);
                }
            }
        }
    }
    assert!(noticed > 0, "no fault was ever noticed");
}

#[test]
fn what_cannot_be_read_is_an_error_and_is_served_when_it_can_be_again() {
    let Some(disk) = disk("unreadable") else { return };
    let server = disk.serve();
    let image = Image::new().noise(30_000, 1).build();
    image.push(&server.client(), "app", "v1");
    server.kill();
    let server = disk.serve();
    disk.fail(READ, EIO, 0, ALL);
    let answer = server.client().get("/v2/app/manifests/v1");
    assert!(answer.status >= 500, "{}", answer.status);
    server.client().get("/v2/").expect(200);
    disk.heal();
    image.check(&server.client(), "app", "v1");
}

#[test]
fn a_disk_that_becomes_read_only_is_still_served_from() {
    let Some(disk) = disk("read-only") else { return };
    let server = disk.serve();
    let (old, new) = (Image::new().noise(100_000, 1).build(), Image::new().noise(100_000, 2).build());
    old.push(&server.client(), "app", "v1");
    disk.fail(WRITE | SYNC | RENAME | CREATE | TRUNCATE, EROFS, 0, ALL);
    assert!(!push(&server.client(), &new, "v2"));
    let refused = server.client().post("/v2/app/blobs/uploads/");
    assert!(refused.status >= 500, "{}", refused.status);
    old.check(&server.client(), "app", "v1");
    disk.heal();
    server.kill();
    let server = disk.serve();
    old.check(&server.client(), "app", "v1");
    assert!(push(&server.client(), &new, "v2"));
}

#[test]
fn a_directory_that_is_deleted_under_a_running_server_is_an_error_and_no_lie() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let server = store.serve();
    let image = Image::new().noise(100_000, 1).build();
    image.push(&server.client(), "app", "v1");
    fs::remove_dir_all(store.dir()).unwrap();
    assert_ne!(server.client().get(&format!("/v2/app/blobs/{}", image.blobs[1].digest)).status, 200);
    assert_ne!(server.client().get("/v2/app/manifests/v1").status, 200);
    assert!(!push(&server.client(), &Image::new().noise(1000, 2).build(), "v2"));
    server.client().get("/v2/").expect(200);
    // And with a new directory there is a new store.
    server.kill();
    let server = store.serve();
    image.push(&server.client(), "app", "v1");
    image.check(&server.client(), "app", "v1");
}
