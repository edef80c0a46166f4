//! `satellite rm`

use clap::Args;
use serde_json::Value;

use super::{DataDir, ask};
use crate::{control::Command, exit::Result, output};

#[derive(Args)]
pub(super) struct Rm {
    /// Images in the store: REPOSITORY:TAG removes the tag, REPOSITORY@DIGEST the image with all its tags
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,
    #[command(flatten)]
    dir: DataDir,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Rm {
    pub(super) fn run(&self) -> Result<()> {
        let value: Value = ask(&self.dir, Command::Remove { references: self.references.clone() })?;
        if self.json {
            output::json(&value);
        } else {
            for name in value["removed"].as_array().into_iter().flatten() {
                output::line(&format!("removed {}", name.as_str().unwrap_or_default()));
            }
        }
        Ok(())
    }
}
