//! `ground-control`: the fleet server.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
