//! Times of day in which replication may run.

use jiff::civil::{Time, Weekday};

/// From a time of day to another, in the site's time; over midnight where `to` is not after `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Days on which it begins; empty: every day.
    pub days: Vec<Weekday>,
    /// Its begin.
    pub from: Time,
    /// Its end, which is outside. The same as `from`: a whole day.
    pub to: Time,
    /// The site's time zone, as `Europe/Berlin`; `None`: the machine's.
    pub zone: Option<String>,
}

impl Default for Window {
    fn default() -> Self {
        Self { days: Vec::new(), from: Time::midnight(), to: Time::midnight(), zone: None }
    }
}

impl Window {
    /// `mon`, `Monday`.
    pub(super) fn day(text: &str) -> Result<Weekday, String> {
        const DAYS: [(&str, Weekday); 7] = [
            ("monday", Weekday::Monday),
            ("tuesday", Weekday::Tuesday),
            ("wednesday", Weekday::Wednesday),
            ("thursday", Weekday::Thursday),
            ("friday", Weekday::Friday),
            ("saturday", Weekday::Saturday),
            ("sunday", Weekday::Sunday),
        ];
        let lower = text.to_ascii_lowercase();
        let found = DAYS.iter().find(|(name, _)| lower == *name || lower == name[..3]);
        found.map(|(_, day)| *day).ok_or_else(|| "must be a day, as in mon or sunday".into())
    }

    /// `22:00`.
    pub(super) fn time(text: &str) -> Result<Time, String> {
        let wrong = || "must be a time of day, as in \"22:00\"".to_string();
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |t: &str| {
            let digits = (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse::<i8>().ok()).flatten().ok_or_else(wrong)
        };
        if minute.len() != 2 {
            return Err(wrong());
        }
        Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
    }

    /// A name of the time zone database; whether the machine has it is seen when the window is used.
    pub(super) fn zone(text: &str) -> Result<String, String> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
        if text.is_empty() || text.len() > 64 || text.starts_with('/') || !text.bytes().all(good) {
            return Err("must be a time zone, as in Europe/Berlin".into());
        }
        Ok(text.into())
    }
}
