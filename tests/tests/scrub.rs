//! Disks that rot: damage is found by a running server, never served, and mended from where the image came from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Duration,
};

use satellite_tests::{
    dir::Dir,
    http::Client,
    image::{Artifact, Image},
    proxy::{Fault, Proxy},
    satellite::{Server, Store},
    wait,
};

const LONG: Duration = Duration::from_secs(30);

/// An upstream and a store that has replicated an image of it, not yet served.
struct Site {
    _upstream: Server,
    link: Proxy,
    image: Artifact,
    store: Store,
    _dir: Dir,
}

fn site() -> Site {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("upstream")).serve();
    let link = Proxy::start(upstream.address());
    let child = Image::new().noise(700_000, 1).noise(40_000, 2).build();
    let image = Artifact::index(vec![child, Image::new().platform("linux/arm64").noise(1000, 3).build()]);
    image.push(&upstream.client(), "team/app", "v1");
    let store = Store::at(dir.join("edge"));
    store.run("pull", ["--all-platforms", &format!("{}/team/app:v1", link.host())]).ok();
    Site { _upstream: upstream, link, image, store, _dir: dir }
}

impl Site {
    fn path(&self, digest: &str) -> PathBuf {
        self.store.dir().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Digest of the largest layer.
    fn layer(&self) -> String {
        let largest = self.image.reach().into_iter().max_by_key(|(_, bytes)| bytes.len());
        largest.unwrap().0.to_string()
    }

    fn bytes(&self, digest: &str) -> Vec<u8> {
        self.image.reach().into_iter().find(|(d, _)| *d == digest).unwrap().1.to_vec()
    }

    /// A server that reads everything every second.
    fn scrubbing(&self) -> Server {
        self.store.serve_with(["--scrub-rate", "100MB", "--scrub-interval", "1s"])
    }

    #[track_caller]
    fn is_mended(&self, digest: &str) {
        let (path, bytes) = (self.path(digest), self.bytes(digest));
        wait::until(LONG, "the file is right again", || {
            fs::read(&path).is_ok_and(|now| now == bytes).then_some(())
        });
    }
}

/// What a client gets of a blob while it is damaged: all of it, or an error.
fn pull(client: &Client, site: &Site, digest: &str) -> bool {
    let got = client.get(&format!("/v2/team/app/blobs/{digest}"));
    assert!(got.status == 404 || got.status == 200 && got.whole, "{} {}", got.status, got.body.len());
    if got.status == 200 {
        assert_eq!(got.body.len(), site.bytes(digest).len(), "a short answer");
    }
    got.status == 200
}

fn flip(path: &PathBuf, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_flipped_bit_is_found_and_mended_by_a_running_server() {
    let site = site();
    let layer = site.layer();
    let mut server = site.scrubbing();
    flip(&site.path(&layer), 12_345);
    server.daemon().wait_log(LONG, |line| line.contains("mended: corrupt blob").then_some(()));
    site.is_mended(&layer);
    site.image.check(&server.client(), "team/app", "v1");
    let quarantine = site.store.dir().join(".satellite/quarantine");
    assert_eq!(
        fs::read_dir(quarantine).unwrap().count(),
        1,
        "the damaged file is kept for whoever wants to know"
    );
    let metrics = server.client().get("/metrics").text();
    assert!(metrics.contains("satellite_mended"), "{metrics}");
}

#[test]
fn a_short_file_is_never_a_short_answer() {
    let site = site();
    let layer = site.layer();
    // Not found by a pass: by the first who asks.
    let server = site.store.serve_with(["--scrub-rate", "0"]);
    OpenOptions::new().write(true).open(site.path(&layer)).unwrap().set_len(500_000).unwrap();
    assert!(!pull(&server.client(), &site, &layer), "half a blob was given out");
    server.client().get("/v2/team/app/manifests/v1").expect(200);
    site.is_mended(&layer);
    site.image.check(&server.client(), "team/app", "v1");
}

#[test]
fn missing_files_of_layers_and_manifests_are_fetched_again() {
    let site = site();
    let layer = site.layer();
    let manifest = site.image.digest.clone();
    let server = site.scrubbing();
    fs::remove_file(site.path(&layer)).unwrap();
    fs::remove_file(site.path(&manifest)).unwrap();
    assert!(!pull(&server.client(), &site, &layer));
    site.is_mended(&layer);
    site.is_mended(&manifest);
    site.image.check(&server.client(), "team/app", "v1");
}

#[test]
fn a_damaged_manifest_is_not_served_and_is_mended() {
    let site = site();
    let digest = site.image.digest.clone();
    // A digit of a digest: it is read as a manifest still.
    let text = fs::read_to_string(site.path(&digest)).unwrap();
    let at = text.find("sha256:").unwrap() + 10;
    OpenOptions::new().write(true).open(site.path(&digest)).unwrap().write_all_at(b"0", at as u64).unwrap();
    let other = fs::read_to_string(site.path(&digest)).unwrap();
    if other == text {
        flip(&site.path(&digest), at as u64);
    }
    let server = site.store.serve_with(["--scrub-rate", "0"]);
    let got = server.client().get("/v2/team/app/manifests/v1");
    assert_ne!(got.status, 200, "wrong bytes were given out");
    drop(server);
    let server = site.scrubbing();
    site.is_mended(&digest);
    site.image.check(&server.client(), "team/app", "v1");
}

#[test]
fn stray_files_go_to_quarantine_and_blobs_stay() {
    let site = site();
    let blobs = site.store.dir().join("blobs/sha256");
    fs::write(blobs.join("notes.txt"), "not a blob").unwrap();
    fs::create_dir(blobs.join("f00")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", blobs.join("a".repeat(64))).unwrap();
    let server = site.scrubbing();
    wait::until(LONG, "the strays are gone", || {
        let left = ["notes.txt", "f00", &"a".repeat(64)];
        left.iter().all(|name| fs::symlink_metadata(blobs.join(name)).is_err()).then_some(())
    });
    assert!(PathBuf::from("/etc/passwd").exists());
    site.image.check(&server.client(), "team/app", "v1");
}

#[test]
fn what_cannot_be_mended_yet_is_tried_by_hand_with_fsck() {
    let site = site();
    let layer = site.layer();
    site.link.on(|_, _| Fault::status(404));
    flip(&site.path(&layer), 100);
    let found = site.store.run("fsck", [""; 0]);
    assert_eq!(found.code, Some(5));
    found.complains(&["--heal"]);
    let away = site.store.run("fsck", ["--heal"]);
    assert_eq!(away.code, Some(5), "{away}");
    site.link.behave();
    let said = site.store.run("fsck", ["--heal"]).ok();
    assert!(said.contains("fetched again"), "{said}");
    site.is_mended(&layer);
    site.store.run("fsck", ["--json"]).ok();
}

#[test]
fn a_pass_goes_on_where_it_stopped() {
    let site = site();
    // So slow that it never gets through, and is stopped at once all the same.
    let server = site.store.serve_with(["--scrub-rate", "100kB", "--scrub-interval", "1s"]);
    std::thread::sleep(Duration::from_secs(2));
    let begun = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let position = fs::read_to_string(site.store.dir().join(".satellite/scrub"));
    assert!(position.is_ok_and(|p| p.starts_with("sha256:")), "it does not know where it was");
    let mut server = site.scrubbing();
    let layer = site.layer();
    flip(&site.path(&layer), 7);
    server.daemon().wait_log(LONG, |line| line.contains("mended").then_some(()));
}
