//! `ground-control`: the fleet server.

use std::process::ExitCode;

use clap::Parser;
use ground_control::cli::{self, Args};

fn main() -> ExitCode {
    let args = Args::parse();
    cli::logger(&args);
    cli::run(args)
}
