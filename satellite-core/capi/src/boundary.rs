//! What crosses the boundary: pointers to values, results to codes, panics to a code.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    ffi::{c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
};

use satellite_core::store::{Error, Store};

use crate::handles;

/// Longest string taken, in bytes.
const MAX_TEXT: usize = 4096;

/// A code of the header and its text.
pub(crate) struct Failure(pub(crate) c_int, pub(crate) String);

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

pub(crate) const ARGUMENT: c_int = 1;
pub(crate) const HANDLE: c_int = 2;
pub(crate) const NOT_FOUND: c_int = 3;
pub(crate) const LOCKED: c_int = 4;
pub(crate) const NO_SPACE: c_int = 5;
pub(crate) const CONTENT: c_int = 6;
pub(crate) const STORE: c_int = 7;
pub(crate) const TOO_SMALL: c_int = 8;
pub(crate) const PANIC: c_int = 9;

thread_local!(static LAST: RefCell<String> = const { RefCell::new(String::new()) });

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Locked { .. } => LOCKED,
            Error::BlobUnknown(_) | Error::ManifestUnknown(..) => NOT_FOUND,
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::Manifest(_) => CONTENT,
            Error::Incomplete { .. } => CONTENT,
            e if e.is_no_space() => NO_SPACE,
            _ => STORE,
        };
        Self(code, error.to_string())
    }
}

pub(crate) fn bad(what: impl Into<String>) -> Failure {
    Failure(ARGUMENT, what.into())
}

/// Runs a call: its code is returned and its text kept for the thread. No panic leaves it where panics unwind.
pub(crate) fn run(call: impl FnOnce() -> Outcome) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Failure(PANIC, "a defect of the library: the call was given up".into())));
    let (code, text) = outcome.map_or_else(|f| (f.0, f.1), |()| (0, String::new()));
    LAST.with(|last| *last.borrow_mut() = text);
    code
}

pub(crate) fn last_error() -> String {
    LAST.with(|last| last.borrow().clone())
}

pub(crate) fn store(handle: u64) -> Outcome<Store> {
    handles::get(handle).ok_or_else(|| Failure(HANDLE, format!("handle {handle:#x} is not of an open store")))
}

pub(crate) fn text(what: &str, pointer: *const c_char) -> Outcome<String> {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    // SAFETY: not null, and the header asks for a string that ends with a zero; no more than the bound is read.
    let bytes = unsafe {
        let length = libc::strnlen(pointer, MAX_TEXT + 1);
        std::slice::from_raw_parts(pointer.cast::<u8>(), length)
    };
    if bytes.len() > MAX_TEXT {
        return Err(bad(format!("{what} is longer than {MAX_TEXT} bytes")));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| bad(format!("{what} is not UTF-8")))
}

pub(crate) fn bytes<'a>(what: &str, pointer: *const u8, length: usize) -> Outcome<&'a [u8]> {
    if pointer.is_null() || isize::try_from(length).is_err() {
        return Err(bad(format!("{what} is NULL or its length is not one")));
    }
    // SAFETY: not null, no longer than an object can be, and the header asks for that many readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Copies to the caller's memory; the room was checked.
pub(crate) fn give(pointer: *mut u8, from: &[u8]) {
    // SAFETY: callers have checked for null and room; the header asks for that many writable bytes.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), pointer, from.len()) }
}

pub(crate) fn give_text(what: &str, pointer: *mut c_char, room: usize, from: &str) -> Outcome {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    if room <= from.len() {
        return Err(Failure(TOO_SMALL, format!("{what} needs {} bytes", from.len() + 1)));
    }
    let mut whole = from.as_bytes().to_vec();
    whole.push(0);
    give(pointer.cast(), &whole);
    Ok(())
}

pub(crate) fn set<T>(what: &str, pointer: *mut T, value: T) -> Outcome {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    // SAFETY: not null, and the header asks for room for one value.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}
