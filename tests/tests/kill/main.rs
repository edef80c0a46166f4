//! `kill -9` at random instants of replication, push and garbage collection. After each: the store opens without
//! repair, all that was acknowledged is there, and every byte that is served is right.
//!
//! `power` does the same to gateways under emulation, whose power is cut.
//!
//! `SATELLITE_KILLS=N` kills about that often in all (240 by default), `SATELLITE_SEED=N` repeats a run's choices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod collection;
mod ledger;
mod power;
mod push;
mod replication;

use satellite_tests::satellite::{Server, Store};
use std::time::{Duration, Instant};

/// How often each of the three storms kills.
fn kills() -> usize {
    let all = std::env::var("SATELLITE_KILLS").ok().and_then(|value| value.parse().ok()).unwrap_or(240);
    usize::div_ceil(all, 3)
}

/// The choices of a storm. The seed is printed, and shown when the storm fails.
fn choices(storm: &str) -> fastrand::Rng {
    let seed = std::env::var("SATELLITE_SEED").ok().and_then(|value| value.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{storm}: SATELLITE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A random time up to `most`.
fn some(most: Duration, rng: &mut fastrand::Rng) -> Duration {
    most.mul_f64(rng.f64())
}

/// Starts a server on what a kill left behind, and panics if it had to repair anything.
fn restart(store: &Store, slowest: &mut Duration) -> Server {
    let begin = Instant::now();
    let mut server = store.serve();
    *slowest = begin.elapsed().max(*slowest);
    undamaged(&server.daemon().log());
    server
}

/// Panics if the log of a start tells of damage.
fn undamaged(log: &str) {
    let log = log.to_lowercase();
    for word in ["rebuil", "set aside", "repair", "corrupt", "damaged", "no index", "panicked"] {
        assert!(!log.contains(word), "{word:?} in the log of a start after a kill:\n{log}");
    }
}
