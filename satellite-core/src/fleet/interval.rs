//! `@every 00h00m30s`: how often a satellite does something.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NANOS: u128 = 1_000_000_000;

/// A period of whole seconds, one at least. Its text is normalised: `@every 90s` is `@every 00h01m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u64);

/// Not a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Something else than `@every` and a duration.
    #[error("{0:?} is not an interval: expected @every and a duration, as in @every 1m30s")]
    Format(String),
    /// Zero, negative, or with a part of a second.
    #[error("the interval {0:?} must be whole seconds, one at least")]
    Seconds(String),
}

impl Interval {
    /// Of that many seconds; `None` for zero and for more than Go's durations hold (292 years).
    pub fn from_secs(seconds: u64) -> Option<Self> {
        (seconds > 0 && seconds <= i64::MAX as u64 / NANOS as u64).then_some(Self(seconds))
    }

    /// Its length in seconds.
    pub fn as_secs(self) -> u64 {
        self.0
    }

    /// Its length.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        let quoted = || text.chars().take(60).collect::<String>();
        let duration = text.strip_prefix("@every ").ok_or_else(|| IntervalError::Format(quoted()))?;
        let (negative, nanos) = nanoseconds(duration).ok_or_else(|| IntervalError::Format(quoted()))?;
        if negative || nanos % NANOS != 0 {
            return Err(IntervalError::Seconds(quoted()));
        }
        let seconds = u64::try_from(nanos / NANOS).map_err(|_| IntervalError::Format(quoted()))?;
        Self::from_secs(seconds).ok_or_else(|| IntervalError::Seconds(quoted()))
    }
}

/// Go's `time.ParseDuration`: a sign, and then numbers with units, biggest or smallest first: `1h30m`, `1.5h`, `300ms`.
/// Gives the sign and the nanoseconds; `None` for what Go refuses.
fn nanoseconds(text: &str) -> Option<(bool, u128)> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some((negative, 0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(number);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        total = total.checked_add(scaled(digits, unit)?)?;
        rest = next;
    }
    (total <= i64::MAX as u128).then_some((negative, total))
}

fn scaled(digits: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS,
        "m" => 60 * NANOS,
        "h" => 3600 * NANOS,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 30 {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    // More digits than any unit has are cut, as Go does.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    number(whole)?.checked_mul(unit)?.checked_add(number(fraction)?.checked_mul(unit)? / scale)
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@every {:02}h{:02}m{:02}s", self.0 / 3600, self.0 / 60 % 60, self.0 % 60)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
