//! What the tests and the benchmarks share: real peers, made-up images, and links that fail on demand.
//!
//! Everything a helper starts belongs to a guard that ends it by process id, listens on 127.0.0.1 on a port of
//! its own, writes below a directory of its own, and waits with a bound. A helper that cannot do its work
//! panics: it is the test that fails then, with the log of whatever was running.
//!
//! | module | gives |
//! |---|---|
//! | [`process`] | daemons and commands under a guard, their output kept |
//! | [`wait`], [`ports`], [`dir`], [`disk`] | bounded polling, free ports, short temporary directories, small disks |
//! | [`clock`] | a clock that a test moves |
//! | [`satellite`] | the program under test: a server, and the other commands |
//! | [`agent`] | a machine with `satellite run`, and its Ground Control |
//! | [`ground_control`] | the fleet server under test, its users and its satellites |
//! | [`postgres`] | PostgreSQL clusters and databases of the tests' own |
//! | [`registry`], [`token`], [`certs`] | Debian's docker-registry, plain or with passwords, tokens, TLS |
//! | [`harbor`] | a Harbor stand-in that fails on demand |
//! | [`http`] | a small blocking client that can also misbehave |
//! | [`proxy`] | an upstream that drops, stalls, lies and counts |
//! | [`wire`] | a line that counts bytes and can be cut |
//! | [`image`], [`oci`] | images, indexes, signatures made in memory; digests |
//! | [`machine`] | gateway images under QEMU, whose power can be cut |
//! | [`runtimes`] | containerd and Podman, started by the project's scripts |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub mod agent;
pub mod certs;
pub mod clock;
pub mod dir;
pub mod disk;
pub mod ground_control;
pub mod harbor;
pub mod http;
pub mod image;
pub mod machine;
pub mod oci;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod runtimes;
pub mod satellite;
pub mod token;
pub mod wait;
pub mod wire;

/// Says loudly that a test shows nothing on this machine, and why: past the test harness, which hides what passes.
pub fn skip(what: &str, why: &str) {
    let line = format!("\n*** SKIPPED: {what}: {why} ***\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// True if `program` is found on the search path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
