//! What went wrong, as numbers of the ABI: none changes its meaning.

use std::ffi::c_int;

use satellite_core::store::Error;

/// It worked.
pub const SATELLITE_OK: c_int = 0;
/// An argument is NULL, not UTF-8, too long, or not of the form asked for.
pub const SATELLITE_ARGUMENT: c_int = 1;
/// The handle is of nothing that is open, or of something else.
pub const SATELLITE_HANDLE: c_int = 2;
/// The store, or the registry, does not have it.
pub const SATELLITE_NOT_FOUND: c_int = 3;
/// Another process has the store, or this one a second time.
pub const SATELLITE_LOCKED: c_int = 4;
/// There is no room.
pub const SATELLITE_NO_SPACE: c_int = 5;
/// Bytes are not what their digest says, or a manifest is none, or not all that it names is there.
pub const SATELLITE_CONTENT: c_int = 6;
/// The store failed: see the text. After a failed write it works again once it is closed and opened.
pub const SATELLITE_STORE: c_int = 7;
/// A text does not fit in the room given.
pub const SATELLITE_TOO_SMALL: c_int = 8;
/// A defect of the library.
pub const SATELLITE_PANIC: c_int = 9;
/// The registry, or the way to it.
pub const SATELLITE_NETWORK: c_int = 10;
/// The registry refused who we are.
pub const SATELLITE_UNAUTHORIZED: c_int = 11;
/// The call-back returned other than 0, or the cancel was raised.
pub const SATELLITE_CANCELLED: c_int = 12;
/// The operating system refused a thread or a socket.
pub const SATELLITE_SYSTEM: c_int = 13;
/// Called from within the log call-back.
pub const SATELLITE_REENTRANT: c_int = 14;

/// A code and its text.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) c_int, pub(crate) String);

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Locked { .. } => SATELLITE_LOCKED,
            Error::BlobUnknown(_) | Error::ManifestUnknown(..) => SATELLITE_NOT_FOUND,
            Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::Manifest(_)
            | Error::Incomplete { .. } => SATELLITE_CONTENT,
            e if e.is_no_space() => SATELLITE_NO_SPACE,
            _ => SATELLITE_STORE,
        };
        Self(code, error.to_string())
    }
}

#[cfg(feature = "replicate")]
impl From<satellite_core::replicate::Failure> for Failure {
    fn from(failure: satellite_core::replicate::Failure) -> Self {
        use satellite_core::replicate::FailureKind as Kind;
        let code = match failure.kind {
            Kind::NotFound => SATELLITE_NOT_FOUND,
            Kind::Unauthorized => SATELLITE_UNAUTHORIZED,
            Kind::Store => SATELLITE_STORE,
            Kind::NoSpace => SATELLITE_NO_SPACE,
            Kind::Network => SATELLITE_NETWORK,
            Kind::Content => SATELLITE_CONTENT,
        };
        Self(code, failure.message)
    }
}

pub(crate) fn bad(what: impl Into<String>) -> Failure {
    Failure(SATELLITE_ARGUMENT, what.into())
}

pub(crate) fn system(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure(SATELLITE_SYSTEM, format!("{what}: {error}"))
}
