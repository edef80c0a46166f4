//! What the satellite shall be: flags, environment, `config.json` and the configuration that Ground Control publishes,
//! made into one [`Settings`].
//!
//! | file | does |
//! |---|---|
//! | `flags` | the command line and environment of `satellite run` |
//! | `overlay` | both laid over a configuration |
//! | `resolve`, `zot` | that becomes settings, or a list of what is wrong |
//! | `effective` | [`Settings`]: what holds |
//! | `edge`, `window`, `schedule_text` | `app_config.satellite`, and grammars |
//!
//! Knows nothing of jobs, stores or registries. Uses `agent::cause`, and the types of `agent::center` and `runtimes`.

mod edge;
mod effective;
mod flags;
mod overlay;
mod resolve;
mod schedule_text;
#[cfg(test)]
mod tests;
mod window;
mod zot;

pub use edge::{Edge, PullThrough, Scrub};
pub use effective::{
    Audit, AuditTarget, Collect, Delivery, Embedded, Fallback, OwnRegistry, RegistryMode, Settings, Spiffe,
    SvidFiles, Syslog, TlsFiles,
};
pub use flags::{Flags, Switch};
pub use overlay::Source;
pub use resolve::{Problem, Resolved, Shown, check};
pub use schedule_text::ScheduleText;
pub use window::Window;
