//! Why central did not do what was asked.

/// What central did or said, and whether the same call may succeed later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: &'static str,
    message: String,
    transient: bool,
    status: Option<u16>,
}

/// What a call of central gives.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// It is away, slow or not well: the same call may succeed later.
    pub fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), transient: true, status: None }
    }

    /// It refused for good: something must change first.
    pub fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), transient: false, status: None }
    }

    /// With the HTTP status it answered.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// A short word for logs, metrics and the outbox: `unreachable`, `unauthorized`, `not_found`, `refused`, …
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// The HTTP status, where one was answered.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}
