//! Why a registry did not do what was asked.

use std::{io, time::Duration};

use serde::Deserialize;

use super::Secret;
use crate::{net::client::ClientError, oci::Digest};

/// Longest message of a registry that is passed on, in bytes.
const MAX_MESSAGE: usize = 300;

/// A failed request. `host` is the registry (or where it redirected to), `object` what it was about, e.g.
/// `edge/app:v1`. No secret, and no query of a URL, is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the name of a registry.
    #[error("{host:?} is not a registry: expected HOST or HOST:PORT")]
    Host {
        /// What was given.
        host: String,
    },
    /// No answer.
    #[error("{host}/{object}: {cause}")]
    Transport {
        /// Who was asked.
        host: String,
        /// What for.
        object: String,
        /// Why not.
        cause: Box<ClientError>,
    },
    /// The answer's body broke off, or made no progress ([`io::ErrorKind::TimedOut`]).
    #[error("{host}/{object}: reading the answer: {cause}")]
    Body {
        /// Who was asked.
        host: String,
        /// What for.
        object: String,
        /// How it broke.
        cause: io::Error,
    },
    /// An answer that is a refusal, other than 401.
    #[error("{host}/{object}: status {status}{}", said(message))]
    Status {
        /// Who answered.
        host: String,
        /// What for.
        object: String,
        /// HTTP's status.
        status: u16,
        /// The registry's own code (OCI Distribution 1.1, "Error Codes"), where it sent one.
        code: Option<String>,
        /// Its message, shortened; empty if it said nothing.
        message: String,
        /// How long it asked to be left alone (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// 401, after all that could be tried. It does not mean that the account is gone: Harbor answers so for
    /// projects that do not exist, and to everybody while its database is down.
    #[error("{host}/{object}: not authorised{}", said(message))]
    Unauthorized {
        /// Who answered.
        host: String,
        /// What for.
        object: String,
        /// Its message, shortened.
        message: String,
    },
    /// The token service did not give a token.
    #[error("{host}: token service {realm}: {cause}")]
    Token {
        /// The registry that sent us there.
        host: String,
        /// Host of the token service.
        realm: String,
        /// What it did instead.
        cause: String,
        /// HTTP's status, if it answered.
        status: Option<u16>,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The registry wants our password sent where it could be read on the way.
    #[error(
        "{host}: not sending credentials to its token service {realm}: it is neither HTTPS nor the same host"
    )]
    Realm {
        /// The registry.
        host: String,
        /// Host of the token service.
        realm: String,
    },
    /// The credentials cannot be read.
    #[error("credentials for {host}: {cause}")]
    Credentials {
        /// The registry they are for.
        host: String,
        /// Which file or helper, and what is wrong.
        cause: String,
    },
    /// The bytes are not what was asked for.
    #[error("{host}/{object}: the content is {actual}, not {expected}")]
    Digest {
        /// Who sent them.
        host: String,
        /// What was asked for.
        object: String,
        /// By reference or by header.
        expected: Box<Digest>,
        /// Of the bytes.
        actual: Box<Digest>,
    },
    /// More than is taken.
    #[error("{host}/{object}: more than the {limit} {unit} allowed")]
    TooLarge {
        /// Who sent it.
        host: String,
        /// What.
        object: String,
        /// The limit.
        limit: usize,
        /// Of what: bytes, tags, pages.
        unit: &'static str,
    },
    /// A compressed body, though identity was asked for: it could grow without bound.
    #[error("{host}/{object}: the answer is encoded as {encoding:?}, which was not asked for")]
    Encoded {
        /// Who sent it.
        host: String,
        /// What.
        object: String,
        /// The `Content-Encoding`.
        encoding: String,
    },
    /// 416: the blob ends before the offset asked for.
    #[error("{host}/{object}: no bytes from {offset}{}", total.map(|t| format!(", it has {t}")).unwrap_or_default())]
    Range {
        /// Who answered.
        host: String,
        /// Which blob.
        object: String,
        /// Where it was to start.
        offset: u64,
        /// The blob's length according to the answer.
        total: Option<u64>,
    },
    /// An answer against the rules.
    #[error("{host}/{object}: {what}")]
    Protocol {
        /// Who answered.
        host: String,
        /// What for.
        object: String,
        /// Which rule.
        what: String,
    },
    /// What was to be uploaded cannot be read.
    #[error("uploading {object}: {cause}")]
    Source {
        /// Which blob.
        object: String,
        /// Why not.
        cause: io::Error,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Error {
    /// Whether the same request may succeed later: the link, or a status that says so.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { cause, .. } => cause.is_transient(),
            Self::Body { .. } => true,
            Self::Status { status, .. } => super::retry::is_retryable(*status),
            Self::Token { status, .. } => status.is_none_or(super::retry::is_retryable),
            _ => false,
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the registry refused who we are. No reason to throw credentials away.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Token { status: Some(401), .. })
    }

    /// How long the registry asked to be left alone, measured when it answered.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::Token { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// HTTP's status, if the answer was a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Unauthorized { .. } => Some(401),
            Self::Range { .. } => Some(416),
            Self::Token { status, .. } => *status,
            _ => None,
        }
    }

    pub(super) fn protocol(host: &str, object: &str, what: impl Into<String>) -> Self {
        Self::Protocol { host: host.into(), object: object.into(), what: what.into() }
    }
}

