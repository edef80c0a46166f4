//! Everything together: `satellite run`.
//!
//! | file | does |
//! |---|---|
//! | `build` | settings → the parts |
//! | `jobs` | what each job does, and what one tells another |
//! | `mirrors` | points the runtimes here |
//! | `status` | how it is, for people, machines and Prometheus |
//!
//! One job's failure stops no other. What a changed configuration changes is changed while everything runs; only where
//! something is bound at the start (an address, a directory, who is spoken to and how) a new process takes over, with the
//! same number and within milliseconds. May use everything.

mod build;
mod jobs;
mod mirrors;
mod status;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    cause::Trouble,
    life,
    settings::{Config, Flags},
};
use crate::{
    exit::{Code, Failure, Result},
    logging, output,
    serving::{Ended, begin_anew},
};

pub use status::Status;

/// Runs until the process is told to stop. `own_level`: the configuration says what is logged, not the command line.
pub(crate) fn run(flags: Flags, own_level: bool) -> Result<()> {
    let (config, warnings) = Config::open(flags).map_err(usage)?;
    if own_level {
        logging::set_level(config.settings().log_level);
    }
    for warning in &warnings {
        log::warn!("configuration: {warning}");
    }
    let only = config.flags().fallback_only.and_then(|s| s.0) == Some(true);
    if only {
        let said = mirrors::apply(&config, None, None).map_err(usage)?;
        output::line(said.as_deref().unwrap_or("there is nothing to change"));
        return Ok(());
    }
    let executor = Arc::new(smol::Executor::new());
    let config_dir = config.dir().to_path_buf();
    let (agent, serving, mender) = build::build(config, own_level, &executor)?;
    for address in &serving.addresses {
        output::line(&format!("listening on http://{address}"));
    }
    if let Err(e) = point_at(config_dir.as_path(), serving.store.root()) {
        log::warn!("`satellite status` needs --registry-data-dir: {}/{STORE}: {e}", config_dir.display());
    }
    life::ready("starting");
    let ended = serving.run(&mender, agent.work());
    life::stopping();
    agent.close();
    drop((agent, mender, serving));
    drop(executor);
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Anew(why) => {
            log::info!("{why}: beginning anew");
            Err(begin_anew())
        }
    }
}

/// In the configuration's directory: a link to the store, where the agent's socket is. Flags may have moved it.
const STORE: &str = "store";

/// Where the agent that runs, or ran last, with this configuration has its store.
pub(crate) fn last_store(config_dir: &Path) -> Option<PathBuf> {
    std::fs::read_link(config_dir.join(STORE)).ok()
}

fn point_at(config_dir: &Path, store: &Path) -> io::Result<()> {
    let store = std::path::absolute(store)?;
    if last_store(config_dir).is_some_and(|last| last == store) {
        return Ok(());
    }
    // Renamed over the old one, so that there is a link at any time.
    let new = config_dir.join("store.new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(store, &new)?;
    std::fs::rename(new, config_dir.join(STORE))
}

fn usage(trouble: Trouble) -> Failure {
    Failure::new(Code::Usage, trouble)
}
