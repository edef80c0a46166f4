//! `satellite push`

use std::sync::Arc;

use clap::Args;
use satellite_core::oci::ImageReference;

use super::{DataDir, UpstreamArgs};
use crate::{
    control::{Command, client},
    exit::{Code, Failure, Result},
    output,
    progress::{self, Show},
};

#[derive(Args)]
pub(super) struct Push {
    /// Image in the store: REPOSITORY[:TAG][@DIGEST]
    source: String,
    /// Where to: HOST[:PORT]/REPOSITORY[:TAG]
    destination: String,
    #[command(flatten)]
    dir: DataDir,
    #[command(flatten)]
    upstream: UpstreamArgs,
    /// Write events and the result as lines of JSON
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) fn run(&self) -> Result<()> {
        self.destination.parse::<ImageReference>().map_err(|e| Failure::new(Code::Usage, e))?;
        let command = Command::Push {
            source: self.source.clone(),
            target: self.destination.clone(),
            upstream: self.upstream.read()?,
        };
        let sink = progress::sink(if self.json { &Show::Json } else { &Show::Text });
        let mut value = client::call(&self.dir.data_dir, command, &sink, &(Arc::new(|_, _| ()) as _))?;
        if self.json {
            value["event"] = "report".into();
            output::json(&value);
        } else {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
            output::line(&format!("{} {}", text("image"), text("digest")));
        }
        Ok(())
    }
}
