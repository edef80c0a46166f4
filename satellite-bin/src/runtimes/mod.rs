//! Points the container runtimes of this machine at the satellite, and takes that back byte for byte.
//!
//! Everything here blocks, and knows nothing of the agent: call it from `smol::unblock`. What is to be written is made
//! by pure functions from the text of a file (`hosts_toml`, `containerd`, `docker`, `registries_conf`, `k3s`); [`Host`]
//! alone touches files, and remembers in a journal what was there before.
//!
//! | file | does |
//! |---|---|
//! | `wish` | what is wanted: which runtimes go to the satellite for which registries |
//! | `detect` | which runtimes are here |
//! | `plan` | what would change, and what has to be restarted |
//! | `apply` | changes it, checks it, and takes it back if the check fails |
//! | `journal`, `files` | what was there before; writes that survive a power cut |
//! | `reload`, `verify` | the runtimes' own commands |

mod apply;
mod containerd;
mod detect;
mod docker;
mod files;
mod hosts_toml;
mod journal;
mod k3s;
mod plan;
mod registries_conf;
mod reload;
#[cfg(test)]
mod tests;
mod verify;
mod wish;

pub use apply::{Done, Outcome};
pub use detect::{Found, Store};
pub use plan::{Change, Plan, View};
pub use reload::Reload;
pub use verify::{Probe, Sight};
pub use wish::{Kind, Mirror, Wish, WishError};

use std::path::{Path, PathBuf};

/// The machine whose runtimes are meant.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where its root is: `/`, or where a container has the host's directories.
    pub root: PathBuf,
    /// Where the journal is; the same one for `apply` and `revert`.
    pub state: PathBuf,
}

impl Host {
    /// Where a path of the host is to be found.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether this process is on the host itself, so that its commands reach the runtimes.
    pub fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// Why something was not done. Nothing is half done: see [`Host::apply`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the admin's that is not understood; it was not touched.
    #[error("{file}: {problem}; it was not touched: mend it, or take this runtime off the list")]
    Unparsable {
        /// Where.
        file: String,
        /// What, and in which line.
        problem: String,
    },
    /// A file that is understood, but must not be changed so.
    #[error("{file}: {problem}")]
    Refused {
        /// Where.
        file: String,
        /// Why, and what to do.
        problem: String,
    },
    /// A file was changed after us, in the very lines that are ours.
    #[error(
        "{file} was changed since, where the satellite's lines are; take them out by hand, or revert with --force, which \
         restores what was there before the satellite and loses this:\n{diff}"
    )]
    Changed {
        /// Where.
        file: String,
        /// From what was written to what is there.
        diff: String,
    },
    /// The file system.
    #[error("cannot {what} {file}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The runtime does not see what was written, or cannot read it.
    #[error("{runtime} does not take what was written, so it was taken back: {problem}")]
    Unverified {
        /// Which.
        runtime: Kind,
        /// What it said.
        problem: String,
    },
}

impl Error {
    fn io(what: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.display().to_string();
        move |error| Self::Io { what, file, error }
    }

    fn refused(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused { file: file.into(), problem: problem.into() }
    }
}
