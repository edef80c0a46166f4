//! Kills of a server that is being pushed to.

use crate::ledger::Ledger;
use crate::{choices, kills, restart, some};
use satellite_tests::dir::Dir;
use satellite_tests::http::{Client, Request, Response};
use satellite_tests::image::{Image, with_digest};
use satellite_tests::oci;
use satellite_tests::satellite::Store;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CHUNK: usize = 1 << 20;
const BIG: usize = 16 << 20;

/// An upload that lasts over many lives of the server.
pub(crate) struct Upload {
    bytes: Vec<u8>,
    pub(crate) digest: String,
    location: Option<String>,
    acknowledged: usize,
}

impl Upload {
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let bytes = oci::noise(size, seed);
        Self { digest: oci::sha256(&bytes), bytes, location: None, acknowledged: 0 }
    }

    /// Sends chunks until all is there and named. Any I/O error is the server's death.
    pub(crate) fn go_on(&mut self, client: &Client) -> io::Result<()> {
        let location = match &self.location {
            Some(location) => location.clone(),
            None => {
                let post = Request::new("POST", "/v2/app/blobs/uploads/").header("Content-Length", "0");
                self.moved(&client.try_send(&post)?.expect(202))
            }
        };
        let mut location = location;
        while self.acknowledged < self.bytes.len() {
            let end = (self.acknowledged + CHUNK).min(self.bytes.len());
            let patch = Request::new("PATCH", &location)
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", &format!("{}-{}", self.acknowledged, end - 1))
                .bytes(&self.bytes[self.acknowledged..end]);
            let answer = client.try_send(&patch)?.expect(202);
            assert_eq!(answer.header("range"), Some(format!("0-{}", end - 1).as_str()));
            self.acknowledged = end;
            location = self.moved(&answer);
        }
        let put = Request::new("PUT", &with_digest(&location, &self.digest)).header("Content-Length", "0");
        client.try_send(&put)?.expect(201);
        Ok(())
    }

    fn moved(&mut self, answer: &Response) -> String {
        let location = answer.location();
        self.location = Some(location.clone());
        location
    }

    /// After a restart: true if the blob is complete (its last answer was lost), else the offset must be there.
    pub(crate) fn resume(&mut self, client: &Client) -> bool {
        let Some(location) = &self.location else { return false };
        let answer = client.get(location);
        if answer.status == 404 && self.acknowledged == self.bytes.len() {
            client.head(&format!("/v2/app/blobs/{}", self.digest)).expect(200);
            return true;
        }
        if answer.status == 404 && self.acknowledged == 0 {
            // Opened, but no byte acknowledged: nothing is lost by opening it again.
            self.location = None;
            return false;
        }
        let answer = answer.expect(204);
        let range = answer.header("range").expect("a Range").to_owned();
        let offset = match range.split_once('-') {
            // Some registries cannot say "nothing yet" otherwise.
            Some(("0", "0")) if self.acknowledged == 0 => 0,
            Some(("0", last)) => last.parse::<usize>().expect("a number") + 1,
            _ => 0,
        };
        assert!(
            offset >= self.acknowledged,
            "the upload stands at {range}; {} were acknowledged",
            self.acknowledged
        );
        self.acknowledged = offset;
        self.location = Some(answer.location());
        false
    }
}

/// Pushes small images under five tags, one after another, until the server dies.
pub(crate) fn push_images(client: &Client, ledger: &Mutex<Ledger>, mut rng: fastrand::Rng) -> io::Result<()> {
    loop {
        let tag = format!("t{}", rng.u8(..5));
        let image = Image::new().noise(rng.usize(1..200_000), rng.u64(..)).noise(100, rng.u64(..)).build();
        for blob in &image.blobs {
            blob.try_push(client, "app")?;
            ledger.lock().unwrap().blob(&blob.digest);
        }
        let put = Request::new("PUT", &format!("/v2/app/manifests/{tag}"))
            .header("Content-Type", &image.media_type);
        let put = put.bytes(image.manifest.clone());
        ledger.lock().unwrap().ask(&tag, Some(Arc::new(image)));
        client.try_send(&put)?.expect(201);
        ledger.lock().unwrap().acknowledge(&tag);
    }
}

#[test]
fn a_server_killed_while_clients_push_loses_no_blob_tag_or_offset_that_it_acknowledged() {
    let mut rng = choices("push");
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let (ledger, mut slowest, mut uploads) = (Mutex::new(Ledger::default()), Duration::ZERO, 0);
    let mut upload = Upload::new(rng.u64(..), BIG);
    for _ in 0..kills() {
        let mut server = restart(&store, &mut slowest);
        let client = server.client();
        if upload.resume(&client) {
            ledger.lock().unwrap().blob(&upload.digest);
            upload = Upload::new(rng.u64(..), BIG);
            uploads += 1;
        }
        ledger.lock().unwrap().check(&client, "app", &mut rng);
        let life = some(Duration::from_millis(200), &mut rng);
        let (images, next) = (rng.fork(), rng.u64(..));
        std::thread::scope(|scope| {
            let small = scope.spawn(|| push_images(&client, &ledger, images));
            let large = scope.spawn(|| {
                while upload.go_on(&client).is_ok() {
                    ledger.lock().unwrap().blob(&upload.digest);
                    upload = Upload::new(next, BIG);
                    uploads += 1;
                }
            });
            std::thread::sleep(life);
            server.daemon().kill();
            // Both end when the server is gone; a panic of theirs is ours.
            let died = small.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(died.is_err());
            large.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
    let server = restart(&store, &mut slowest);
    let mut ledger = ledger.lock().unwrap();
    ledger.check_all(&server.client(), "app", &mut rng);
    eprintln!(
        "push: {} kills, {} blobs, {uploads} large ones, slowest start {slowest:.0?}",
        kills(),
        ledger.blobs()
    );
}
