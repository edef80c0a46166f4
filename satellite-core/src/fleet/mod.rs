//! What a satellite, Ground Control and the registry between them say to each other: the JSON of both sides, the names
//! in it, and the image that carries a state through a registry. Pure: nothing here opens a file or a socket.
//!
//! The shapes are the reference system's (Harbor Satellite), so that its satellites can talk to our Ground Control, and
//! ours to its. Reading is lenient where that is (`null` for a list, unknown fields), writing is exact.
//!
//! | file | says |
//! |---|---|
//! | `name`, `interval` | grammars |
//! | `state` | which images a group has, and which groups a satellite |
//! | `sync`, `ztr` | heartbeat and registration |
//! | `config` | a satellite's configuration, and what is wrong with one |
//! | `artifact` | a state as an image of one layer, and back |
//!
//! Uses `oci`.

pub mod artifact;
pub mod config;
mod interval;
mod name;
mod state;
mod sync;
mod ztr;

use serde::{Deserialize, Deserializer};

pub use interval::{Interval, IntervalError};
pub use name::{BadName, Name, StateKind, is_robot_name};
pub use state::{Artifact, GroupState, SatelliteState};
pub use sync::{CachedImage, LastError, Sync, SyncAnswer, SyncEvent, images_digest};
pub use ztr::{Ztr, ZtrAuth};

/// A field that does not hold what it must: `artifacts[2].repository: must have a project, as in edge/app`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Where, from the top of the document: `app_config.log_level`, `artifacts[2].tag[0]`.
    pub field: String,
    /// What is expected there.
    pub problem: String,
}

impl FieldError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// `null` is what Go prints for an empty list, and reads for any absent value.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
