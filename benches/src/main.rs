//! Measures `satellite` and its peers side by side in one run: CPU of the process per GiB, memory, bytes written.
//!
//! Times are of the machine and its neighbours; read the ratios.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod agent;
mod charts;
mod fleet;
mod load;
mod many;
mod measure;
mod peers;
mod results;

use std::path::PathBuf;

use clap::Parser;
use satellite_tests::dir::Dir;

/// Clients at once.
const CLIENTS: [u64; 3] = [1, 8, 64];
/// Kept-alive connections that ask for a manifest again and again.
const CONNECTIONS: [u32; 2] = [8, 64];

use load::{pull, push, replicate};
use measure::Spent;
use peers::{Content, Other, Peer};
use results::Results;

/// Measures satellite side by side with nginx and docker-registry.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Small sizes and one repetition: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Repetitions; the median counts
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Measure this registry too, which runs and lets anybody push: NAME=http://ADDR:PORT[,PID]
    #[arg(long, value_name = "NAME=URL")]
    peer: Vec<Other>,
    /// Write all samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the results as SVG into this directory
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Receives URL-PATH from ADDR:PORT into a file, and syncs it: what a child of this program does, to be measured
    #[arg(long, hide = true, num_args = 3)]
    receive: Option<Vec<String>>,
}

/// Other measurements.
#[derive(clap::Subcommand)]
enum Command {
    /// Ground Control with a simulated fleet on PostgreSQL
    Fleet(fleet::Args),
    /// The agent at rest and at work
    Agent(agent::Args),
    /// Draws a run as SVG
    Charts {
        /// JSON of benches/run or of benches/link
        from: PathBuf,
        /// Directory for the pictures
        into: PathBuf,
    },
}

fn main() {
    let args = Args::parse();
    if let Some(Command::Fleet(args)) = &args.command {
        raise_descriptor_limit();
        return fleet::run(args);
    }
    if let Some(Command::Agent(args)) = &args.command {
        return agent::run(args);
    }
    if let Some(Command::Charts { from, into }) = &args.command {
        return charts::draw(from, into).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }
    if let Some([address, path, file]) = args.receive.as_deref() {
        return load::receive(address, path, file);
    }
    let (size, repeat) = if args.quick { (64 << 20, 1) } else { (1 << 30, args.repeat) };
    let dir = Dir::new();
    let mut results = Results::new(size);
    let content = Content::make(&dir.join("content"), size);
    results.add("hash", "openssl", measure::openssl(&content.path));
    for _ in 0..repeat {
        for peer in Peer::start_all(&dir, &content, &args.peer) {
            for clients in CLIENTS {
                // The same bytes in all: what a client gets shrinks as their number grows.
                let spent = Spent::of(peer.pid(), || pull(&peer, &content, clients));
                results.add(&format!("pull, {clients} clients"), peer.name(), spent);
            }
            for connections in CONNECTIONS {
                if let Some(rate) = load::manifests(&peer, connections, if args.quick { 1 } else { 4 }) {
                    results.rate(&format!("manifests/s, {connections} connections"), peer.name(), rate);
                }
            }
        }
        for peer in Peer::start_tls(&dir, &content) {
            for clients in CLIENTS {
                let spent = Spent::of(peer.pid(), || load::pull_tls(&peer, &content, clients));
                results.add(&format!("pull by TLS, {clients} clients"), peer.name(), spent);
            }
        }
        for peer in Peer::start_registries(&dir, &args.peer) {
            results.add("push", peer.name(), Spent::of(peer.pid(), || push(&peer, &content)));
        }
        results.add("hash", "openssl", measure::openssl(&content.path));
        for (name, spent) in replicate(&dir, &content) {
            results.add("replicate", name, spent);
        }
    }
    let peer = &Peer::start_all(&dir, &content, &[])[0];
    let spent = Spent::of(peer.pid(), || load::pull_whole(peer, &content, 64));
    results.add("pull of the whole, 64 clients", peer.name(), spent);
    raise_descriptor_limit();
    let (held, peak) = load::idle_connections(peer, 10_000);
    results.rate("KiB with 10,000 connections", peer.name(), peak as f64);
    results.rate("descriptors with 10,000 connections", peer.name(), held as f64);
    results.add("replicate 8 at once", "satellite", load::replicate_eight(&dir, size));
    for many in if args.quick { &[1000][..] } else { &[10_000, 100_000] } {
        let idle = many::measure(&dir, *many);
        results.many(*many, &idle);
    }
    print!("{}", results.table());
    let json = results.json();
    if let Some(path) = args.json {
        std::fs::write(&path, format!("{json:#}\n")).expect("the results' file");
    }
    if let Some(dir) = args.charts {
        charts::draw_run(&json, &dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    }
}

/// Ten thousand connections need as many descriptors, here and in the server, which sees to it by itself.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
