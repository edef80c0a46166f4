//! `satellite gc`

use std::time::Duration;

use clap::Args;
use satellite_core::store::GcReport;

use super::{DataDir, ask};
use crate::{control::Command, exit::Result, human, output};

#[derive(Args)]
pub(super) struct Gc {
    #[command(flatten)]
    dir: DataDir,
    /// Keep what no image needs if it is younger than this: it may belong to a push that is under way
    #[arg(long, default_value = "1h", value_parser = human::parse_duration, value_name = "TIME")]
    grace: Duration,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(super) fn run(&self) -> Result<()> {
        let grace_ms = Some(u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX));
        let report: GcReport = ask(&self.dir, Command::Gc { grace_ms })?;
        if self.json {
            output::json(&report);
            return Ok(());
        }
        output::line(&format!(
            "{} blobs deleted ({}), {} manifests let go; {} in use, {} too young to delete",
            report.blobs,
            human::size(report.bytes + report.partials.1),
            report.manifests,
            report.kept,
            report.young
        ));
        Ok(())
    }
}
