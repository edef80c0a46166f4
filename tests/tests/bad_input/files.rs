//! A store with foreign, damaged or missing files, and a store that is in use.

use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::run;
use satellite_tests::satellite::Store;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A store with a few images, closed properly.
fn stocked(dir: &Path) -> (Store, Vec<Artifact>) {
    let store = Store::at(dir);
    let server = store.serve();
    let images: Vec<_> =
        (0..12).map(|n| Image::new().noise(20_000, n).noise(100, 1000 + n).build()).collect();
    for (n, image) in images.iter().enumerate() {
        image.push(&server.client(), "app", &format!("v{n}"));
    }
    assert!(server.stop().success());
    (store, images)
}

#[track_caller]
fn all_there(store: &Store, images: &[Artifact]) -> String {
    let mut server = store.serve();
    for (n, image) in images.iter().enumerate() {
        image.check(&server.client(), "app", &format!("v{n}"));
    }
    server.daemon().log()
}

fn path_of(store: &Store, digest: &str) -> PathBuf {
    store.dir().join("blobs").join(digest.replace(':', "/"))
}

#[test]
fn foreign_files_and_links_in_the_store_are_never_served_and_never_lost() {
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    let hex = |letter: &str| letter.repeat(64);
    let blobs = store.dir().join("blobs/sha256");
    for folder in [store.dir().join("lost+found"), blobs.join("lost+found"), blobs.join(hex("d"))] {
        std::fs::create_dir(folder).unwrap();
    }
    for file in [store.dir().join("README"), blobs.join("README"), blobs.join(".hidden"), blobs.join("abc")] {
        std::fs::write(file, "not ours").unwrap();
    }
    std::fs::create_dir_all(store.dir().join("blobs/md5")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", blobs.join(hex("e"))).unwrap();
    std::os::unix::fs::symlink("/", blobs.join("root")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", blobs.join(hex("f"))).unwrap();
    store.run("fsck", ["--json"]).decent();
    store.run("gc", ["--grace", "0s"]).ok();
    let server = store.serve();
    for letter in ["d", "e", "f"] {
        for path in ["blobs", "manifests"] {
            server.client().get(&format!("/v2/app/{path}/sha256:{}", hex(letter))).expect(404);
        }
    }
    drop(server);
    all_there(&store, &images);
    for kept in [store.dir().join("lost+found"), store.dir().join("README"), blobs.join("lost+found")] {
        assert!(kept.exists(), "{} is gone", kept.display());
    }
    // What has no business among the blobs is where it was, or set aside by the scrub.
    let aside = std::fs::read_dir(store.dir().join(".satellite/quarantine")).unwrap().flatten();
    let aside: Vec<_> = aside.map(|entry| entry.path()).collect();
    for name in ["README", ".hidden", "abc"] {
        let found = aside.iter().chain([&blobs.join(name)]).any(|path| {
            path.to_string_lossy().ends_with(name)
                && std::fs::read(path).is_ok_and(|text| text == b"not ours")
        });
        assert!(found, "{name} is lost");
    }
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn a_store_in_use_is_refused_with_a_word_about_it_and_not_harmed() {
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    let server = store.serve();
    store.run("serve", ["--listen", "127.0.0.1:0"]).exits(5).decent().complains(&["in use"]);
    for (n, image) in images.iter().enumerate() {
        image.check(&server.client(), "app", &format!("v{n}"));
    }
}

#[test]
fn a_data_directory_that_is_none_is_refused() {
    let dir = Dir::new();
    std::fs::write(dir.join("file"), "x").unwrap();
    let places = [
        dir.join("file"),
        dir.join("file/below"),
        PathBuf::from("/proc/nothing"),
        PathBuf::from("/dev/null"),
    ];
    for place in places {
        let store = Store::at(place);
        store.run("serve", ["--listen", "127.0.0.1:0"]).exits(5).decent();
        store.run("gc", [] as [&str; 0]).exits(5).decent();
    }
}

/// The files of the index: those of the directory in which sled keeps its `db`.
fn index_files(store: &Store) -> Vec<PathBuf> {
    fn find(dir: &Path) -> Option<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
        if entries.iter().any(|path| path.is_file() && path.file_name().is_some_and(|name| name == "db")) {
            return Some(dir.into());
        }
        entries.iter().filter(|path| path.is_dir() && !path.ends_with("blobs")).find_map(|path| find(path))
    }
    let dir = find(store.dir()).expect("sled's directory");
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

type Damage = (&'static str, fn(&mut Vec<u8>));

#[test]
fn a_damaged_index_is_set_aside_and_rebuilt_and_every_image_is_there() {
    let damages: [Damage; 6] = [
        ("emptied", |bytes| bytes.clear()),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("one byte short", |bytes| bytes.truncate(bytes.len().saturating_sub(1))),
        ("a page of zeros", |bytes| {
            let from = bytes.len() / 3;
            let to = (from + 4096).min(bytes.len());
            bytes[from..to].fill(0);
        }),
        ("all bits flipped in the first kilobytes", |bytes| {
            bytes.iter_mut().take(8192).for_each(|byte| *byte = !*byte);
        }),
        ("noise", |bytes| *bytes = satellite_tests::oci::noise(bytes.len(), 5)),
    ];
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    for (n, (what, damage)) in damages.into_iter().enumerate() {
        let copy = Store::at(dir.join(format!("c{n}")));
        run(Command::new("cp").arg("-a").arg(store.dir()).arg(copy.dir()), Duration::from_secs(30)).ok();
        for file in index_files(&copy) {
            let mut bytes = std::fs::read(&file).unwrap();
            damage(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
        }
        eprintln!("index: {what}");
        // The crate may fall over the file while it opens it; that must not last.
        for _ in 0..2 {
            copy.run("images", ["--json"]);
        }
        all_there(&copy, &images);
    }
}

#[test]
fn a_missing_index_is_rebuilt_from_the_layout_and_said_loudly() {
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    let folder = index_files(&store)[0].parent().unwrap().to_owned();
    std::fs::remove_dir_all(folder).unwrap();
    let log = all_there(&store, &images).to_lowercase();
    assert!(log.contains("index") && log.contains("layout"), "not a word about it:\n{log}");
}

#[test]
fn a_store_is_an_oci_layout_that_skopeo_reads() {
    if !satellite_tests::has("skopeo") {
        return satellite_tests::skip("OCI layout", "skopeo is missing; tests/install gets it");
    }
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(store.dir().join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["digest"] == images[3].digest.as_str())
        .expect("app:v3 in index.json");
    let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("its name");
    let from = format!("oci:{}:{name}", store.dir().display());
    let raw = run(Command::new("skopeo").args(["inspect", "--raw", &from]), Duration::from_secs(30)).ok();
    assert_eq!(raw.as_bytes(), images[3].manifest);
}

#[test]
fn a_damaged_blob_is_named_by_fsck_and_no_longer_served_after_repair() {
    let dir = Dir::new();
    let (store, images) = stocked(&dir.join("s"));
    store.run("fsck", [] as [&str; 0]).ok();
    let (flipped, cut, gone) =
        (&images[1].blobs[1].digest, &images[2].blobs[1].digest, &images[3].blobs[1].digest);
    let mut bytes = std::fs::read(path_of(&store, flipped)).unwrap();
    bytes[777] ^= 1;
    replace(&path_of(&store, flipped), &bytes);
    replace(&path_of(&store, cut), &bytes[..100]);
    std::fs::remove_file(path_of(&store, gone)).unwrap();
    let said = store.run("fsck", [] as [&str; 0]).exits(5).decent();
    for digest in [flipped, cut, gone] {
        assert!(
            format!("{}{}", said.stdout, said.stderr).contains(digest.as_str()),
            "{digest} is not named by {said}"
        );
    }
    store.run("fsck", ["--repair"]).decent();
    store.run("fsck", [] as [&str; 0]).decent();
    let server = store.serve();
    for digest in [flipped, cut, gone] {
        server.client().get(&format!("/v2/app/blobs/{digest}")).expect(404);
    }
    // The others are as they were, and a push heals what was lost.
    images[0].check(&server.client(), "app", "v0");
    for (n, image) in images.iter().enumerate().take(4).skip(1) {
        image.push(&server.client(), "app", &format!("v{n}"));
        image.check(&server.client(), "app", &format!("v{n}"));
    }
}

/// Writes a file anew, whatever its permissions are.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}
