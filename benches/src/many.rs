//! A store with thousands of blobs: memory at rest, and time from the start to the first answer.

use std::{fs, time::Instant};

use satellite_tests::{dir::Dir, satellite::Store};
use serde_json::{Value, json};

use crate::{measure::resident, peers::small_image};

/// What a server with many blobs needs.
pub(crate) struct Idle {
    /// KiB, before and after every manifest was asked for once.
    pub(crate) memory: [u64; 2],
    /// Milliseconds to the first answer, best of three.
    pub(crate) start: f64,
    /// Threads.
    pub(crate) threads: usize,
}

/// Makes a store with about `blobs` blobs, four an image, and starts a server on it.
pub(crate) fn measure(dir: &Dir, blobs: usize) -> Idle {
    let place = dir.join(format!("many-{blobs}"));
    let mut entries: Vec<Value> = Vec::new();
    fs::create_dir_all(place.join("blobs/sha256")).unwrap();
    for n in 0..blobs / 4 {
        let image = small_image(n);
        for (digest, bytes) in image.reach() {
            fs::write(place.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        }
        let mut entry = image.descriptor();
        entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": format!("p{}/a{}:v{n}", n % 50, n / 50)});
        entries.push(entry);
    }
    fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(place.join("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string())
        .unwrap();
    let store = Store::at(&place);
    // The first start makes the index from the layout.
    assert!(store.serve().stop().success());
    let mut start = f64::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let server = store.serve();
        server.client().get("/v2/p1/a0/manifests/v1").expect(200);
        start = start.min(begun.elapsed().as_secs_f64() * 1000.0);
        assert!(server.stop().success());
    }
    let mut server = store.serve();
    let pid = server.daemon().pid();
    server.client().get("/v2/p1/a0/manifests/v1").expect(200);
    let rest = resident(pid);
    let client = server.client();
    for n in 0..blobs / 4 {
        client.get(&format!("/v2/p{}/a{}/manifests/v{n}", n % 50, n / 50)).expect(200);
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    Idle { memory: [rest, resident(pid)], start, threads }
}
