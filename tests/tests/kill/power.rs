//! Power cuts of gateways: an emulated machine is killed at random instants of push, collection and replication, so that
//! what its kernel had not written is lost. After the next boot all that was acknowledged is there, and nobody repaired it.
//!
//! `SATELLITE_CUTS=N` cuts about that often in all (6 by default), on the machines of `SATELLITE_MACHINE` (both by default).

use crate::collection::churn;
use crate::ledger::Ledger;
use crate::push::{Upload, push_images};
use crate::replication::fetched_twice;
use crate::{choices, some, undamaged};
use satellite_tests::image::Image;
use satellite_tests::machine::{HOST, MACHINES, Machine, Running, missing};
use satellite_tests::proxy::Proxy;
use satellite_tests::registry::{Registry, htpasswd};
use satellite_tests::{skip, wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// How long a machine works at most before its power is cut.
const LIFE: Duration = Duration::from_secs(4);

/// Bytes of an upload that lasts over several lives.
const LARGE: usize = 8 << 20;

/// The machines that there are images of, and how often each is cut in a storm.
fn machines(storm: &str) -> Vec<(&'static str, usize)> {
    let only = std::env::var("SATELLITE_MACHINE").ok();
    let wanted = MACHINES.into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name));
    let here: Vec<_> = wanted
        .filter(|name| match missing(name) {
            Some(why) => {
                skip(&format!("power cuts of {storm} on {name}"), &why);
                false
            }
            None => true,
        })
        .collect();
    let all: usize = std::env::var("SATELLITE_CUTS").ok().and_then(|value| value.parse().ok()).unwrap_or(6);
    let each = all.div_ceil(3 * here.len().max(1));
    here.into_iter().map(|name| (name, each)).collect()
}

/// A machine of a storm, and the choices.
struct Storm {
    name: String,
    machine: Machine,
    rng: fastrand::Rng,
    slowest: Duration,
}

impl Storm {
    fn new(storm: &str, machine: &'static str, settings: &str) -> Self {
        let name = format!("power cuts of {storm} on {machine}");
        let rng = choices(&name);
        let machine = Machine::new(machine);
        machine.provision("satellite.env", settings);
        machine.provision("htpasswd", &htpasswd("edge", "edge"));
        Self { name, machine, rng, slowest: Duration::ZERO }
    }

    /// Boots what a cut left behind, and panics if anything had to be repaired. One boot in four is cut, too.
    fn boot(&mut self) -> Running {
        if self.rng.u8(..4) == 0 {
            let early = self.machine.boot();
            std::thread::sleep(some(Duration::from_secs(8), &mut self.rng));
            early.cut();
        }
        let mut running = self.machine.boot();
        self.slowest = running.serving().max(self.slowest);
        undamaged(&running.console());
        running
    }

    fn life(&mut self) -> Duration {
        some(LIFE, &mut self.rng)
    }

    fn told(&self, cuts: usize) {
        eprintln!("{}: {cuts} cuts, slowest boot {:.1?}", self.name, self.slowest);
    }
}

#[test]
fn a_gateway_whose_power_is_cut_while_clients_push_loses_nothing_that_it_acknowledged() {
    for (machine, cuts) in machines("push") {
        let mut storm = Storm::new("push", machine, "SATELLITE_SERVE='--htpasswd /boot/htpasswd'\n");
        let ledger = Mutex::new(Ledger::default());
        let mut upload = Upload::new(storm.rng.u64(..), LARGE);
        for cut in 0..=cuts {
            let running = storm.boot();
            let client = running.client().basic("edge", "edge");
            if upload.resume(&client) {
                ledger.lock().unwrap().blob(&upload.digest);
                upload = Upload::new(storm.rng.u64(..), LARGE);
            }
            if cut == cuts {
                ledger.lock().unwrap().check_all(&client, "app", &mut storm.rng);
                break;
            }
            ledger.lock().unwrap().check(&client, "app", &mut storm.rng);
            let (life, images, next) = (storm.life(), storm.rng.fork(), storm.rng.u64(..));
            std::thread::scope(|scope| {
                let small = scope.spawn(|| push_images(&client, &ledger, images));
                let large = scope.spawn(|| {
                    while upload.go_on(&client).is_ok() {
                        ledger.lock().unwrap().blob(&upload.digest);
                        upload = Upload::new(next, LARGE);
                    }
                });
                std::thread::sleep(life);
                running.cut();
                let died = small.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                assert!(died.is_err());
                large.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
        }
        storm.told(cuts);
    }
}

#[test]
fn a_gateway_whose_power_is_cut_while_it_collects_garbage_keeps_all_that_a_tag_reaches() {
    for (machine, cuts) in machines("collection") {
        let serve = "SATELLITE_SERVE='--htpasswd /boot/htpasswd --gc-interval 1s --gc-grace 1s'\n";
        let mut storm = Storm::new("collection", machine, serve);
        let ledger = Mutex::new(Ledger::default());
        for cut in 0..=cuts {
            let running = storm.boot();
            let client = running.client().basic("edge", "edge");
            ledger.lock().unwrap().check(&client, "app", &mut storm.rng);
            if cut == cuts {
                break;
            }
            let (life, choices, stop) = (storm.life(), storm.rng.fork(), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let clients = scope.spawn(|| churn(&client, &ledger, choices, &stop));
                std::thread::sleep(life);
                stop.store(true, Ordering::Relaxed);
                running.cut();
                let _ = clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
        }
        storm.told(cuts);
    }
}

#[test]
fn a_gateway_whose_power_is_cut_while_it_replicates_goes_on_where_it_was() {
    if !Registry::available() {
        return skip("power cuts of replication", "docker-registry is missing; tests/install gets it");
    }
    for (machine, cuts) in machines("replication") {
        let registry = Registry::start();
        let link = Proxy::start(registry.address());
        link.limit(3 * MIB);
        let mut storm = Storm::new("replication", machine, "");
        let (mut ledger, mut images, mut worst, mut pending) = (Ledger::default(), 0, 0, None);
        for cut in 0..=cuts {
            // What a cut took is asked for again.
            let (tag, image) = pending.take().unwrap_or_else(|| {
                images += 1;
                let tag = format!("v{images}");
                let image = Image::new().noise(8 << 20, images * 10).noise(100_000, images * 10 + 1).build();
                image.push(&registry.client(), "app", &tag);
                (tag, Arc::new(image))
            });
            let reference = format!("{HOST}:{}/app:{tag}", link.address().port());
            let settings = format!("SATELLITE_IMAGES={reference}\nSATELLITE_PULL=--plain-http\n");
            storm.machine.provision("satellite.env", &settings);
            ledger.ask(&tag, Some(Arc::clone(&image)));
            let mut running = storm.boot();
            ledger.check(&running.client(), "app", &mut storm.rng);
            ledger.ask(&tag, Some(Arc::clone(&image)));
            let here = format!("{reference} is here");
            if cut == cuts {
                running.says(&here);
                ledger.acknowledge(&tag);
                ledger.check_all(&running.client(), "app", &mut storm.rng);
            } else if wait::within(storm.life(), || running.console().contains(&here).then_some(())).is_some()
            {
                ledger.acknowledge(&tag);
            } else {
                pending = Some((tag, Arc::clone(&image)));
            }
            worst = worst.max(fetched_twice(&link, &image.blobs[1].digest));
            running.cut();
        }
        eprintln!("{}: {images} images, at most {worst} bytes fetched again", storm.name);
        storm.told(cuts);
    }
}
