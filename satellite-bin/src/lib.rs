//! The satellite agent. The program `satellite` is [`main`]; the rest is a library so that its parts can be tested against
//! real peers.
//!
//! | folder | does |
//! |---|---|
//! | [`agent`] | runs unattended: who it is, what it shall hold, when, and what it reports |
//! | `cli` | the command line, a file per command |
//! | `control` | commands to a process that has the store |
//! | [`runtimes`] | points container runtimes at the satellite, and takes it back |

use std::process::ExitCode;

use clap::Parser;

pub mod agent;
mod cli;
mod control;
mod exit;
mod human;
mod ops;
mod output;
mod progress;
mod references;
mod registries;
pub mod runtimes;
mod signals;

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    satellite_core::memory::give_back(512 << 10);
    let args = cli::Args::parse();
    logger(&args);
    match cli::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.show(),
    }
}

/// Log lines go to standard error: warnings, or what `RUST_LOG` or `-v` ask for.
fn logger(args: &cli::Args) {
    let level = match args.verbose {
        0 if args.is_server() => "info",
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let access = if args.wants_access_log() { "info" } else { "warn" };
    // sled's own debug lines are about its insides.
    let default = format!("{level},access={access},sled=warn,polling=warn,async_io=warn");
    let env = env_logger::Env::default().filter_or("RUST_LOG", default);
    env_logger::Builder::from_env(env).format_target(args.verbose > 1).init();
}
