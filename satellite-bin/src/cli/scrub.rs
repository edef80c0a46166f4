//! What of `satellite serve` is about reading everything again: the flags.

use std::time::Duration;

use clap::Args;
use satellite_core::store::ScrubOptions;

use crate::human;

#[derive(Args)]
pub(super) struct ScrubArgs {
    /// Read everything again in the background at this rate, at most, and fetch again what has rotted; 0 never
    #[arg(long, default_value = "2MB", value_parser = parse_rate, value_name = "RATE")]
    scrub_rate: u64,
    /// Time from the end of one such pass to the beginning of the next
    #[arg(long, default_value = "7d", value_parser = human::parse_duration, value_name = "TIME")]
    scrub_interval: Duration,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { human::parse_rate(text) }
}

impl ScrubArgs {
    /// What is wanted, if it is.
    pub(super) fn options(&self) -> Option<ScrubOptions> {
        (self.scrub_rate > 0).then(|| ScrubOptions {
            rate: self.scrub_rate,
            interval: self.scrub_interval,
            ..ScrubOptions::default()
        })
    }
}
