//! What is wrong is refused, and nothing else happens.

use std::{
    ffi::{c_char, c_int, c_void},
    mem::MaybeUninit,
    ptr::{null, null_mut},
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
};

use super::*;
use crate::{
    boundary::{aside, run},
    codes::{Outcome, bad},
};

#[test]
fn a_handle_is_good_once_and_for_its_kind() {
    let (dir, store) = open();
    let path = c(dir.path().to_str().unwrap());
    for none in [0, 1, u64::MAX, store + (1 << 32), store ^ 0x8000_0000] {
        assert_eq!(satellite_store_close(none), SATELLITE_HANDLE, "{none:#x}");
        assert_eq!(satellite_store_gc(none, 0, null_mut()), SATELLITE_HANDLE, "{none:#x}");
    }
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
    assert_eq!(satellite_store_close(store), SATELLITE_HANDLE);
    let mut again = 0;
    assert_eq!(satellite_store_open(path.as_ptr(), null(), &raw mut again), SATELLITE_OK, "{}", last_error());
    assert_ne!(again, store);
    assert_eq!(satellite_store_gc(store, 0, null_mut()), SATELLITE_HANDLE);
    #[cfg(feature = "replicate")]
    {
        assert_eq!(satellite_cancel_raise(again), SATELLITE_HANDLE);
        let mut cancel = 0;
        assert_eq!(satellite_cancel_new(&raw mut cancel), SATELLITE_OK);
        assert_eq!(satellite_store_close(cancel), SATELLITE_HANDLE);
        assert_eq!(satellite_cancel_raise(cancel), SATELLITE_OK);
        assert_eq!(satellite_cancel_raise(cancel), SATELLITE_OK);
        assert_eq!(satellite_cancel_free(cancel), SATELLITE_OK);
        assert_eq!(satellite_cancel_free(cancel), SATELLITE_HANDLE);
    }
    #[cfg(feature = "serve")]
    assert_eq!(satellite_server_stop(again), SATELLITE_HANDLE);
    assert_eq!(satellite_store_close(again), SATELLITE_OK, "what was refused did not close it");
}

