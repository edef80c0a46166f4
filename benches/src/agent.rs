//! `satellite run` at rest and at work: resident memory, threads, and the time to its first answer.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use satellite_tests::agent::Site;
use satellite_tests::ground_control::PASSWORD;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::Daemon;
use serde_json::{Value, json};

use crate::measure::{anonymous, peak, resident};

/// Images of the idle agent.
const HELD: u64 = 50;
/// Blobs that come at once, and clients that pull at once meanwhile.
const AT_ONCE: usize = 8;
const CLIENTS: usize = 32;
/// Heartbeats, with the turns and looks between them, before what is at rest is measured.
const BEATS: usize = 10;

/// Measures the agent: memory at rest and at work, threads, time to the first answer.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Small blobs: shows that it works, not what it takes
    #[arg(long)]
    quick: bool,
    /// Write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) {
    let size = if args.quick { 2 << 20 } else { 64 << 20 };
    let site = Site::start();
    let mut rows = Vec::new();
    let mut row = |what: &str, value: f64, limit: Option<f64>| {
        let verdict = limit.map_or("", |most| if value <= most { "met" } else { "missed" });
        println!("| {what} | {value:.1} | {} | {verdict} |", limit.map_or("–".into(), |l| format!("{l:.0}")));
        rows.push(json!({"what": what, "value": value, "limit": limit}));
    };
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("| what | measured | limit | |\n|---|---|---|---|");

    let held: Vec<(String, Artifact)> =
        (0..HELD).map(|n| (format!("v{n}"), site.image("library/held", &format!("v{n}"), n))).collect();
    let named: Vec<_> =
        held.iter().map(|(tag, i)| ("library/held", tag.as_str(), i.digest.as_str())).collect();
    site.publish("edge", &json!({"satellite": {"concurrency": AT_ONCE}}));
    site.admin.group("shop", &named);
    let token = site.admin.register("gate", &["shop"], "edge");
    let mut agent = site.run(Some(&token));
    settled(&site, &mut agent, HELD);
    agent.kill();
    // A life in which nothing happens.
    let begun = Instant::now();
    let mut agent = site.run(None);
    satellite_tests::wait::until(Duration::from_secs(30), "an answer", || {
        site.client().try_send(&satellite_tests::http::Request::new("GET", "/v2/")).ok()
    });
    row("ms from the start to the first answer", begun.elapsed().as_secs_f64() * 1000.0, None);
    settled(&site, &mut agent, HELD);
    // Some heartbeats, turns and looks.
    site.beats(&mut agent, BEATS);
    let threads = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).map_or(0, Iterator::count);
    row(&format!("MiB at rest with {HELD} images"), mib(resident(agent.pid())), Some(10.0));
    row("of these, MiB that are not its program file", mib(anonymous(agent.pid())), None);
    row("threads at rest", threads as f64, None);

    // Work: blobs that come at once while what is here is pulled at once.
    let admin = site.server.client().basic("admin", PASSWORD);
    let large: Vec<Artifact> =
        (0..=AT_ONCE as u64).map(|n| Image::new().noise(size, 1000 + n).build()).collect();
    for (n, image) in large.iter().enumerate() {
        image.push(&admin, "library/large", &format!("v{n}"));
    }
    let tags: Vec<String> = (0..large.len()).map(|n| format!("v{n}")).collect();
    let of = |n: usize| ("library/large", tags[n].as_str(), large[n].digest.as_str());
    let with = |n: std::ops::Range<usize>| named.iter().copied().chain(n.map(of)).collect::<Vec<_>>();
    site.admin.group("shop", &with(0..1));
    settled(&site, &mut agent, HELD + 1);
    let _ = std::fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5");
    let layer = large[0].reach().into_iter().map(|(digest, bytes)| (bytes.len(), digest)).max().unwrap().1;
    site.admin.group("shop", &with(0..AT_ONCE + 1));
    let pulled = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| pull(site.address, &format!("/v2/library/large/blobs/{layer}"))))
            .collect();
        clients.into_iter().map(|c| c.join().unwrap()).sum::<u64>()
    });
    settled(&site, &mut agent, HELD + 1 + AT_ONCE as u64);
    row(
        &format!("MiB at its peak: {AT_ONCE} blobs of {} MiB come, {CLIENTS} clients pull", size >> 20),
        mib(peak(agent.pid())),
        Some(20.0),
    );
    site.beats(&mut agent, BEATS);
    row("MiB at rest after that", mib(resident(agent.pid())), None);
    assert!(pulled >= (CLIENTS * size) as u64, "{pulled} bytes were pulled");
    if let Some(path) = &args.json {
        let all = json!({"size": size, "rows": rows});
        std::fs::write(path, format!("{all:#}\n")).expect("the results' file");
    }
}

fn settled(site: &Site, agent: &mut Daemon, images: u64) -> Value {
    satellite_tests::wait::until(Duration::from_secs(600), "all images, and nothing wrong", || {
        assert!(agent.ended().is_none(), "{}", agent.log());
        site.well().filter(|s| s["images"] == images && s["config"]["on_trial"] == false)
    })
}

/// What came of a blob, its head included; nothing of it is kept.
fn pull(address: SocketAddr, path: &str) -> u64 {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").expect("a request");
    std::io::copy(&mut stream, &mut std::io::sink()).expect("an answer")
}
