//! What crosses the boundary. The only place with unsafe code, but for the names of the exported functions.

mod memory;
mod signals;

use std::{
    cell::RefCell,
    ffi::c_int,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, scope},
};

pub(crate) use memory::{
    array, bytes, descriptor, give_text, give_what_fits, optional, parsed, prefixed, room, set, text,
};

use crate::{
    codes::{Failure, Outcome, SATELLITE_OK, SATELLITE_PANIC, SATELLITE_REENTRANT, system},
    logging,
};

/// Stack of the library's threads: what Rust's own have.
pub(crate) const STACK: usize = 2 << 20;

thread_local!(static LAST: RefCell<String> = const { RefCell::new(String::new()) });

fn defect() -> Failure {
    Failure(SATELLITE_PANIC, "a defect of the library: the call was given up; the log says where".into())
}

/// Runs a call: its code is returned and its text kept for the thread. No panic leaves it where panics unwind.
pub(crate) fn run(call: impl FnOnce() -> Outcome) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        logging::begin();
        if logging::is_calling() {
            let text =
                "the log call-back may call satellite_last_error and what tells versions, nothing else";
            return Err(Failure(SATELLITE_REENTRANT, text.into()));
        }
        call()
    }));
    let (code, text) = match outcome {
        Ok(Ok(())) => (SATELLITE_OK, String::new()),
        Ok(Err(Failure(code, text))) => (code, text),
        Err(_) => (SATELLITE_PANIC, defect().1),
    };
    // A thread that is ending may have lost it already.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
    code
}

pub(crate) fn last_error() -> String {
    LAST.try_with(|last| last.borrow().clone()).unwrap_or_default()
}

/// Does `work` on a thread of the library while this one does `meanwhile`, and waits for both.
///
/// For all that writes or takes long: the thread has a stack of known size (musl's own threads have 128 KiB), and it and
/// all threads that it starts take no signals, so that the program's handlers run on the program's threads, and a peer
/// that has gone kills nobody by SIGPIPE.
pub(crate) fn aside_while<T: Send>(
    work: impl FnOnce() -> Outcome<T> + Send,
    meanwhile: impl FnOnce(),
) -> Outcome<T> {
    scope(|threads| {
        let held = signals::Held::all();
        let thread = Builder::new().name("satellite".into()).stack_size(STACK).spawn_scoped(threads, work);
        drop(held);
        let thread = thread.map_err(|e| system("there is no thread for the call", e))?;
        meanwhile();
        thread.join().unwrap_or_else(|_| Err(defect()))
    })
}

/// As [`aside_while`], with nothing to do here.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    aside_while(work, || ())
}
