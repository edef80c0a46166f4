//! When something is done, as a configuration says it.

use std::{fmt, str::FromStr, time::Duration};

use satellite_core::fleet::{Interval, IntervalError};

/// `@every 00h00m30s`. What it means is the scheduler's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleText {
    /// A period of whole seconds.
    Every(Duration),
}

impl FromStr for ScheduleText {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        text.parse().map(|interval: Interval| Self::Every(interval.duration()))
    }
}

impl fmt::Display for ScheduleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Every(period) = self;
        match Interval::from_secs(period.as_secs()) {
            Some(interval) => interval.fmt(f),
            None => f.write_str("@every 0s"),
        }
    }
}
