//! `satellite fsck`

use std::{io::IsTerminal, sync::Arc};

use clap::Args;
use indicatif::ProgressBar;
use satellite_core::store::{Finding, FsckReport};

use super::DataDir;
use crate::{
    control::{Command, client},
    exit::{Code, Failure, Result},
    human, output,
    progress::{self, Show},
};

#[derive(Args)]
pub(super) struct Fsck {
    #[command(flatten)]
    dir: DataDir,
    /// Set damaged blobs aside and remove records that lead nowhere; pull the images again afterwards
    #[arg(long)]
    repair: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Fsck {
    /// Fails with the store's exit code if anything is wrong and was not repaired.
    pub(super) fn run(&self) -> Result<()> {
        let visible = std::io::stderr().is_terminal() && !self.json;
        let bar = if visible { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let shown = bar.clone();
        let progress = Arc::new(move |blobs: u64, bytes: u64| {
            shown.set_message(format!("{blobs} blobs checked, {}", human::size(bytes)));
            shown.tick();
        });
        let command = Command::Fsck { repair: self.repair };
        let value =
            client::call(&self.dir.data_dir, command, &progress::sink(&Show::Nothing), &(progress as _))?;
        bar.finish_and_clear();
        let report: FsckReport = serde_json::from_value(value).map_err(|e| Failure::new(Code::Failed, e))?;
        if self.json {
            output::json(&report);
        } else {
            for finding in &report.findings {
                output::line(&describe(finding));
            }
            let size = human::size(report.bytes);
            let wrong = report.findings.len();
            output::line(&format!(
                "{} blobs ({size}) and {} manifests checked, {wrong} findings",
                report.blobs, report.manifests
            ));
        }
        if report.findings.is_empty() || self.repair {
            return Ok(());
        }
        Err(Failure::new(
            Code::Store,
            "the store is damaged; `satellite fsck --repair` sets aside what is, then pull again",
        ))
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::CorruptBlob { digest, actual } => format!("corrupt blob {digest}: its bytes are {actual}"),
        Finding::LostManifest { repository, digest } => format!("lost manifest {repository}@{digest}"),
        Finding::MissingBlob { repository, manifest, digest } => {
            format!("missing blob {digest}, needed by {repository}@{manifest}")
        }
        Finding::DanglingTag { repository, tag } => format!("tag {repository}:{tag} points to nothing"),
    }
}
