//! Random tokens and digests.

use base64::{Engine, prelude::BASE64_URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The key under which secrets of robots are digested: a stolen table is of no use without it, unless it lies there.
#[derive(Clone)]
pub struct Keys([u8; 32]);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// From a secret of any length.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Of `text`, for one purpose alone; hex.
    pub fn digest(&self, purpose: &str, text: &str) -> String {
        hex(&self.bytes(&[purpose, text]))
    }

    /// Of several parts.
    pub fn bytes(&self, parts: &[&str]) -> [u8; 32] {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// Whether both are the same, in a time that tells nothing about where they differ.
pub fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// SHA-256, hex. For what is random already.
pub fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// Random bytes. Without a source of them nothing here can be done safely.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(e) = getrandom::fill(&mut bytes) {
        log::error!("no random numbers from the system, giving up: {e}");
        std::process::abort();
    }
    bytes
}

/// A session's token: 64 bytes in URL-safe base64, as the reference's.
pub fn random_token() -> String {
    BASE64_URL_SAFE.encode(random::<64>())
}

/// A one-time token: 128 bits, 32 lower-case hex digits, as the reference's.
pub fn random_hex() -> String {
    hex(&random::<16>())
}

/// A random UUID (RFC 9562, version 4).
pub fn uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_references_forms() {
        assert_eq!((random_token().len(), random_hex().len()), (88, 32));
        let id = uuid();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert_ne!(random_hex(), random_hex());
    }

    #[test]
    fn a_digest_depends_on_key_purpose_and_the_borders_of_its_parts() {
        let key = Keys::new("k");
        assert_eq!(key.digest("robot", "s").len(), 64);
        assert_ne!(key.digest("robot", "s"), Keys::new("l").digest("robot", "s"));
        assert_ne!(key.digest("robot", "s"), key.digest("other", "s"));
        assert_ne!(key.bytes(&["a", "bc"]), key.bytes(&["ab", "c"]));
        // RFC 6234's HMAC is what it is: the same key twice gives the same.
        assert_eq!(key.digest("robot", "s"), Keys::new("k").digest("robot", "s"));
    }

    #[test]
    fn comparison_is_exact() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abd") && !equal("abc", "ab"));
    }
}
