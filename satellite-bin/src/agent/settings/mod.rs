//! What the satellite shall be: flags, environment, `config.json` and the configuration that Ground Control publishes,
//! made into one [`Settings`].
//!
//! | file | does |
//! |---|---|
//! | `flags` | the command line and environment of `satellite run` |
//! | `overlay` | both laid over a configuration |
//! | `resolve`, `zot` | that becomes settings, or a list of what is wrong |
//! | `effective` | [`Settings`]: what holds |
//! | `config` | [`Config`]: the one that runs; its files, what is offered, what is edited |
//! | `seal` | encryption at rest |
//! | `trial` | when one is taken back |
//! | `edge`, `window` | `app_config.satellite`, and grammars |
//!
//! Knows nothing of jobs, stores or registries. Uses `agent::cause`, and the types of `agent::center` and `runtimes`.

mod config;
mod edge;
mod effective;
mod flags;
mod overlay;
mod resolve;
mod seal;
#[cfg(test)]
mod tests;
mod trial;
mod window;
mod zot;

pub use config::{Change, Checked, Config, LOOK_EVERY};
pub use edge::{Edge, PullThrough, Scrub};
pub use effective::{
    Audit, AuditTarget, Collect, Delivery, Embedded, Fallback, OwnRegistry, RegistryMode, Settings, Spiffe,
    SvidFiles, Syslog, TlsFiles,
};
pub use flags::{Flags, Switch};
pub use overlay::Source;
pub use resolve::{Problem, Resolved, Shown, check};
pub use window::Window;
