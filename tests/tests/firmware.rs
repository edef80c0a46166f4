//! Gateway images: they boot and serve, keep the store through an update, and come back from one that does not work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use satellite_tests::dir::Dir;
use satellite_tests::http::Request;
use satellite_tests::image::{Artifact, Blob, Image};
use satellite_tests::machine::{HOST, MACHINES, Machine, Running, built, missing};
use satellite_tests::oci;
use satellite_tests::process::run;
use satellite_tests::registry::{Registry, htpasswd};
use satellite_tests::skip;
use std::process::Command;
use std::time::Duration;

const SERVE: &str = "SATELLITE_SERVE='--htpasswd /boot/htpasswd'\n";

/// The machines that there are images of.
fn machines(what: &str) -> impl Iterator<Item = &'static str> {
    MACHINES.into_iter().filter(move |name| {
        let why = missing(name);
        if let Some(why) = &why {
            skip(&format!("{what} of {name}"), why);
        }
        why.is_none()
    })
}

/// A machine that whoever knows the password may push to.
fn machine(name: &'static str, more: &str) -> Machine {
    let machine = Machine::new(name);
    machine.provision("htpasswd", &htpasswd("edge", "edge"));
    machine.provision("satellite.env", &format!("{SERVE}{more}"));
    machine
}

fn push(running: &Running, image: &Artifact) {
    image.push(&running.client().basic("edge", "edge"), "app", "v1");
}

#[test]
fn a_gateway_boots_serves_what_is_pushed_and_writes_little_more_to_its_flash() {
    for name in machines("a boot") {
        let machine = machine(name, "");
        let mut running = machine.boot();
        let first = running.serving();
        let before = running.written();
        let size = 16 << 20;
        let image = Image::new().noise(size, 1).noise(size, 2).build();
        push(&running, &image);
        let per_byte = (running.written() - before) as f64 / (2 * size) as f64;
        image.check(&running.client(), "app", "v1");
        let state = running.says("serving on port 8585, address 10.0.2.15");
        eprintln!(
            "{name}: first answer after {first:.1?}, {per_byte:.2} bytes written for one stored; {state}"
        );
        // Content is written once; the rest is the index, file system and journal.
        assert!(per_byte < 1.5, "{per_byte} bytes are written for one that is stored");
        running.cut();
        let mut running = machine.boot();
        running.serving();
        image.check(&running.client(), "app", "v1");
    }
}

#[test]
fn an_update_keeps_the_store_and_one_that_does_not_work_is_left() {
    if !Registry::available() {
        return skip("updates of gateways", "docker-registry is missing; tests/install gets it");
    }
    for name in machines("updates") {
        let registry = Registry::start();
        // Offered as a blob, under a digest of what is written: the slot as it is, not as it is compressed.
        let offer = |compressed: Vec<u8>, digest: &str| {
            let blob = Blob::new("application/octet-stream", compressed);
            blob.try_push(&registry.client(), "system").expect("a push");
            let at = format!("http://{HOST}:{}/v2/system/blobs/{}", registry.address().port(), blob.digest);
            format!("UPDATE={at}\nUPDATE_SHA256={digest}\n")
        };
        let slot = std::fs::read(built(name).join("slot.ext4.gz")).unwrap();
        let digest = std::fs::read_to_string(built(name).join("slot.sha256")).unwrap();
        let good = offer(slot, digest.trim());
        // As large as a slot, and nothing to boot.
        let (dir, empty) = (Dir::new(), vec![0; 32 << 20]);
        std::fs::write(dir.join("slot"), &empty).unwrap();
        run(Command::new("gzip").arg(dir.join("slot")), Duration::from_secs(60)).ok();
        let digest = oci::sha256(&empty);
        let compressed = std::fs::read(dir.join("slot.gz")).unwrap();
        let bad = offer(compressed, digest.trim_start_matches("sha256:"));

        let machine = machine(name, "");
        let mut running = machine.boot();
        running.serving();
        let image = Image::new().noise(1 << 20, 1).build();
        push(&running, &image);
        running.cut();

        machine.provision("satellite.env", &format!("{SERVE}{good}"));
        let mut running = machine.boot();
        running.says("slot b is on trial");
        running.says("slot b serves: it is good from now on");
        image.check(&running.client(), "app", "v1");
        running.cut();

        machine.provision("satellite.env", &format!("{SERVE}{bad}"));
        let mut running = machine.boot();
        running.says("slot a is on trial");
        // Three tries, and back.
        running.wait("three boots of slot a, and slot b again", |console| {
            let boots: Vec<&str> = console.lines().filter(|line| line.contains("boot: slot ")).collect();
            let tries = boots.iter().filter(|line| line.contains("boot: slot a")).count();
            (tries == 3 && boots.last().is_some_and(|line| line.contains("boot: slot b"))).then_some(())
        });
        let client = running.client();
        running.wait("slot b to serve again", |console| {
            let last = console.rfind("boot: slot b")?;
            let request = Request::new("GET", "/v2/app/manifests/v1");
            console[last..]
                .contains("serving on port")
                .then(|| client.try_send(&request).ok())
                .flatten()
                .map(|_| ())
        });
        image.check(&client, "app", "v1");
        running.cut();
    }
}
