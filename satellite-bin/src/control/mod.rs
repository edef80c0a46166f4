//! Commands on a store: done here if nobody has it, else by the process that has, through a socket in the store.
//!
//! One line of JSON goes in, a [`Command`]; lines of [`Reply`] come back, the last of them `done` or `failed`. Who may
//! open the socket is decided by its file mode: its owner.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use satellite_core::{oci::PlatformSet, replicate::Event, store::Store};
use serde::{Deserialize, Serialize};

use crate::agent::run::Status;

pub(crate) mod client;
pub(crate) mod server;

/// Longest line of a command: many image names fit.
pub(crate) const MAX_COMMAND: u64 = 4 << 20;

/// What can be asked of a store.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Fetch images.
    Pull {
        images: Vec<String>,
        platforms: PlatformSet,
        referrers: bool,
        concurrency: usize,
        limit_rate: Option<u64>,
        upstream: Upstream,
    },
    /// Push an image to a registry.
    Push { source: String, target: String, upstream: Upstream },
    /// List images.
    Images,
    /// Describe one.
    Inspect { reference: String },
    /// Remove tags or manifests.
    Remove { references: Vec<String> },
    /// Collect garbage.
    Gc { grace_ms: Option<u64> },
    /// How the agent is.
    Status,
    /// Do a job of the agent's now.
    Now { job: String },
    /// Check everything; with `heal`, fetch again what is damaged.
    Fsck { repair: bool, heal: Option<Upstream> },
}

/// What commands about an agent ask of it, where this process is one.
pub(crate) trait Agent: Send + Sync {
    /// How it is.
    fn status(&self) -> Status;
    /// Does a job as soon as it can; its name's fault is the list of names.
    fn now(&self, job: &str) -> Result<(), String>;
}

/// How registries are reached.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Upstream {
    pub(crate) plain_http: bool,
    pub(crate) ca_files: Vec<PathBuf>,
    /// Name and password; else what Docker's files say.
    pub(crate) login: Option<(String, String)>,
    pub(crate) docker_config: Vec<PathBuf>,
    /// Milliseconds without a byte after which a connection is given up.
    pub(crate) stall_ms: u64,
}

/// What comes back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Event(Event),
    Checked { blobs: u64, bytes: u64 },
    Done(serde_json::Value),
    Failed(Failed),
}

/// A failure with its exit code.
#[derive(Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) code: u8,
    pub(crate) message: String,
}

/// Longest path of a Unix socket (`sockaddr_un`), less its end.
const MAX_SOCKET_PATH: usize = 107;

/// The socket of the store in `root`, by a path short enough for the system: where its own is too long, through the
/// folder's descriptor, which must be kept open meanwhile.
fn socket(root: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = Store::control_socket(root);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((path, None));
    }
    let (folder, name) = (path.parent().unwrap_or(root), path.file_name().unwrap_or_default());
    let folder = File::open(folder)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name), Some(folder)))
}
