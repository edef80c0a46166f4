//! `ground-control`: the fleet server.

use std::process::ExitCode;

use clap::Parser;
use ground_control::cli::{self, Args};

fn main() -> ExitCode {
    satellite_core::memory::give_back(128 << 10);
    let args = Args::parse();
    cli::logger(&args);
    cli::run(args)
}
