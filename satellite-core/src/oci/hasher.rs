//! A hash that can be put down and taken up again, in another process or after a power cut.

use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use super::{Algorithm, Digest};

/// Computes a [`Digest`] piece by piece.
#[derive(Clone)]
pub struct Hasher(Inner);

#[derive(Clone)]
enum Inner {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A saved [`Hasher`]: algorithm and midstate, at most 209 bytes. It holds parts of the content hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashState {
    /// The hash function.
    pub algorithm: Algorithm,
    /// The midstate, as the hash function writes it.
    pub bytes: Vec<u8>,
}

/// No content has more blocks; a damaged count near its type's end would overflow while hashing.
const MAX_BLOCKS: u128 = 1 << 50;

impl HashState {
    /// The count of whole blocks, which sha2 keeps after the words of its state, little end first.
    fn blocks(&self) -> Option<u128> {
        let (at, length) = match self.algorithm {
            Algorithm::Sha256 => (32, 8),
            Algorithm::Sha512 => (64, 16),
        };
        let count = self.bytes.get(at..at + length)?;
        Some(count.iter().rev().fold(0, |n, byte| n << 8 | u128::from(*byte)))
    }
}

impl Hasher {
    /// A hash of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(Sha256::new()),
            Algorithm::Sha512 => Inner::Sha512(Sha512::new()),
        })
    }

    /// Its hash function.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Sha256(_) => Algorithm::Sha256,
            Inner::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(h) => h.update(bytes),
            Inner::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            Inner::Sha256(h) => Digest::from_hash(Algorithm::Sha256, &h.finalize()),
            Inner::Sha512(h) => Digest::from_hash(Algorithm::Sha512, &h.finalize()),
        }
    }

    /// The state so far.
    pub fn save(&self) -> HashState {
        let bytes = match &self.0 {
            Inner::Sha256(h) => h.serialize().to_vec(),
            Inner::Sha512(h) => h.serialize().to_vec(),
        };
        HashState { algorithm: self.algorithm(), bytes }
    }

    /// Goes on from a saved state; `None` if it is none.
    pub fn restore(state: &HashState) -> Option<Self> {
        if state.blocks()? > MAX_BLOCKS {
            return None;
        }
        Some(Self(match state.algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(state.bytes.as_slice()).ok()?;
                Inner::Sha256(Sha256::deserialize(&state).ok()?)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(state.bytes.as_slice()).ok()?;
                Inner::Sha512(Sha512::deserialize(&state).ok()?)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_count_of_blocks_is_where_it_is_looked_for() {
        for (algorithm, block) in [(Algorithm::Sha256, 64), (Algorithm::Sha512, 128)] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&vec![1; 1000 * block + 5]);
            let mut state = hasher.save();
            assert_eq!(state.blocks(), Some(1000));
            state.bytes[algorithm.bytes()..][..8].fill(0xff);
            assert!(Hasher::restore(&state).is_none());
        }
    }

    proptest! {
        #[test]
        fn a_restored_hash_goes_on_where_it_was_saved(
            content in proptest::collection::vec(any::<u8>(), 0..1000),
            cut in 0usize..1000,
            long: bool,
        ) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let cut = cut.min(content.len());
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&content[..cut]);
            let mut restored = Hasher::restore(&hasher.save()).unwrap();
            restored.update(&content[cut..]);
            prop_assert_eq!(restored.finish(), Digest::of(algorithm, &content));
        }

        #[test]
        fn a_damaged_state_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            if let Some(mut hasher) = Hasher::restore(&HashState { algorithm, bytes }) {
                hasher.update(b"more");
                hasher.finish();
            }
        }
    }
}
