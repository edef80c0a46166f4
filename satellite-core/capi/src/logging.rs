//! What the library says goes to a call-back, or nowhere.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{CString, c_char, c_int, c_void},
    ptr::with_exposed_provenance_mut,
    sync::{Once, PoisonError, RwLock},
};

use log::{LevelFilter, Log, Metadata, Record};

use crate::{
    boundary::run,
    codes::{Outcome, bad},
};

/// Something failed that has to be looked at.
pub const SATELLITE_LOG_ERROR: c_int = 1;
/// Something failed that mends itself.
pub const SATELLITE_LOG_WARN: c_int = 2;
/// Something happened.
pub const SATELLITE_LOG_INFO: c_int = 3;
/// For whoever looks for a fault.
pub const SATELLITE_LOG_DEBUG: c_int = 4;
/// All there is.
pub const SATELLITE_LOG_TRACE: c_int = 5;

/// Called for a line of the log; `target` says what part of the library says it. The strings are gone afterwards.
/// Called on whichever thread has something to say, on several at a time: it must be quick, must not throw, and may call
/// no function of this library but satellite_last_error and those that tell versions.
pub type LogCallback =
    Option<extern "C" fn(context: *mut c_void, level: c_int, target: *const c_char, message: *const c_char)>;

struct Listener {
    call: extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char),
    context: usize,
}

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

thread_local!(static CALLING: Cell<bool> = const { Cell::new(false) });

/// Whether this thread is within the call-back.
pub(crate) fn is_calling() -> bool {
    CALLING.try_with(Cell::get).unwrap_or(false)
}

struct Bridge;

impl Log for Bridge {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        !is_calling()
    }

    fn log(&self, record: &Record<'_>) {
        if is_calling() {
            return;
        }
        let listener = LISTENER.read().unwrap_or_else(PoisonError::into_inner);
        let Some(listener) = &*listener else { return };
        let text = |from: String| CString::new(from.replace('\0', "\u{fffd}")).unwrap_or_default();
        let (target, message) = (text(record.target().into()), text(record.args().to_string()));
        let _ = CALLING.try_with(|c| c.set(true));
        let context = with_exposed_provenance_mut(listener.context);
        (listener.call)(context, record.level() as c_int, target.as_ptr(), message.as_ptr());
        let _ = CALLING.try_with(|c| c.set(false));
    }

    fn flush(&self) {}
}

/// The library prints nothing, a panic of its own included. Its standard library is its own, so nobody else's hook is lost.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = log::set_logger(&Bridge);
        log::set_max_level(LevelFilter::Error);
        // Within our own tests the hook is the test harness's.
        if !cfg!(test) {
            std::panic::set_hook(Box::new(|panic| log::error!("a defect: {panic}")));
        }
    });
}

/// Sends the log, down to `level` (SATELLITE_LOG_…), to `callback`; NULL ends that. When it returns, the call-back
/// before is not running any more and never called again, so that its context may go. Secrets are not in the log.
///
/// There is one log for the process, whichever store it is about.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_log(callback: LogCallback, context: *mut c_void, level: c_int) -> c_int {
    run(|| listen(callback, context, level))
}

fn listen(callback: LogCallback, context: *mut c_void, level: c_int) -> Outcome {
    let filter = match level {
        SATELLITE_LOG_ERROR => LevelFilter::Error,
        SATELLITE_LOG_WARN => LevelFilter::Warn,
        SATELLITE_LOG_INFO => LevelFilter::Info,
        SATELLITE_LOG_DEBUG => LevelFilter::Debug,
        SATELLITE_LOG_TRACE => LevelFilter::Trace,
        _ if callback.is_none() => LevelFilter::Error,
        _ => {
            return Err(bad(format!(
                "level {level} is not one of SATELLITE_LOG_ERROR to SATELLITE_LOG_TRACE"
            )));
        }
    };
    let mut listener = LISTENER.write().unwrap_or_else(PoisonError::into_inner);
    *listener = callback.map(|call| Listener { call, context: context.expose_provenance() });
    log::set_max_level(filter);
    Ok(())
}
