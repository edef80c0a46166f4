//! Signals stay with the program's threads.
#![allow(unsafe_code)]

use std::{mem::MaybeUninit, ptr::null_mut};

/// Until it is dropped the thread takes no signals; a thread that is started meanwhile never does.
pub(super) struct Held(libc::sigset_t);

impl Held {
    pub(super) fn all() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both sets are ours and big enough; these calls change the mask of this thread alone, and cannot fail
        // with a valid first argument. A set of zeros is one too, so both are initialised in any case.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is the one that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut()) };
    }
}
