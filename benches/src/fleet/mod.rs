//! A fleet of simulated satellites over real HTTP against Ground Control on PostgreSQL, all on this machine.
//!
//! The satellites are one program with a connection each; what they cost is not the server's. PostgreSQL syncs
//! its files here as it does in earnest.

mod crowd;
mod lists;
mod results;
mod work;

use std::path::PathBuf;

use clap::Parser;
use satellite_tests::{dir::Dir, ground_control::Setup, postgres::Cluster};

use results::Results;

/// Measures Ground Control with a simulated fleet on PostgreSQL.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// A small fleet and short times: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Satellites
    #[arg(long, value_name = "N")]
    satellites: Option<usize>,
    /// Write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How large and how long.
pub(crate) struct Size {
    /// Satellites that are registered and sync.
    pub(crate) satellites: usize,
    /// Seconds between two syncs of one satellite.
    pub(crate) interval: u64,
    /// Seconds of the steady load.
    pub(crate) steady: u64,
    /// Seconds of the closed loop.
    pub(crate) top: u64,
    /// Rows for the lists.
    pub(crate) rows: usize,
}

pub(crate) fn run(args: &Args) {
    let mut size = if args.quick {
        Size { satellites: 200, interval: 5, steady: 5, top: 2, rows: 2_000 }
    } else {
        Size { satellites: 10_000, interval: 30, steady: 60, top: 10, rows: 100_000 }
    };
    size.satellites = args.satellites.unwrap_or(size.satellites);
    let Some(cluster) = Cluster::durable() else { return };
    let dir = Dir::new();
    let mut results = Results::new(&size);
    let database = cluster.database();
    // The closed loops let each satellite sync far more often than it may in earnest; the count is kept all the same.
    let setup = |name: &str| {
        Setup::new(dir.join(name)).database(&database).env("SATELLITE_REQUESTS_PER_MINUTE", "1000000")
    };
    let mut server = setup("data").start();
    let fleet = work::register(&server, &size, &mut results);
    work::steady(&server, &fleet, &size, &mut results);
    work::herd(&mut server, &fleet, &mut results);
    work::top(&server, &fleet, &size, &mut results);
    let second = setup("second").start();
    work::replicas([&server, &second], &fleet, &size, &mut results);
    drop(second);
    lists::measure(&server, &database, &size, &mut results);
    print!("{}", results.table());
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", results.json())).expect("the results' file");
    }
}
