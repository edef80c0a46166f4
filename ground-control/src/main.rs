//! `ground-control`: the fleet server.

mod memory;

use std::process::ExitCode;

use clap::Parser;
use ground_control::cli::{self, Args};

fn main() -> ExitCode {
    memory::give_back();
    let args = Args::parse();
    cli::logger(&args);
    cli::run(args)
}
