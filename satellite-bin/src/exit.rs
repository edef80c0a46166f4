//! How the command ends: exit codes that scripts may rely on.

use std::{fmt::Display, process::ExitCode};

use satellite_core::{
    replicate::{self, FailureKind},
    store,
};

use crate::output;

/// Listed in `satellite --help`; never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something else.
    Failed = 1,
    /// The command line (clap's own code, too).
    Usage = 2,
    /// No such image, here or at the registry.
    NotFound = 3,
    /// The registry refused the credentials.
    Unauthorized = 4,
    /// The store: locked, damaged, full.
    Store = 5,
    /// The registry, or the way to it.
    Network = 6,
    /// Content that is not what its digest says.
    Content = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why the command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// Says so on standard error.
    pub(crate) fn show(self) -> ExitCode {
        if !self.message.is_empty() {
            output::error(&format!("satellite: {}", self.message));
        }
        ExitCode::from(self.code as u8)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        replicate::Error::from(error).report().into()
    }
}

impl From<replicate::Error> for Failure {
    fn from(error: replicate::Error) -> Self {
        error.report().into()
    }
}

impl From<replicate::Failure> for Failure {
    fn from(failure: replicate::Failure) -> Self {
        let code = match failure.kind {
            FailureKind::NotFound => Code::NotFound,
            FailureKind::Unauthorized => Code::Unauthorized,
            FailureKind::Store | FailureKind::NoSpace => Code::Store,
            FailureKind::Network => Code::Network,
            FailureKind::Content => Code::Content,
        };
        Self::new(code, failure.message)
    }
}
