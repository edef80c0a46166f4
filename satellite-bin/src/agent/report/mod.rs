//! The heartbeat: what Ground Control is told, and what it answers.
//!
//! | file | does |
//! |---|---|
//! | `machine` | load of the processors, memory and disk in use, counted as the reference counts them |
//! | `events` | what happened, until Ground Control has heard of it |
//! | `body` | what is said, and what may be left out because Ground Control knows it |
//! | `pace` | how long until the next one: longer where nothing happens |
//! | `beat` | [`Reporter`]: one heartbeat, and what its answer makes of the account |
//!
//! Uses `agent::{center, identity, schedule, cause}` and the type of `settings::Collect`. Knows nothing of stores and jobs:
//! what these hold and did is given to it.

mod beat;
mod body;
mod events;
mod machine;
mod pace;

pub use beat::{Answered, Reporter};
pub use body::{BeatInput, Inventory};
pub use events::{EventKind, Events};
pub use machine::{Machine, Measured};
pub use pace::Pace;
