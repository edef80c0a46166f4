//! Why something failed, as a code that stays the same for ever: fleet views count by it, people search for it.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// Waited before a permanent refusal is put to the test again: someone may have mended it.
pub const SLOWLY: Duration = Duration::from_secs(3600);
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 400;

/// A stable code: `AREA.WHAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cause(&'static str);

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        impl Cause {
            $($(#[doc = $doc])+ pub const $name: Self = Self($code);)+
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

causes! {
    /// The token was exchanged already, or never existed: Ground Control does not tell which.
    TOKEN_USED = "token.used";
    /// The token is too old.
    TOKEN_EXPIRED = "token.expired";
    /// What was given cannot be a token.
    TOKEN_MALFORMED = "token.malformed";
    /// Neither identity, nor token, nor certificate.
    TOKEN_ABSENT = "token.absent";
    /// Ground Control gave an account in which something is missing or wrong.
    ACCOUNT_INCOMPLETE = "account.incomplete";
    /// Ground Control does not accept the account: expired, or its secret was replaced.
    ACCOUNT_REFUSED = "account.refused";
    /// Ground Control says that this satellite is suspended or revoked.
    ACCOUNT_REVOKED = "account.revoked";
    /// The device key cannot be read or made.
    DEVICE_KEY = "device.key";
    /// Ground Control does not know this device's key.
    DEVICE_UNKNOWN = "device.unknown";
    /// No answer from Ground Control.
    CENTER_UNREACHABLE = "center.unreachable";
    /// TLS with Ground Control: its certificate is not trusted, or not of who it should be.
    CENTER_TLS = "center.tls";
    /// Something answers that is not Ground Control: HTML of a captive portal or proxy.
    CENTER_NOT_JSON = "center.not-json";
    /// Ground Control wants to be left alone for a while.
    CENTER_LIMITED = "center.limited";
    /// Ground Control or what it stands on failed.
    CENTER_FAILED = "center.failed";
    /// Ground Control refused what was sent.
    CENTER_REFUSED = "center.refused";
    /// A certificate, key or bundle cannot be used.
    TLS_FILES = "tls.files";
    /// The registry's answer is no state artifact.
    STATE_UNREADABLE = "state.unreadable";
    /// A state artifact larger than any that is published.
    STATE_TOO_LARGE = "state.too-large";
    /// A field of a state that cannot be what it says.
    STATE_INVALID = "state.invalid";
    /// A group's state is not there any more.
    STATE_VANISHED = "state.vanished";
    /// The bytes are not those of the digest they were asked for by.
    STATE_DIGEST_LIES = "state.digest-lies";
    /// state.json cannot be written.
    STATE_FILE = "state.file";
    /// No answer from the registry that has the images.
    REGISTRY_UNREACHABLE = "registry.unreachable";
    /// The registry refused the account, which it also does while its database is down.
    REGISTRY_UNAUTHORIZED = "registry.unauthorized";
    /// The registry does not have what the state names.
    REGISTRY_NOT_FOUND = "registry.not-found";
    /// Content that is not what its digest says.
    REGISTRY_CONTENT = "registry.content";
    /// A runtime's own file cannot be read: it is left untouched.
    RUNTIME_UNPARSABLE = "runtime.unparsable";
    /// A runtime could not be pointed at the satellite.
    RUNTIME_FAILED = "runtime.failed";
    /// There is no room: needs more than there is.
    DISK_BLOCKED = "disk.blocked";
    /// The store failed.
    STORE_FAILED = "store.failed";
    /// The external registry does not take deletions.
    BYO_NO_DELETE = "byo.no-delete";
    /// The external registry's address or account.
    BYO_CONFIG = "byo.config";
    /// A configuration that is wrong: the one before stays.
    CONFIG_REFUSED = "config.refused";
    /// A configuration under which Ground Control could not be reached: the one before was put back.
    CONFIG_ROLLED_BACK = "config.rolled-back";
    /// A file of the configuration that cannot be read: damaged, or not JSON.
    CONFIG_UNREADABLE = "config.unreadable";
    /// A file of the configuration that another machine encrypted, or this one before its hardware changed.
    CONFIG_FOREIGN = "config.foreign";
    /// A file of the configuration cannot be written.
    CONFIG_FILE = "config.file";
    /// The machine's clock says a time that cannot be, or the last known time cannot be kept.
    CLOCK_WRONG = "clock.wrong";
    /// The audit log cannot be opened.
    AUDIT_FAILED = "audit.failed";
    /// A job panicked, which is a bug.
    LIFE_PANICKED = "life.panicked";
}

impl Cause {
    /// Its text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// Something that failed and is reported: a code for machines, a text for people, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {message}")]
pub struct Trouble {
    /// The code.
    pub cause: Cause,
    /// Which object, and what to do; one line, no secret, bounded.
    pub message: String,
    /// Not before then: asked for by the other side, or [`SLOWLY`] for what will hardly mend itself. `None`: by the
    /// usual backoff.
    pub retry_after: Option<Duration>,
    /// That wait is our own idea: whatever may have mended it ends it.
    pub ours: bool,
}

impl Trouble {
    /// Tried again by the usual backoff.
    pub fn new(cause: Cause, message: impl fmt::Display) -> Self {
        let text = message.to_string();
        let mut out = String::new();
        for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if out.len() + c.len_utf8() > MAX_MESSAGE {
                out.push('…');
                break;
            }
            out.push(c);
        }
        Self { cause, message: out, retry_after: None, ours: false }
    }

    /// Not before so long.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether what was published is at fault.
    pub fn is_of_the_state(&self) -> bool {
        let wrong =
            [Cause::STATE_UNREADABLE, Cause::STATE_TOO_LARGE, Cause::STATE_INVALID, Cause::STATE_VANISHED];
        wrong.contains(&self.cause)
    }

    /// Will hardly mend itself soon: each try costs, and this is how long the next one waits, unless something changes.
    #[must_use]
    pub fn seldom(self, wait: Duration) -> Self {
        Self { ours: true, ..self.after(wait) }
    }

    /// Will hardly mend itself: tried again, but [`SLOWLY`].
    #[must_use]
    pub fn slowly(self) -> Self {
        self.seldom(SLOWLY)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_of_two_parts() {
        let distinct: BTreeSet<_> = Cause::ALL.iter().collect();
        assert_eq!(distinct.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            let parts: Vec<_> = cause.as_str().split('.').collect();
            let good = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            assert!(parts.len() == 2 && parts.iter().all(good), "{cause}");
        }
    }

    #[test]
    fn messages_are_one_bounded_line() {
        let trouble = Trouble::new(Cause::CENTER_FAILED, format!("a\nb{}", "ä".repeat(1000)));
        assert!(trouble.message.starts_with("a b") && trouble.message.len() <= MAX_MESSAGE + 3);
        assert_eq!(trouble.clone().slowly().retry_after, Some(SLOWLY));
    }
}
