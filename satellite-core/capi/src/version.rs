//! What the library is, and the text of what went wrong.
// The prefix of the exported names is ours: no other library has them. So in the other files.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

use satellite_core::oci::Digest;

use crate::boundary::{bytes, give_text, give_what_fits, last_error, run};

/// Rises when something changes that a compiled program would notice. It is in the shared object's name.
pub const SATELLITE_ABI_VERSION: u32 = 1;
/// Room that any digest takes with its zero.
pub const SATELLITE_DIGEST_ROOM: usize = 136;
/// Room that any media type takes with its zero.
pub const SATELLITE_MEDIA_TYPE_ROOM: usize = 256;
/// In satellite_features: satellite_serve and what belongs to it.
pub const SATELLITE_HAS_SERVE: u32 = 1;
/// In satellite_features: satellite_replicate and what belongs to it.
pub const SATELLITE_HAS_REPLICATE: u32 = 2;

/// The library's ABI version: what was compiled against another SATELLITE_ABI_VERSION must not go on.
///
/// Threads: any. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_abi_version() -> u32 {
    SATELLITE_ABI_VERSION
}

/// The library's version, e.g. "0.1.0"; never freed.
///
/// Threads: any. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_version() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    TEXT.as_ptr().cast()
}

/// What was built in: SATELLITE_HAS_…, or-ed. Functions that are not there are missing when a program is linked.
///
/// Threads: any. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_features() -> u32 {
    let has = |here, bit| if here { bit } else { 0 };
    has(cfg!(feature = "serve"), SATELLITE_HAS_SERVE)
        | has(cfg!(feature = "replicate"), SATELLITE_HAS_REPLICATE)
}

/// The text of this thread's last call that returns a code, empty if that succeeded: cut to `room` with its zero.
/// Returns its whole length without the zero. `buffer` may be NULL.
///
/// Threads: any; each has its own text. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_last_error(buffer: *mut c_char, room: usize) -> usize {
    let message = last_error();
    give_what_fits(buffer, room, &message);
    message.len()
}

/// The SHA-256 digest of `length` bytes as "sha256:…", into `digest`, which has SATELLITE_DIGEST_ROOM bytes or
/// whatever `room` says.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_digest(
    data: *const u8,
    length: usize,
    digest: *mut c_char,
    room: usize,
) -> c_int {
    run(|| give_text("digest", digest, room, Digest::sha256(bytes("data", data, length)?).as_str()))
}
