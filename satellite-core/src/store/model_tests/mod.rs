#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
//! Garbage collection against everything else, checked by a model.
//!
//! A small universe (three repositories, twenty blobs, images, indexes, things about them) is pushed, mounted, moved,
//! deleted and collected at random. In one thread the model knows exactly what must be left. In several, nobody may lose
//! what the rules of the store promise them, and at the end exactly what is reachable is left.
//!
//! `SATELLITE_MODEL_STEPS` says how many steps, `SATELLITE_MODEL_SEED` which; a failure prints both.

mod together;
mod universe;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::json;

use super::*;
use crate::oci::{Algorithm, Manifest, Reference, Tag, media_type};

const HOUR: Duration = Duration::from_secs(3600);
const HOSTS: [&str; 2] = ["one.test", "two.test:5000"];
const TAGS: usize = 3;

/// Numbers that a seed makes again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Says how to get the same failure again.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) steps: usize,
}

impl Run {
    pub(super) fn new(default_steps: usize) -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|t| t.parse::<u64>().expect(name));
        Self {
            seed: number("SATELLITE_MODEL_SEED").unwrap_or_else(files::random_u64),
            steps: number("SATELLITE_MODEL_STEPS").map_or(default_steps, |n| n as usize),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: SATELLITE_MODEL_SEED={} SATELLITE_MODEL_STEPS={}", self.seed, self.steps);
        }
    }
}
