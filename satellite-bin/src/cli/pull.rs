//! `satellite pull`

use std::{fs, io::Read, path::PathBuf, sync::Arc};

use clap::Args;
use satellite_core::{
    oci::{ImageReference, Platform, PlatformSet},
    replicate::Report,
};

use super::{DataDir, UpstreamArgs};
use crate::{
    control::{Command, client},
    exit::{Code, Failure, Result},
    human, output,
    progress::{self, Show},
};

/// Longest list of images.
const MAX_LIST: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct Pull {
    /// Images: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "REFERENCE", required_unless_present = "from_file")]
    images: Vec<String>,
    #[command(flatten)]
    dir: DataDir,
    /// Fetch for this platform, e.g. linux/arm64; may be given more than once. The index itself is never changed
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms", default_values_t = [Platform::host()])]
    platform: Vec<Platform>,
    /// Fetch for all platforms
    #[arg(long)]
    all_platforms: bool,
    /// Leave signatures, SBOMs and what else is about the image
    #[arg(long)]
    no_referrers: bool,
    /// Blobs fetched at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    concurrency: u16,
    /// Most bytes a second from upstream, e.g. 500k or 2MiB
    #[arg(long, value_parser = human::parse_rate, value_name = "RATE")]
    limit_rate: Option<u64>,
    /// Read more images from a file, one a line; # starts a comment; - is standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    upstream: UpstreamArgs,
    /// Write events and the result as lines of JSON
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub(super) fn run(&self) -> Result<()> {
        let mut images = self.images.clone();
        if let Some(path) = &self.from_file {
            images.extend(read_list(path)?);
        }
        // Before there is a store: a name that is none leaves nothing behind.
        for text in &images {
            text.parse::<ImageReference>().map_err(|e| Failure::new(Code::Usage, e))?;
        }
        let command = Command::Pull {
            images,
            platforms: if self.all_platforms {
                PlatformSet::All
            } else {
                PlatformSet::Some(self.platform.clone())
            },
            referrers: !self.no_referrers,
            concurrency: self.concurrency.into(),
            limit_rate: self.limit_rate,
            upstream: self.upstream.read()?,
        };
        let sink = progress::sink(if self.json { &Show::Json } else { &Show::Text });
        let value = client::call(&self.dir.data_dir, command, &sink, &(Arc::new(|_, _| ()) as _))?;
        let report: Report = serde_json::from_value(value).map_err(|e| Failure::new(Code::Failed, e))?;
        if self.json {
            let mut line = serde_json::to_value(&report).map_err(|e| Failure::new(Code::Failed, e))?;
            line["event"] = "report".into();
            output::json(&line);
        } else {
            summary(&report);
        }
        conclude(report)
    }
}

fn summary(report: &Report) {
    for image in &report.images {
        if let Some(digest) = &image.digest {
            output::line(&format!("{} {digest}", image.image));
        }
    }
    let [received, resumed, present] = [report.received, report.resumed, report.present].map(human::size);
    output::error(&format!("{received} fetched, {resumed} kept from earlier tries, {present} here already"));
}

/// The first failure decides the exit code; each is told.
fn conclude(report: Report) -> Result<()> {
    let mut failures = report.images.into_iter().filter_map(|o| o.error.map(|e| (o.image, e)));
    let Some((image, first)) = failures.next() else { return Ok(()) };
    let tell = |image: &str, message: &str| format!("{image}: {message}");
    for (image, failure) in failures {
        output::error(&format!("satellite: {}", tell(&image, &failure.message)));
    }
    let mut failure = Failure::from(first);
    failure.message = tell(&image, &failure.message);
    Err(failure)
}

fn read_list(path: &PathBuf) -> Result<Vec<String>> {
    let failed =
        |e: std::io::Error| Failure::new(Code::Usage, format!("cannot read {}: {e}", path.display()));
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(MAX_LIST).read_to_string(&mut text).map_err(failed)?;
    } else {
        fs::File::open(path).map_err(failed)?.take(MAX_LIST).read_to_string(&mut text).map_err(failed)?;
    }
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|l| !l.is_empty()).map(String::from).collect())
}
