//! Kills of `satellite pull`.

use crate::ledger::Ledger;
use crate::{choices, kills, restart, some};
use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::Daemon;
use satellite_tests::proxy::Proxy;
use satellite_tests::registry::Registry;
use satellite_tests::satellite::{BOUND, Store};
use satellite_tests::{skip, wait};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A big layer that takes a third of a second to cross the link, and some small ones.
fn image(generation: u64) -> Artifact {
    let seed = generation * 10;
    Image::new().noise(16 << 20, seed).noise(100_000, seed + 1).noise(1000, seed + 2).noise(0, 0).build()
}

#[test]
fn killed_replication_keeps_what_it_acknowledged_and_fetches_little_twice() {
    if !Registry::available() {
        return skip("kills of replication", "docker-registry is missing; tests/install gets it");
    }
    let mut rng = choices("replication");
    let (dir, registry) = (Dir::new(), Registry::start());
    let link = Proxy::start(registry.address());
    link.limit(48 * MIB);
    let store = Store::at(dir.join("s"));
    let (mut ledger, mut killed, mut generation, mut slowest, mut worst) =
        (Ledger::default(), 0, 0, Duration::ZERO, 0);
    while killed < kills() {
        generation += 1;
        let image = Arc::new(image(generation));
        let big = image.blobs[1].digest.clone();
        image.push(&registry.client(), "app", "new");
        let tag = "new";
        link.forget();
        ledger.ask(tag, Some(Arc::clone(&image)));
        let reference = format!("{}/app:{tag}", link.host());
        loop {
            let mut command = store.command("pull", ["--plain-http", &reference]);
            let mut pull = Daemon::start("satellite pull", &mut command, &dir.join("pull.log"));
            let ended = if rng.bool() {
                wait::within(some(Duration::from_millis(450), &mut rng), || pull.ended())
            } else {
                // The instants after the last byte: sync, rename, index, tag.
                wait::within(BOUND, || {
                    let last = link.seen(&big).last().map_or(0, |seen| seen.offset() + seen.sent);
                    if last >= 16 * MIB { Some(None) } else { pull.ended().map(Some) }
                })
                .expect("an end of the pull, or of the layer")
                .or_else(|| wait::within(some(Duration::from_millis(60), &mut rng), || pull.ended()))
            };
            match ended {
                Some(status) => {
                    assert!(status.success(), "{}", pull.log());
                    ledger.acknowledge(tag);
                }
                None => {
                    pull.kill();
                    killed += 1;
                }
            }
            let server = restart(&store, &mut slowest);
            ledger.check(&server.client(), "app", &mut rng);
            server.kill();
            if ended.is_some() || killed >= kills() {
                break;
            }
            ledger.ask(tag, Some(Arc::clone(&image)));
        }
        worst = worst.max(fetched_twice(&link, &big));
        if generation % 4 == 0 {
            // Room for more: what the tag has left behind.
            store.run("gc", ["--grace", "0s"]).ok();
        }
    }
    eprintln!(
        "replication: {killed} kills, {generation} images, slowest start {slowest:.0?}, at most {worst} bytes fetched twice"
    );
}

/// The most that one kill cost: how far behind the last byte sent the next request began.
pub(crate) fn fetched_twice(link: &Proxy, digest: &str) -> u64 {
    let (mut reached, mut worst) = (0, 0);
    for seen in link.seen(digest) {
        let again = u64::saturating_sub(reached, seen.offset());
        assert!(again <= 8 * MIB, "{again} bytes of {digest} were fetched again after one kill");
        worst = worst.max(again);
        reached = reached.max(seen.offset() + seen.sent);
    }
    worst
}
