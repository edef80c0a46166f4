//! `satellite images`

use clap::Args;

use super::{DataDir, ask};
use crate::{control::Command, exit::Result, human, ops::Listed, output};

#[derive(Args)]
pub(super) struct Images {
    #[command(flatten)]
    dir: DataDir,
    /// Write a JSON array
    #[arg(long)]
    json: bool,
}

impl Images {
    pub(super) fn run(&self) -> Result<()> {
        let list: Vec<Listed> = ask(&self.dir, Command::Images)?;
        if self.json {
            output::json(&list);
            return Ok(());
        }
        let rows = list.iter().map(|i| {
            let tag = i.tag.clone().unwrap_or_else(|| "<none>".into());
            // A cached tag is one of its host.
            let host = i.origins.first().filter(|_| i.cached);
            let name = host.map_or(i.repository.to_string(), |h| format!("{h}/{}", i.repository));
            let kept = if i.cached { "cached" } else { "held" };
            [name, tag, i.digest.short().into(), human::size(i.size), kept.into(), i.platforms.join(",")]
        });
        let head = ["REPOSITORY", "TAG", "DIGEST", "SIZE", "KEPT", "PLATFORMS"].map(String::from);
        table(std::iter::once(head).chain(rows).collect::<Vec<_>>().as_slice());
        Ok(())
    }
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        output::line(cells.join("  ").trim_end());
    }
}
