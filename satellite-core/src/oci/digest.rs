//! Content digests: `sha256:` and `sha512:` with lower-case hex.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash function that digests may name (image-spec, "Registered algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every registry must know.
    Sha256,
    /// SHA-512, which it may know.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon, which is also the folder below `blobs/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of the hash.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest as an index key: one byte for the algorithm, then the hash.
pub type DigestKey = heapless::Vec<u8, 65, u8>;

/// The name of a piece of content. Its text never allocates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(heapless::String<135, u8>);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon, or nothing before it.
    #[error("{0:?} is not a digest: expected ALGORITHM:HEX")]
    Format(String),
    /// An algorithm this store does not compute: refused, never trusted unseen.
    #[error("digest algorithm {0:?} is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// Wrong length, upper case, or not hex.
    #[error("{0:?} is not a digest: {1} needs {2} lower-case hex digits")]
    Hex(String, Algorithm, usize),
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Digest {
    /// From a finished hash; its length must be the algorithm's.
    pub(super) fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len(), algorithm.bytes());
        let mut text = heapless::String::new();
        // 135 bytes hold the longest: "sha512:" and 128 digits.
        let _ = text.push_str(algorithm.name());
        let _ = text.push(':');
        for byte in hash {
            let _ = text.push(HEX[usize::from(byte >> 4)] as char);
            let _ = text.push(HEX[usize::from(byte & 15)] as char);
        }
        Self(text)
    }

    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = super::Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// Its hash function.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The hex digits, which are also the file's name.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The binary form for index keys.
    pub fn key(&self) -> DigestKey {
        let mut key = DigestKey::new();
        let _ = key.push(self.algorithm().tag());
        for pair in self.hex().as_bytes().chunks_exact(2) {
            let _ = key.push(nibble(pair[0]) << 4 | nibble(pair[1]));
        }
        key
    }

    /// Reads what [`key`](Self::key) wrote; `None` for anything else.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (&tag, hash) = key.split_first()?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.tag() == tag && a.bytes() == hash.len())?;
        Some(Self::from_hash(algorithm, hash))
    }

    /// The first 128 bits of the hash. Enough to tell apart what a set may *keep*: a collision keeps too much,
    /// never too little.
    pub fn prefix128(&self) -> u128 {
        self.key()[1..17].iter().fold(0, |n, byte| n << 8 | u128::from(*byte))
    }
}

fn nibble(digit: u8) -> u8 {
    if digit >= b'a' { digit - b'a' + 10 } else { digit - b'0' }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // What is quoted back is bounded: it may come from the network.
        let quoted = || text.chars().take(160).collect::<String>();
        let (name, hex) = text
            .split_once(':')
            .filter(|(n, _)| !n.is_empty())
            .ok_or_else(|| DigestError::Format(quoted()))?;
        let algorithm = Algorithm::from_name(name)
            .ok_or_else(|| DigestError::Algorithm(name.chars().take(40).collect()))?;
        let digits = algorithm.bytes() * 2;
        if hex.len() != digits || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Hex(quoted(), algorithm, digits));
        }
        let mut owned = heapless::String::new();
        let _ = owned.push_str(text);
        Ok(Self(owned))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_content_has_its_well_known_digest() {
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        assert!(Digest::of(Algorithm::Sha512, b"").as_str().starts_with("sha512:cf83e1357eefb8bd"));
    }

    #[test]
    fn malformed_digests_are_refused() {
        for bad in
            ["", ":", "sha256", "sha256:", ":abc", "sha256:ABC", "md5:d41d8cd98f00b204e9800998ecf8427e"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(EMPTY.to_uppercase().parse::<Digest>().is_err());
        assert!(EMPTY.replace('e', "E").parse::<Digest>().is_err());
        assert!(format!("{EMPTY}0").parse::<Digest>().is_err());
        assert!(EMPTY.replace("e3b0", "../0").parse::<Digest>().is_err());
        assert!(EMPTY.replace("sha256", "sha512").parse::<Digest>().is_err());
        assert!(EMPTY.replace("e3b0", "é30").parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_without_panic(text in ".{0,200}") {
            let _ = text.parse::<Digest>();
        }

        #[test]
        fn text_and_key_forms_come_back(content in proptest::collection::vec(any::<u8>(), 0..100), long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &content);
            prop_assert_eq!(&digest.as_str().parse::<Digest>().unwrap(), &digest);
            prop_assert_eq!(&Digest::from_key(&digest.key()).unwrap(), &digest);
            prop_assert_eq!(digest.algorithm(), algorithm);
        }
    }
}
