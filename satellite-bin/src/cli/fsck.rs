//! `satellite fsck`

use std::{io::IsTerminal, sync::Arc};

use clap::Args;
use indicatif::ProgressBar;

use super::{DataDir, UpstreamArgs};
use crate::{
    control::{Command, client},
    exit::{Code, Failure, Result},
    human,
    ops::Checked,
    output,
    progress::{self, Show},
};

#[derive(Args)]
pub(super) struct Fsck {
    #[command(flatten)]
    dir: DataDir,
    /// Set damaged blobs and stray files aside and remove records that lead nowhere; pull the images again afterwards,
    /// or let --heal do it
    #[arg(long)]
    repair: bool,
    /// Set what is damaged aside and fetch it again from where it was replicated from
    #[arg(long)]
    heal: bool,
    #[command(flatten)]
    upstream: UpstreamArgs,
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
        let heal = if self.heal { Some(self.upstream.read()?) } else { None };
        let command = Command::Fsck { repair: self.repair, heal };
        let value =
            client::call(&self.dir.data_dir, command, &progress::sink(&Show::Nothing), &(progress as _))?;
        bar.finish_and_clear();
        let checked: Checked = serde_json::from_value(value).map_err(|e| Failure::new(Code::Failed, e))?;
        let report = &checked.report;
        if self.json {
            output::json(&checked);
        } else {
            for finding in &report.findings {
                output::line(&finding.to_string());
            }
            for (finding, why) in &checked.unhealed {
                output::line(&format!("not mended: {finding}: {why}"));
            }
            let size = human::size(report.bytes);
            let wrong = report.findings.len();
            output::line(&format!(
                "{} blobs ({size}) and {} manifests checked, {wrong} findings, {} fetched again",
                report.blobs,
                report.manifests,
                checked.healed.len()
            ));
        }
        if self.heal {
            return match checked.unhealed.len() {
                0 => Ok(()),
                n => Err(Failure::new(Code::Store, format!("{n} findings could not be mended"))),
            };
        }
        if report.findings.is_empty() || self.repair {
            return Ok(());
        }
        Err(Failure::new(
            Code::Store,
            "the store is damaged; `satellite fsck --heal` fetches again what is, `--repair` sets it aside",
        ))
    }
}
