//! What a refusal means, and whether it may pass.

use serde::Deserialize;

use super::super::Error;

/// Longest message of Harbor's that is passed on, in characters.
const MAX_MESSAGE: usize = 300;

#[derive(Deserialize)]
struct Body {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Harbor's code and message. Its front answers HTML, its parts plain text or nothing: the status decides then.
fn said(body: &[u8]) -> (String, String) {
    let entry = serde_json::from_slice::<Body>(body).ok().and_then(|b| b.errors.into_iter().next());
    let clean = |text: &str| -> String {
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
    };
    entry.map_or_else(Default::default, |e| (clean(&e.code), clean(&e.message)))
}

/// `what` is the call: method and URL.
pub(super) fn error(what: &str, status: u16, body: &[u8]) -> Error {
    let (code, message) = said(body);
    let text = match (code.as_str(), message.as_str()) {
        ("", "") => format!("{what}: Harbor answers {status}"),
        (code, "") => format!("{what}: Harbor answers {status} {code}"),
        (code, message) => format!("{what}: Harbor answers {status} {code}: {message}"),
    };
    let error = match status {
        300..=399 => {
            Error::permanent("config", format!("{text}, a redirect: give the address that it leads to"))
        }
        // Whoever comes with the right password later succeeds, and that is ours to be given, not the caller's.
        401 => Error::transient("unauthorized", text),
        403 if message.contains("read only") || message.contains("read-only") => {
            Error::transient("read_only", text)
        }
        403 if message.contains("quota") || message.contains("exceed the configured upper limit") => {
            Error::permanent("quota", text)
        }
        403 => Error::permanent("forbidden", text),
        404 => Error::permanent("not_found", text),
        409 => Error::permanent("conflict", text),
        412 if message.contains("immutable") => Error::permanent("immutable", text),
        408 | 425 | 429 => Error::transient("busy", text),
        500.. => Error::transient("ill", text),
        _ => Error::permanent("refused", text),
    };
    error.with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_status_and_words() {
        let body = |code: &str, message: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#).into_bytes()
        };
        let table: &[(u16, Vec<u8>, &str, bool)] = &[
            (308, Vec::new(), "config", false),
            (401, body("UNAUTHORIZED", "unauthorized"), "unauthorized", true),
            (403, body("FORBIDDEN", "robot$sat-01"), "forbidden", false),
            (
                403,
                body("DENIED", "The system is in read only mode. Any modification is prohibited."),
                "read_only",
                true,
            ),
            (
                403,
                body(
                    "DENIED",
                    "adding 2.9 KiB of storage resource, which when updated to current usage of 2.9 KiB will exceed the configured upper limit of 3.9 KiB.",
                ),
                "quota",
                false,
            ),
            (404, body("NOT_FOUND", "robot 9 not found"), "not_found", false),
            (409, body("CONFLICT", "x"), "conflict", false),
            (412, body("PRECONDITION", "configured as immutable."), "immutable", false),
            (412, body("VIOLATE_FOREIGN_KEY_CONSTRAINT", "x"), "refused", false),
            (422, body("UNPROCESSABLE_ENTITY", "a\nb"), "refused", false),
            (429, Vec::new(), "busy", true),
            (500, body("UNKNOWN", "internal server error"), "ill", true),
            (502, b"<html>bad gateway</html>".to_vec(), "ill", true),
        ];
        for (status, body, code, transient) in table {
            let error = error("GET http://harbor/api/v2.0/x", *status, body);
            assert_eq!(
                (error.code(), error.is_transient(), error.status()),
                (*code, *transient, Some(*status))
            );
            let text = error.to_string();
            assert!(!text.contains(['<', '\n']) && text.len() < 500, "{text}");
        }
        assert!(error("x", 400, &body("C", &"y".repeat(10_000))).to_string().len() < 400);
    }
}
