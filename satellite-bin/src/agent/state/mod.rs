//! What the satellite shall hold, and bringing the store in line with it.
//!
//! | file | does |
//! |---|---|
//! | `desired` | group states → which images; and what may go once they are here. Pure |
//! | `file` | `state.json`: what was last known, for ever |
//! | `registries` | clients of registries: the account's secret goes to its own host alone |
//! | `artifact` | reads state artifacts, conditionally |
//! | `job` | [`StateJob`]: the loop's one turn |
//! | `inventory` | what is held, for reports |
//!
//! The truth is Ground Control's; what it last said holds until it says something else. Uses `identity`, `cause`.

mod artifact;
mod desired;
mod file;
mod inventory;
mod job;
mod registries;

pub use desired::{Entity, Group, Known};
pub use job::{Done, Options, Place, StateJob};
pub(in crate::agent) use job::{name_of, reference_of, store_trouble};
pub use registries::{Reach, Registries};
