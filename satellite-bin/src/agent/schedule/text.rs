//! `@every 00h00m30s` (the reference's grammar) and cron lines.

use std::{fmt, str::FromStr, time::Duration};

use cronexpr::{Crontab, MakeTimestamp, ParseOptions, normalize_crontab};
use jiff::{Timestamp, tz::TimeZone};
use satellite_core::fleet::{Interval, IntervalError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock::EARLIEST;

/// Longest cron line, in bytes.
const MAX_LINE: usize = 200;

/// No change of the clocks leaves out more, but for one where a day was skipped.
const LONGEST_GAP: Duration = Duration::from_secs(3 * 3600);

/// When something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Every so often, by the monotonic clock.
    Every(Interval),
    /// At times of day.
    Cron(Cron),
}

/// A cron line: minute, hour, day of month, month, day of week, and a time zone if it is not the machine's.
///
/// A time that a change of the clocks leaves out is that much later; one that comes twice is done twice.
#[derive(Clone)]
pub struct Cron {
    text: Box<str>,
    /// In the zone: misses what the change leaves out.
    zoned: Crontab,
    /// On a wall without zone: knows nothing of changes.
    civil: Crontab,
    zone: TimeZone,
}

/// Neither a period nor a cron line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A period that is none.
    #[error(transparent)]
    Every(#[from] IntervalError),
    /// A cron line that is none.
    #[error("{text:?} is neither @every and a duration nor a cron line as in \"15 3 * * *\": {problem}")]
    Cron {
        /// The line.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A day that no year has.
    #[error("{0:?} never comes")]
    Never(String),
}

impl Schedule {
    /// Every so often; parts of a second are cut off, and less than a second is one.
    pub fn every(period: Duration) -> Self {
        Self::Every(Interval::from_secs(period.as_secs()).unwrap_or_else(shortest))
    }

    /// The period, where it is one.
    pub fn period(&self) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(interval.duration()),
            Self::Cron(_) => None,
        }
    }
}

/// A second for what is shorter than one; what Go cannot hold does not come from any text.
fn shortest() -> Interval {
    #[expect(clippy::expect_used, reason = "one second is an interval")]
    Interval::from_secs(1).expect("one second")
}

impl Cron {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |problem: &dyn fmt::Display| ScheduleError::Cron {
            text: text.chars().take(60).collect(),
            problem: problem.to_string().lines().last().unwrap_or_default().trim().to_string(),
        };
        if text.len() > MAX_LINE {
            return Err(wrong(&format!("more than {MAX_LINE} bytes")));
        }
        let line = normalize_crontab(text);
        let mut fields = line.splitn(6, ' ');
        let five: Vec<_> = fields.by_ref().take(5).collect();
        let zone = match fields.next() {
            Some(name) => TimeZone::get(name).map_err(|e| wrong(&e))?,
            None => TimeZone::system(),
        };
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = cronexpr::FallbackTimezoneOption::UTC;
        let civil = cronexpr::parse_crontab_with(&five.join(" "), options).map_err(|e| wrong(&e))?;
        options.fallback_timezone_option = cronexpr::FallbackTimezoneOption::System;
        let zoned = cronexpr::parse_crontab_with(&line, options).map_err(|e| wrong(&e))?;
        let cron = Self { text: line.into(), zoned, civil, zone };
        cron.after(EARLIEST).ok_or_else(|| ScheduleError::Never(cron.text.to_string()))?;
        Ok(cron)
    }

    /// The first time after `from`, if there is one within four years.
    pub fn after(&self, from: Timestamp) -> Option<Timestamp> {
        let next = |crontab: &Crontab, from| Some(crontab.find_next(MakeTimestamp(from)).ok()?.timestamp());
        let zoned = next(&self.zoned, from);
        // What the change of the clocks left out is found on the wall, a gap's length before.
        let wall = |t: Timestamp| TimeZone::UTC.to_timestamp(self.zone.to_datetime(t)).ok();
        let mut look = wall(from.checked_sub(LONGEST_GAP).ok()?);
        while let Some(at) = look {
            look = next(&self.civil, at);
            let Some(civil) = look else { break };
            let found = self.zone.to_timestamp(TimeZone::UTC.to_datetime(civil)).ok()?;
            if zoned.is_some_and(|z| found >= z) {
                break;
            }
            if found > from {
                return Some(found);
            }
        }
        zoned
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.starts_with('@') { Ok(Self::Every(text.parse()?)) } else { Cron::parse(text).map(Self::Cron) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => interval.fmt(f),
            Self::Cron(cron) => f.write_str(&cron.text),
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn times(line: &str, from: &str, n: usize) -> Vec<String> {
        let Schedule::Cron(cron) = line.parse().unwrap() else { unreachable!("{line} is a cron line") };
        let mut at: Timestamp = from.parse().unwrap();
        let next = |_| {
            at = cron.after(at).unwrap();
            at.to_string()
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn texts_come_back() {
        for (text, shown) in [
            ("@every 90s", "@every 00h01m30s"),
            ("  15\t3 * * mon-fri", "15 3 * * mon-fri"),
            ("0 0 29 2 * UTC", "0 0 29 2 * UTC"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), shown);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        }
        assert_eq!(Schedule::every(Duration::ZERO).period(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_none_is_said() {
        let long = "1,".repeat(200);
        for bad in
            ["", "@hourly", "@every 0s", "* * * *", "61 * * * *", "0 0 30 2 *", "0 0 * * * Mars/North", &long]
        {
            let error = bad.parse::<Schedule>().unwrap_err().to_string();
            assert!(!error.contains('\n') && error.len() < 300, "{error}");
        }
    }

    #[test]
    fn a_time_that_the_change_of_clocks_leaves_out_is_later_and_none_is_missed() {
        // Berlin: 02:00 to 03:00 on 29 March, back on 25 October 2026.
        assert_eq!(
            times("30 2 * * * Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("30 2 * * * Europe/Berlin", "2026-10-24T12:00:00Z", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            times("0 * * * * Europe/Berlin", "2026-03-28T23:30:00Z", 3),
            ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
        );
        assert_eq!(
            times("0 * * * * Europe/Berlin", "2026-10-24T23:30:00Z", 4),
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_schedule_or_fails_without_panic(text in "[@0-9*/,LW#HA-Za-z -]{0,40}") {
            if let Ok(schedule) = text.parse::<Schedule>() {
                prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
            }
        }

        #[test]
        fn the_next_time_is_later_and_matches_the_line(minute in 0u8..60, hour in 0u8..24, from in 1_700_000_000i64..2_000_000_000) {
            let Schedule::Cron(cron) = format!("{minute} {hour} * * * Europe/Berlin").parse().unwrap() else { unreachable!() };
            let from = Timestamp::from_second(from).unwrap();
            let next = cron.after(from).unwrap();
            prop_assert!(next > from && next.duration_since(from).as_secs() <= 25 * 3600);
            let at = cron.zone.to_datetime(next);
            prop_assert_eq!(at.minute(), i8::try_from(minute).unwrap());
            let shifted = i8::try_from(hour).unwrap() + 1;
            prop_assert!(at.hour() == i8::try_from(hour).unwrap() || (hour == 2 && at.hour() == shifted));
        }
    }
}
