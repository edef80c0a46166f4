//! How many files may be open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use satellite_core::net::server::Limits;

/// A connection takes a socket and a file: as many as the limits allow must fit.
pub(super) fn raise_descriptor_limit() {
    let wanted = 2 * Limits::default().connections as u64 + 200;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|c| *c < wanted) else { return };
    let raised = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if raised < wanted || setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_err() {
        log::warn!(
            "only {} files may be open ({wanted} wanted): raise the limit of open files",
            raised.max(current)
        );
    }
}