#[test]
fn what_is_no_argument_is_refused() {
    let (dir, store) = open();
    let path = c(dir.path().to_str().unwrap());
    let (mut opened, mut read, mut size, mut byte) = (0, 0, 0, 0);
    let refused = |code, words: &str| {
        assert_eq!(code, SATELLITE_ARGUMENT, "{words}");
        assert!(last_error().contains(words), "{}", last_error());
    };
    refused(satellite_store_open(null(), null(), &raw mut opened), "dir is NULL");
    refused(satellite_store_open(c"".as_ptr(), null(), &raw mut opened), "dir is empty");
    refused(satellite_store_open(path.as_ptr(), null(), null_mut()), "store is NULL");
    refused(satellite_store_open(c"\xff".as_ptr(), null(), &raw mut opened), "UTF-8");
    let long = c(&"a".repeat(20_000));
    refused(satellite_store_open(long.as_ptr(), null(), &raw mut opened), "longer");
    let digest = c(HELLO);
    let put = |data, length| satellite_blob_put(store, c"a/b".as_ptr(), digest.as_ptr(), data, length);
    refused(put(null(), 1), "data is NULL");
    refused(put(b"x".as_ptr(), usize::MAX), "no data has");
    assert_eq!(put(null(), 0), SATELLITE_CONTENT);
    let name = |repository: *const c_char| {
        satellite_blob_put(store, repository, digest.as_ptr(), &raw const byte, 1)
    };
    refused(name(c"A B".as_ptr()), "is not a repository name");
    refused(name(null()), "repository is NULL");
    refused(satellite_blob_size(store, c"sha256:no".as_ptr(), &raw mut size), "digest: ");
    refused(satellite_blob_size(store, digest.as_ptr(), null_mut()), "size is NULL");
    assert_eq!(satellite_blob_put(store, c"a/b".as_ptr(), digest.as_ptr(), c"hello".as_ptr().cast(), 5), 0);
    let at = |buffer, room, read| satellite_blob_read(store, digest.as_ptr(), 0, buffer, room, read);
    refused(at(null_mut(), 1, &raw mut read), "buffer is NULL");
    refused(at(&raw mut byte, 1, null_mut()), "read is NULL");
    refused(satellite_manifest_resolve(store, c"a/b".as_ptr(), null(), null_mut()), "reference is NULL");
    let image = |data: &str, tag: *const c_char| {
        satellite_manifest_put(store, c"a/b".as_ptr(), digest.as_ptr(), tag, data.as_ptr(), data.len())
    };
    refused(image("{}", c"a b".as_ptr()), "tag: ");
    assert_eq!(image("no JSON", c"v1".as_ptr()), SATELLITE_CONTENT);
    refused(satellite_image_list(store, None, null_mut()), "callback is NULL");
    refused(satellite_digest(&raw const byte, 1, null_mut(), 200), "digest is NULL");
    let mut text = [0; 71];
    assert_eq!(satellite_digest(null(), 0, text.as_mut_ptr(), text.len()), SATELLITE_TOO_SMALL);
    assert!(last_error().contains("72 bytes"), "{}", last_error());
    refused(satellite_log(Some(never), null_mut(), 6), "level 6");
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

extern "C" fn never(_: *mut c_void, _: c_int, _: *const c_char, _: *const c_char) {
    panic!("it was not set");
}

#[test]
fn a_structure_of_a_later_version_is_taken_if_it_asks_for_nothing_new() {
    #[repr(C)]
    struct Later(StoreOptions, [u64; 2]);
    let dir = tempfile::tempdir().unwrap();
    let path = c(dir.path().to_str().unwrap());
    // SAFETY: numbers.
    let mut later: Later = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut store = 0;
    let mut open =
        |later: &Later| satellite_store_open(path.as_ptr(), (&raw const *later).cast(), &raw mut store);
    assert_eq!(open(&later), SATELLITE_ARGUMENT);
    assert!(last_error().contains("set it by sizeof"), "{}", last_error());
    later.0.size = size_of::<Later>();
    later.1[1] = 1;
    assert_eq!(open(&later), SATELLITE_ARGUMENT);
    assert!(last_error().contains("does not know"), "{}", last_error());
    later.1[1] = 0;
    assert_eq!(open(&later), SATELLITE_OK);
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

#[test]
fn a_panic_becomes_a_code_wherever_it_is() {
    assert_eq!(run(|| std::panic::resume_unwind(Box::new(()))), SATELLITE_PANIC);
    let inside = || aside(|| -> Outcome { std::panic::resume_unwind(Box::new(())) });
    assert_eq!(run(inside), SATELLITE_PANIC);
    assert!(last_error().contains("a defect"));
    assert_eq!(run(|| Ok(())), SATELLITE_OK);
}

#[test]
fn the_text_of_an_error_is_the_threads_own_and_is_cut_between_characters() {
    assert_eq!(run(|| Err(bad("häuser"))), SATELLITE_ARGUMENT);
    std::thread::spawn(|| assert_eq!(satellite_last_error(null_mut(), 9), 0)).join().unwrap();
    let mut text = [b'x'.cast_signed(); 4];
    assert_eq!(satellite_last_error(text.as_mut_ptr(), 3), 7);
    assert_eq!(text, [b'h', 0, b'x', b'x'].map(u8::cast_signed));
    assert_eq!(satellite_last_error(text.as_mut_ptr(), 4), 7);
    assert_eq!(satellite_last_error(text.as_mut_ptr(), 0), 7);
}

#[test]
fn threads_of_the_library_take_no_signals_and_the_callers_mask_stays() {
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }
    let before = blocked();
    let inside = aside(|| Ok(blocked())).map_err(|e| e.1).unwrap();
    assert_eq!(blocked(), before);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGPIPE, libc::SIGCHLD] {
        assert_ne!(inside & 1 << (signal - 1), 0, "signal {signal}");
    }
}

static LINES: AtomicU32 = AtomicU32::new(0);
static INSIDE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn line(context: *mut c_void, level: c_int, target: *const c_char, message: *const c_char) {
    assert!(!target.is_null() && !message.is_null());
    assert_eq!((context.addr(), level), (7, SATELLITE_LOG_WARN));
    INSIDE.store(satellite_log(None, null_mut(), 0), Ordering::SeqCst);
    log::warn!("from within: not told again");
    LINES.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn the_log_goes_to_the_call_back_until_it_is_taken_away() {
    let context = std::ptr::without_provenance_mut(7);
    assert_eq!(satellite_log(Some(line), context, SATELLITE_LOG_WARN), SATELLITE_OK);
    log::info!(target: "t", "not asked for");
    log::warn!(target: "t", "with a \0 inside");
    assert_eq!(satellite_log(None, null_mut(), 0), SATELLITE_OK);
    log::warn!(target: "t", "nobody listens");
    assert_eq!(INSIDE.load(Ordering::SeqCst), SATELLITE_REENTRANT);
    assert!(LINES.load(Ordering::SeqCst) >= 1);
}
