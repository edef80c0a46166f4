//! satellite-core for programs in C: a store, replication into it, a registry over it. `include/satellite.h` is the manual;
//! cbindgen makes it of the public items here, whose comments therefore speak to programmers of C.
//!
//! | file | does |
//! |---|---|
//! | `boundary` | pointers to values, results to codes, panics to a code, signals: all that is unsafe |
//! | `codes` | what went wrong, as numbers |
//! | `handles` | the table of what is open |
//! | `version`, `logging` | what the library is, and what it says |
//! | `store`, `blobs`, `images` | the store |
//! | `replicate`, `cancel` | feature `replicate` |
//! | `serve` | feature `serve` |
//!
//! Objects are named by numbers that carry a generation, not by pointers: one that was closed, or never given, is
//! refused. The table of them, the last error of each thread and the listener to the log are the only state. There is
//! no `rlib`: the functions trust pointers as C does, and Rust uses satellite-core itself.

mod blobs;
mod boundary;
#[cfg(feature = "replicate")]
mod cancel;
mod codes;
mod handles;
mod images;
mod logging;
#[cfg(feature = "replicate")]
mod replicate;
#[cfg(feature = "serve")]
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod version;

pub use blobs::*;
#[cfg(feature = "replicate")]
pub use cancel::*;
pub use codes::*;
pub use handles::*;
pub use images::*;
pub use logging::*;
#[cfg(feature = "replicate")]
pub use replicate::*;
#[cfg(feature = "serve")]
pub use serve::*;
pub use store::*;
pub use version::*;
