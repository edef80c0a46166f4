//! Bad input of every kind: a clear error with the right status or exit code, bounded memory, nothing lost, no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod arguments;
mod bodies;
mod disk;
mod files;
mod manifests;
mod names;
mod upstream;

use satellite_tests::dir::Dir;
use satellite_tests::http::{Client, Response};
use satellite_tests::image::{Artifact, Image};
use satellite_tests::satellite::{Server, Store};

/// A server with one good image, `app:v1`, that must come through whatever a test does.
struct Victim {
    server: Server,
    client: Client,
    image: Artifact,
    dir: Dir,
}

impl Victim {
    fn new() -> Self {
        let dir = Dir::new();
        let server = Store::at(dir.join("s")).serve();
        let (client, image) = (server.client(), Image::new().noise(100_000, 1).build());
        image.push(&client, "app", "v1");
        Self { server, client, image, dir }
    }

    /// Panics unless it still serves, did not panic, took no more memory than it should, and kept to its directory.
    #[track_caller]
    fn unharmed(mut self) {
        self.image.check(&self.client, "app", "v1");
        let log = self.server.daemon().log();
        assert!(!log.contains("panicked"), "{log}");
        let (_, peak) = self.server.memory();
        assert!(peak < 64 * 1024, "peak resident memory: {peak} KiB");
        let beside: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(
            beside.iter().all(|name| name == "s" || name == "s.log"),
            "files beside the store: {beside:?}"
        );
    }
}

/// Panics unless the answer is a refusal of the client's request, explained in the specification's JSON.
#[track_caller]
fn refused(answer: &Response, what: &str) {
    assert!((400..500).contains(&answer.status), "{} for {what}: {}", answer.status, answer.text());
    if !answer.body.is_empty() {
        assert!(!answer.code().is_empty(), "no error code for {what} ({}): {}", answer.status, answer.text());
    }
}
