#![allow(clippy::unwrap_used)]
//! Records as they are found on a disk that anything may have happened to.

use super::{
    cache::{CachedRecord, CachedTagRecord},
    checkpoint,
    index::{self, ManifestRecord, TagRecord},
};

/// What decodes encodes to something that decodes the same.
pub(crate) fn records(data: &[u8]) {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
        if let Ok(record) = index::decode::<T>(data)
            && let Ok(bytes) = index::encode(&record)
        {
            assert_eq!(index::decode::<T>(&bytes).unwrap(), record);
        }
    }
    again::<ManifestRecord>(data);
    again::<TagRecord>(data);
    again::<CachedRecord>(data);
    again::<CachedTagRecord>(data);
    again::<u64>(data);
    let _ = index::split(data);
    let _ = crate::oci::Digest::from_key(data);
    checkpoint::fuzz(data);
}
