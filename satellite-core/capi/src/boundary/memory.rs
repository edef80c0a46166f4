//! Pointers of the caller.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int},
    fmt::Display,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    str::FromStr,
};

use crate::codes::{Failure, Outcome, SATELLITE_TOO_SMALL, bad};

/// Longest string taken, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// Largest structure of a later version that is looked at.
const MAX_STRUCT: usize = 4096;

/// A string.
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

/// A string, or `None` for NULL.
pub(crate) fn optional(what: &str, pointer: *const c_char) -> Outcome<Option<String>> {
    if pointer.is_null() { Ok(None) } else { text(what, pointer).map(Some) }
}

/// A string that says something.
pub(crate) fn parsed<T: FromStr<Err: Display>>(what: &str, pointer: *const c_char) -> Outcome<T> {
    text(what, pointer)?.parse().map_err(|e: T::Err| bad(format!("{what}: {e}")))
}

/// Bytes to read.
pub(crate) fn bytes<'a>(what: &str, pointer: *const u8, length: usize) -> Outcome<&'a [u8]> {
    if isize::try_from(length).is_err() {
        return Err(bad(format!("no {what} has {length} bytes")));
    }
    if pointer.is_null() {
        return if length == 0 { Ok(&[]) } else { Err(bad(format!("{what} is NULL"))) };
    }
    // SAFETY: not null, no longer than an object can be, and the header asks for that many readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Room to write at most `most` bytes to; it may hold nothing yet.
pub(crate) fn room<'a>(
    what: &str,
    pointer: *mut u8,
    length: usize,
    most: u64,
) -> Outcome<&'a mut [MaybeUninit<u8>]> {
    if pointer.is_null() {
        return if length == 0 { Ok(&mut []) } else { Err(bad(format!("{what} is NULL"))) };
    }
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(length).min(isize::MAX.unsigned_abs());
    // SAFETY: not null, no longer than an object can be, and the header asks for that many writable bytes. They need
    // not be initialised, and nobody else uses them during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), length) })
}

/// Writes a result.
pub(crate) fn set<T>(what: &str, pointer: *mut T, value: T) -> Outcome {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    // SAFETY: not null, and the header asks for room for one value.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Writes a string with its zero, or says how much room that takes.
pub(crate) fn give_text(what: &str, pointer: *mut c_char, room: usize, from: &str) -> Outcome {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    if room <= from.len() {
        return Err(Failure(SATELLITE_TOO_SMALL, format!("{what} needs {} bytes", from.len() + 1)));
    }
    give_what_fits(pointer, room, from);
    Ok(())
}

/// Writes a string with its zero, cut between two characters where it does not fit.
pub(crate) fn give_what_fits(pointer: *mut c_char, room: usize, from: &str) {
    if pointer.is_null() || room == 0 {
        return;
    }
    let end = from.floor_char_boundary(room - 1);
    // SAFETY: not null; `end` bytes and a zero fit into the room, all of which the header asks to be writable.
    unsafe {
        std::ptr::copy_nonoverlapping(from.as_ptr(), pointer.cast(), end);
        pointer.add(end).write(0);
    }
}

/// A string as a field of a structure.
pub(crate) fn array<const N: usize>(what: &str, from: &str) -> Outcome<[c_char; N]> {
    let mut field = [0; N];
    give_text(what, field.as_mut_ptr(), N, from)?;
    Ok(field)
}

/// A structure for which any bytes are a value, and whose first field is its size as the caller knows it.
///
/// # Safety
/// Numbers, pointers and optional functions only, `#[repr(C)]`, a `usize` first.
pub(crate) unsafe trait Prefixed: Copy {}

// SAFETY: as the trait asks; so for the others.
unsafe impl Prefixed for crate::store::StoreOptions {}
#[cfg(feature = "replicate")]
// SAFETY: see above.
unsafe impl Prefixed for crate::replicate::Source {}
#[cfg(feature = "serve")]
// SAFETY: see above.
unsafe impl Prefixed for crate::serve::Service {}

/// Reads such a structure. One of a later version is taken if it asks for nothing that is not known here.
pub(crate) fn prefixed<T: Prefixed>(what: &str, pointer: *const T) -> Outcome<T> {
    if pointer.is_null() {
        return Err(bad(format!("{what} is NULL")));
    }
    // SAFETY: not null, and the header asks for a structure that begins with its size.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let known = size_of::<T>();
    if size < known || size > MAX_STRUCT {
        return Err(bad(format!("the size in {what} is {size}, expected {known}: set it by sizeof")));
    }
    // SAFETY: the caller says that there are `size` bytes, which is `known` or more.
    let (value, rest) = unsafe {
        let rest = std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known);
        (pointer.read_unaligned(), rest)
    };
    if rest.iter().any(|b| *b != 0) {
        return Err(bad(format!("{what} has fields that this version of the library does not know")));
    }
    Ok(value)
}

/// A descriptor of our own for what the caller's names; theirs stays theirs.
pub(crate) fn descriptor(what: &str, number: c_int) -> Outcome<OwnedFd> {
    if number < 0 {
        return Err(bad(format!("{what} is {number}, which is no descriptor")));
    }
    // SAFETY: not -1, and used for one call, which says so if it is not open.
    let theirs = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_dupfd_cloexec(theirs, 3).map_err(|e| bad(format!("{what} {number}: {e}")))
}
