//! `satellite inspect`

use clap::Args;
use serde_json::Value;

use super::{DataDir, ask};
use crate::{control::Command, exit::Result, human, output};

#[derive(Args)]
pub(super) struct Inspect {
    /// Image in the store: REPOSITORY[:TAG][@DIGEST]
    reference: String,
    #[command(flatten)]
    dir: DataDir,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<()> {
        let value: Value = ask(&self.dir, Command::Inspect { reference: self.reference.clone() })?;
        if self.json {
            output::json(&value);
            return Ok(());
        }
        let text = |v: &Value| v.as_str().unwrap_or("-").to_string();
        let size = |v: &Value| human::size(v.as_u64().unwrap_or(0));
        let list = |v: &Value| -> Vec<Value> { v.as_array().cloned().unwrap_or_default() };
        let joined = |v: &Value| list(v).iter().map(text).collect::<Vec<_>>().join(", ");
        output::line(&format!("name        {} {}", text(&value["repository"]), text(&value["reference"])));
        output::line(&format!("digest      {}", text(&value["digest"])));
        output::line(&format!("media type  {}", text(&value["media_type"])));
        output::line(&format!("size        {}", size(&value["size"])));
        for (name, key) in [("platforms", "platforms"), ("from", "origins")] {
            if !list(&value[key]).is_empty() {
                output::line(&format!("{name:11} {}", joined(&value[key])));
            }
        }
        for (name, key) in [("manifest", "manifests"), ("blob", "blobs"), ("referrer", "referrers")] {
            for entry in list(&value[key]) {
                let kind = entry["platform"]
                    .as_str()
                    .or(entry["artifactType"].as_str())
                    .or(entry["media_type"].as_str());
                let absent = if entry["here"] == Value::Bool(false) { "  (not here)" } else { "" };
                let (digest, kind) = (text(&entry["digest"]), kind.unwrap_or("-"));
                output::line(&format!("{name:11} {digest}  {:>10}  {kind}{absent}", size(&entry["size"])));
            }
        }
        for entry in list(&value["history"]) {
            output::line(&format!("before      {}", text(&entry["digest"])));
        }
        Ok(())
    }
}
