//! Kills of garbage collection, and of the server under it, while tags come and go.

use crate::ledger::Ledger;
use crate::{choices, kills, restart, some};
use satellite_tests::dir::Dir;
use satellite_tests::http::{Client, Request};
use satellite_tests::image::{Artifact, Blob, Image};
use satellite_tests::process::Daemon;
use satellite_tests::satellite::Store;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Moves and deletes ten tags until the server dies or `stop` is set.
///
/// Half of the images share a layer that is now garbage and now not: it is pushed only if the registry says that
/// it lacks it, as real clients do.
pub(crate) fn churn(
    client: &Client,
    ledger: &Mutex<Ledger>,
    mut rng: fastrand::Rng,
    stop: &AtomicBool,
) -> io::Result<()> {
    let shared = Blob::noise(300_000, 1);
    while !stop.load(Ordering::Relaxed) {
        let tag = format!("t{}", rng.u8(..10));
        let target = format!("/v2/app/manifests/{tag}");
        if rng.u8(..4) == 0 {
            ledger.lock().unwrap().ask(&tag, None);
            let status = client.try_send(&Request::new("DELETE", &target))?.status;
            assert!(matches!(status, 202 | 404), "{status} for the deletion of {tag}");
            ledger.lock().unwrap().acknowledge(&tag);
            continue;
        }
        let image = image(&shared, &mut rng);
        for blob in &image.blobs {
            let head = Request::new("HEAD", &format!("/v2/app/blobs/{}", blob.digest));
            if client.try_send(&head)?.status == 404 {
                blob.try_push(client, "app")?;
            }
        }
        let put = Request::new("PUT", &target)
            .header("Content-Type", &image.media_type)
            .bytes(image.manifest.clone());
        ledger.lock().unwrap().ask(&tag, Some(Arc::new(image)));
        let answer = client.try_send(&put)?;
        match (answer.status, answer.code().as_str()) {
            (201, _) => ledger.lock().unwrap().acknowledge(&tag),
            // What was there a moment ago was garbage, and is collected: to be pushed again, but never half there.
            (400 | 404, "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN") => ledger.lock().unwrap().refused(&tag),
            _ => panic!("{} for {tag}: {}", answer.status, answer.text()),
        }
    }
    Ok(())
}

fn image(shared: &Blob, rng: &mut fastrand::Rng) -> Artifact {
    let image = Image::new().noise(rng.usize(1..60_000), rng.u64(..));
    if rng.bool() { image.layer(shared.clone()).build() } else { image.build() }
}

/// Collects again and again; each run is killed at a random instant, or ends well, or finds the server gone.
fn collect(store: &Store, log: &Path, mut rng: fastrand::Rng, stop: &AtomicBool, killed: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let mut gc = Daemon::start("satellite gc", &mut store.command("gc", ["--grace", "1s"]), log);
        let life = Duration::from_millis(20) + some(Duration::from_millis(100), &mut rng);
        if satellite_tests::wait::within(life, || gc.ended()).is_none() {
            gc.kill();
            killed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_killed_collection_or_server_under_it_takes_nothing_that_a_tag_reaches() {
    let mut rng = choices("collection");
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let (ledger, mut slowest) = (Mutex::new(Ledger::default()), Duration::ZERO);
    let (mut rounds, killed) = (0, AtomicUsize::new(0));
    while killed.load(Ordering::Relaxed) < kills() {
        rounds += 1;
        let mut server = restart(&store, &mut slowest);
        let client = server.client();
        ledger.lock().unwrap().check(&client, "app", &mut rng);
        let life = Duration::from_millis(50) + some(Duration::from_millis(250), &mut rng);
        let (churning, collecting, stop) = (rng.fork(), rng.fork(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let clients = scope.spawn(|| churn(&client, &ledger, churning, &stop));
            let collector = scope.spawn(|| collect(&store, &dir.join("gc.log"), collecting, &stop, &killed));
            std::thread::sleep(life);
            stop.store(true, Ordering::Relaxed);
            server.daemon().kill();
            killed.fetch_add(1, Ordering::Relaxed);
            let _ = clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            collector.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        // Alone on the store, and killed too.
        let mut gc =
            Daemon::start("satellite gc", &mut store.command("gc", ["--grace", "1s"]), &dir.join("gc.log"));
        if satellite_tests::wait::within(some(Duration::from_millis(60), &mut rng), || gc.ended()).is_none() {
            gc.kill();
            killed.fetch_add(1, Ordering::Relaxed);
        }
    }
    let server = restart(&store, &mut slowest);
    let mut ledger = ledger.lock().unwrap();
    ledger.check_all(&server.client(), "app", &mut rng);
    // Nothing is lost, and with nobody at work nothing is kept either.
    store.run("gc", ["--grace", "0s"]).ok();
    ledger.check_all(&server.client(), "app", &mut rng);
    let (files, reach) = (files(store.dir()), ledger.reach());
    assert_eq!(
        files.difference(&reach).collect::<Vec<_>>(),
        [""; 0],
        "files that nothing reaches, after a collection"
    );
    assert_eq!(
        reach.difference(&files).collect::<Vec<_>>(),
        [""; 0],
        "blobs that are reached, and not there"
    );
    let kills = killed.load(Ordering::Relaxed);
    eprintln!("collection: {kills} kills in {rounds} rounds, slowest start {slowest:.0?}");
}

/// The digests of all blobs in the store's layout.
fn files(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.join("blobs/sha256")).expect("the blobs");
    entries.flatten().map(|entry| format!("sha256:{}", entry.file_name().to_string_lossy())).collect()
}
