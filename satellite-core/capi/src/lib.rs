//! The store of satellite-core for programs in C. `include/satellite.h` is its manual.
//!
//! Stores are named by numbers that carry a generation, not by pointers: a number that was closed, or never given,
//! is refused. The table of them and the last error of each thread are the only state. Every function may be called
//! from any thread. There is no `rlib`: the functions trust pointers as C does, and Rust uses satellite-core itself.

mod boundary;
mod calls;
mod handles;
#[cfg(test)]
mod tests;

pub use calls::*;
