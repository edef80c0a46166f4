//! The library for programs in C: built, installed, found by pkg-config, compiled against with every warning an error, and
//! run. `library` does the first four.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod images;
mod library;
mod misuse;
