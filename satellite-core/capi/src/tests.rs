#![allow(clippy::unwrap_used)]

use std::{
    ffi::CString,
    ptr::{null, null_mut},
};

use crate::{boundary::*, *};

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[test]
fn a_blob_goes_in_and_comes_out_by_range() {
    let dir = tempfile::tempdir().unwrap();
    let (path, repo, digest) = (c(dir.path().to_str().unwrap()), c("a/b"), c(HELLO));
    let (mut store, mut read, mut buffer) = (0, 0, [0u8; 8]);
    assert_eq!(satellite_store_open(path.as_ptr(), &raw mut store), 0);
    let put =
        |data: &[u8]| satellite_blob_put(store, repo.as_ptr(), digest.as_ptr(), data.as_ptr(), data.len());
    assert_eq!(put(b"hallo"), CONTENT);
    assert!(last_error().contains("nothing was stored"), "{}", last_error());
    assert_eq!(put(b"hello"), 0, "{}", last_error());
    let mut at = |offset, room| {
        let code =
            satellite_blob_read(store, digest.as_ptr(), offset, buffer.as_mut_ptr(), room, &raw mut read);
        assert_eq!(code, 0);
        buffer[..read].to_vec()
    };
    assert_eq!(at(1, 3), b"ell");
    assert_eq!(at(3, 8), b"lo");
    assert_eq!(at(u64::MAX, 8), b"");
    assert_eq!(satellite_store_close(store), 0);
    assert_eq!(satellite_store_close(store), HANDLE);
    let old = store;
    assert_eq!(satellite_store_open(path.as_ptr(), &raw mut store), 0, "{}", last_error());
    assert_ne!(old, store);
    assert_eq!(satellite_store_gc(old, 0, null_mut()), HANDLE);
    assert_eq!(satellite_store_close(store), 0);
}

#[test]
fn what_is_no_argument_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, repo, digest) = (c(dir.path().to_str().unwrap()), c("a/b"), c(HELLO));
    let mut store = 0;
    assert_eq!(satellite_store_open(null(), &raw mut store), ARGUMENT);
    assert_eq!(satellite_store_open(path.as_ptr(), null_mut()), ARGUMENT);
    assert_eq!(satellite_store_open(c"\xff".as_ptr(), &raw mut store), ARGUMENT);
    assert_eq!(satellite_store_open(c(&"a".repeat(9000)).as_ptr(), &raw mut store), ARGUMENT);
    assert_eq!(satellite_store_open(path.as_ptr(), &raw mut store), 0);
    let put = |data, length| satellite_blob_put(store, repo.as_ptr(), digest.as_ptr(), data, length);
    assert_eq!(put(null(), 1), ARGUMENT);
    assert_eq!(put(b"x".as_ptr(), usize::MAX), ARGUMENT);
    let (mut byte, mut got) = ([0; 1], 0);
    let mut read =
        |digest: &CString| satellite_blob_read(store, digest.as_ptr(), 0, byte.as_mut_ptr(), 1, &raw mut got);
    assert_eq!(read(&digest), NOT_FOUND);
    assert_eq!(read(&c("sha256:no")), ARGUMENT);
    assert_eq!(satellite_store_close(0), HANDLE);
    assert_eq!(satellite_store_close(u64::MAX), HANDLE);
    assert_eq!(satellite_store_close(store), 0);
}

#[test]
fn a_panic_becomes_a_code() {
    assert_eq!(run(|| std::panic::resume_unwind(Box::new(()))), PANIC);
}