/// The registry's code and message (OCI Distribution 1.1, "Error Codes"), or the first line of plain text.
/// Proxies' HTML says nothing.
pub(super) fn parse_message(body: &[u8]) -> (Option<String>, String) {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: serde_json::Value,
        #[serde(default)]
        message: serde_json::Value,
    }
    if let Ok(body) = serde_json::from_slice::<Body>(body) {
        let Some(first) = body.errors.into_iter().next() else { return (None, String::new()) };
        let code = first.code.as_str().map(|c| tidy(c, 60)).filter(|c| !c.is_empty());
        let message = tidy(first.message.as_str().unwrap_or_default(), MAX_MESSAGE);
        let text = match &code {
            Some(code) if message.is_empty() => code.clone(),
            Some(code) => format!("{code}: {message}"),
            None => message,
        };
        return (code, text);
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_MESSAGE)]).trim().to_string();
    if text.starts_with(['<', '{', '[']) {
        return (None, String::new());
    }
    (None, tidy(text.lines().next().unwrap_or_default(), MAX_MESSAGE))
}

/// Bounded, and without what could forge a line in a log.
pub(super) fn tidy(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut out = String::new();
    for c in text.trim().chars().map(clean) {
        if out.len() + c.len_utf8() > limit {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// Takes a secret out of a text that came from outside.
pub(super) fn without(text: &str, secret: Option<&Secret>) -> String {
    match secret.map(Secret::expose).filter(|s| !s.is_empty()) {
        Some(secret) => text.replace(secret, "***"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn messages_are_read_leniently_and_bounded() {
        let table: &[(&str, Option<&str>, &str)] = &[
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#, Some("DENIED"), "DENIED: no"),
            (r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, Some("NAME_UNKNOWN"), "NAME_UNKNOWN"),
            (r#"{"errors":[{"code":7,"message":null}]}"#, None, ""),
            (r#"{"errors":[]}"#, None, ""),
            ("Unable to handle service: x\nmore", None, "Unable to handle service: x"),
            ("<html>502</html>", None, ""),
            ("", None, ""),
            ("a\x1b[31mb", None, "a [31mb"),
        ];
        for (body, code, message) in table {
            let got = parse_message(body.as_bytes());
            assert_eq!((got.0.as_deref(), got.1.as_str()), (*code, *message), "{body}");
        }
        assert!(parse_message("ä".repeat(10_000).as_bytes()).1.len() <= MAX_MESSAGE + 4);
        assert_eq!(without("token abc", Some(&Secret::new("abc"))), "token ***");
    }
}
