//! `satellite run`

use clap::Args;

use crate::{
    agent::{run, settings::Flags},
    exit::Result,
};

/// Run unattended: register with Ground Control, replicate what it says, serve it, and point the runtimes here.
///
/// A flag goes before its environment variable, both before the configuration. Once registered, no token is needed.
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    flags: Flags,
    /// Taken for the reference's sake; log lines are text, and under systemd the journal's
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    json_logging: Option<Option<String>>,
}

impl Run {
    pub(super) fn run(self, own_level: bool) -> Result<()> {
        if self.json_logging.is_some() {
            log::info!("--json-logging is not needed: the journal keeps fields apart by itself");
        }
        run::run(self.flags, own_level)
    }
}
