//! The satellite agent. The program `satellite` is [`main`]; the rest is a library so that its parts can be tested against
//! real peers.
//!
//! | folder | does |
//! |---|---|
//! | [`agent`] | runs unattended: who it is, what it shall hold, when, and what it reports |
//! | `cli` | the command line, a file per command |
//! | `control` | commands to a process that has the store |
//! | `serving` | the store, served, for `serve` and `run` alike |
//! | [`runtimes`] | points container runtimes at the satellite, and takes it back |

use std::process::ExitCode;

use clap::Parser;

pub mod agent;
mod cli;
mod control;
mod exit;
mod human;
mod logging;
mod ops;
mod output;
mod progress;
mod references;
mod registries;
pub mod runtimes;
mod serving;
mod signals;

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    satellite_core::memory::give_back(512 << 10);
    let args = cli::Args::parse();
    logging::init(args.log_level(), args.wants_access_log(), args.verbose > 1);
    match cli::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.show(),
    }
}
