#![allow(clippy::unwrap_used, unsafe_code)]

mod header;
mod misuse;
mod store;

use std::ffi::CString;

use crate::{boundary::last_error, *};

/// The digest of "hello".
const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A new store in a folder of its own.
fn open() -> (tempfile::TempDir, StoreHandle) {
    let dir = tempfile::tempdir().unwrap();
    let path = c(dir.path().to_str().unwrap());
    let mut store = 0;
    assert_eq!(
        satellite_store_open(path.as_ptr(), std::ptr::null(), &raw mut store),
        SATELLITE_OK,
        "{}",
        last_error()
    );
    (dir, store)
}
