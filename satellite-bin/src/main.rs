//! `satellite`: replicates images to the edge and serves them as an OCI registry.

use std::process::ExitCode;

fn main() -> ExitCode {
    satellite_bin::main()
}
