//! What another thread ends a replication by.
#![allow(unsafe_code)]

use std::{convert::Infallible, ffi::c_int};

use smol::channel::{Receiver, Sender, bounded};

use crate::{
    boundary::{run, set},
    codes::{Failure, Outcome, SATELLITE_CANCELLED},
    handles::{self, CancelHandle, Object},
};

/// Raised once, for good. Nothing is ever sent: the channel is open until it is raised.
#[derive(Clone)]
pub(crate) struct Cancel(Sender<Infallible>, Receiver<Infallible>);

impl Default for Cancel {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        Self(sender, receiver)
    }
}

impl Cancel {
    pub(crate) fn raise(&self) {
        self.0.close();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.1.is_closed()
    }

    /// Ends when it is raised.
    pub(crate) async fn raised(&self) {
        let _: Result<Infallible, _> = self.1.recv().await;
    }

    /// The failure of what it ended.
    pub(crate) fn failure() -> Failure {
        let text = "cancelled; what has come of blobs is kept for the next time";
        Failure(SATELLITE_CANCELLED, text.into())
    }
}

pub(crate) fn get(handle: CancelHandle) -> Outcome<Cancel> {
    handles::get(
        "cancel",
        handle,
        |o| if let Object::Cancel(cancel) = o { Some(cancel.clone()) } else { None },
    )
}

/// Makes a cancel, for any number of replications.
///
/// Feature: replicate. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_cancel_new(cancel: *mut CancelHandle) -> c_int {
    run(|| {
        set("cancel", cancel, 0)?;
        set("cancel", cancel, handles::insert(Object::Cancel(Cancel::default()))?)
    })
}

/// Ends all replications that were given it, now and later, with SATELLITE_CANCELLED. It cannot be taken back.
///
/// Feature: replicate. Threads: any. Not for signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_cancel_raise(cancel: CancelHandle) -> c_int {
    run(|| {
        get(cancel)?.raise();
        Ok(())
    })
}

/// Frees it. Replications that were given it go on, and nothing ends them any more.
///
/// Feature: replicate. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_cancel_free(cancel: CancelHandle) -> c_int {
    run(|| handles::remove("cancel", cancel, |o| matches!(o, Object::Cancel(_))).map(drop))
}
