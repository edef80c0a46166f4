//! How far a blob under way is durable: offset and hash midstate, beside its data.
//!
//! The file has two slots, written in turn, each with its own checksum: a power cut in the middle of one leaves the
//! other. A slot is written only after the data it speaks of was synced.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::error::{Context, Error, Result};
use crate::oci::{Algorithm, HashState, Hasher, Repository};

const SLOT: usize = 1024;
const MAGIC: [u8; 4] = *b"SCK1";

/// What is known of a blob under way. Fields are appended, never reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Bytes that are durable and in the hash.
    pub(super) offset: u64,
    algorithm: String,
    midstate: Midstate,
    /// The repository it is uploaded to; none for a transfer.
    pub(super) repository: Option<Repository>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Midstate(Vec<u8>);

impl Serialize for Midstate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Midstate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Midstate;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Midstate, E> {
                Ok(Midstate(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Checkpoint {
    pub(super) fn new(offset: u64, hasher: &Hasher, repository: Option<Repository>) -> Self {
        let HashState { algorithm, bytes } = hasher.save();
        Self { offset, algorithm: algorithm.name().into(), midstate: Midstate(bytes), repository }
    }

    /// The hash of the first `offset` bytes; `None` if the state is not readable.
    pub(super) fn hasher(&self) -> Option<Hasher> {
        let algorithm = Algorithm::from_name(&self.algorithm)?;
        Hasher::restore(&HashState { algorithm, bytes: self.midstate.0.clone() })
    }

    fn to_slot(&self, sequence: u64) -> Result<[u8; SLOT]> {
        let payload = serde_cbor::ser::to_vec_packed(self).map_err(|_| Error::Record("checkpoint"))?;
        let mut slot = [0; SLOT];
        let end = 22 + payload.len();
        if end > SLOT {
            return Err(Error::Record("checkpoint larger than its slot"));
        }
        slot[12..20].copy_from_slice(&sequence.to_le_bytes());
        slot[20..22].copy_from_slice(&(payload.len() as u16).to_le_bytes());
        slot[22..end].copy_from_slice(&payload);
        let sum = checksum(&slot[12..end]);
        slot[..4].copy_from_slice(&MAGIC);
        slot[4..12].copy_from_slice(&sum);
        Ok(slot)
    }

    fn from_slot(slot: &[u8; SLOT]) -> Option<(u64, Self)> {
        let length = usize::from(u16::from_le_bytes([slot[20], slot[21]]));
        let body = slot.get(12..22 + length)?;
        if slot[..4] != MAGIC || slot[4..12] != checksum(body) {
            return None;
        }
        let sequence = u64::from_le_bytes(slot[12..20].try_into().ok()?);
        Some((sequence, serde_cbor::from_slice(&body[10..]).ok()?))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    let mut slot = [0; SLOT];
    let length = data.len().min(SLOT);
    slot[..length].copy_from_slice(&data[..length]);
    let _ = Checkpoint::from_slot(&slot);
    // Behind a checksum that is right, too.
    slot[..4].copy_from_slice(&MAGIC);
    let body = 22 + usize::from(u16::from_le_bytes([slot[20], slot[21]]));
    if let Some(body) = slot.get(12..body) {
        let sum = checksum(body);
        slot[4..12].copy_from_slice(&sum);
    }
    if let Some((_, checkpoint)) = Checkpoint::from_slot(&slot) {
        let _ = checkpoint.hasher();
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let hash = sha2::Sha256::digest(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash[..8]);
    sum
}

/// The file of a blob's checkpoints.
pub(super) struct CheckpointFile {
    file: File,
    path: std::path::PathBuf,
    sequence: u64,
}

impl CheckpointFile {
    /// Begins one, over an older one if there is.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path).at("create", path)?;
        Ok(Self { file, path: path.into(), sequence: 0 })
    }

    /// Opens one, with the newest checkpoint that is whole.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, Checkpoint)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).at("open", path),
        };
        let newest = (0..2)
            .filter_map(|n| {
                let mut slot = [0; SLOT];
                file.read_exact_at(&mut slot, n * SLOT as u64).ok()?;
                Checkpoint::from_slot(&slot)
            })
            .max_by_key(|(sequence, _)| *sequence);
        Ok(newest.map(|(sequence, checkpoint)| (Self { file, path: path.into(), sequence }, checkpoint)))
    }

    /// Writes a checkpoint; with `durable`, returns after it is synced. The data must be synced before.
    pub(super) fn save(&mut self, checkpoint: &Checkpoint, durable: bool) -> Result<()> {
        self.sequence += 1;
        let slot = checkpoint.to_slot(self.sequence)?;
        self.file.write_all_at(&slot, (self.sequence % 2) * SLOT as u64).at("write", &self.path)?;
        if durable {
            self.file.sync_data().at("sync", &self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(offset: u64) -> Checkpoint {
        let name = format!("{}a", "a/".repeat(127));
        Checkpoint::new(offset, &Hasher::new(Algorithm::Sha512), Some(name.parse().unwrap()))
    }

    #[test]
    fn the_newest_whole_checkpoint_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ck");
        let mut file = CheckpointFile::create(&path).unwrap();
        for offset in [0, 10, 20] {
            file.save(&checkpoint(offset), true).unwrap();
        }
        assert_eq!(CheckpointFile::open(&path).unwrap().unwrap().1, checkpoint(20));
        // A torn write of the newest slot leaves the one before.
        file.file.write_all_at(&[7; 40], SLOT as u64 + 30).unwrap();
        let (mut file, found) = CheckpointFile::open(&path).unwrap().unwrap();
        assert_eq!(found, checkpoint(10));
        file.save(&checkpoint(30), true).unwrap();
        assert_eq!(CheckpointFile::open(&path).unwrap().unwrap().1, checkpoint(30));
        assert!(CheckpointFile::open(&dir.path().join("none")).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn damaged_slots_are_passed_over(at in 0usize..SLOT, byte: u8) {
            let whole = checkpoint(7).to_slot(1).unwrap();
            let mut slot = whole;
            slot[at] = byte;
            if let Some((sequence, found)) = Checkpoint::from_slot(&slot) {
                prop_assert_eq!((sequence, found), (1, checkpoint(7)));
            }
        }
    }
}
