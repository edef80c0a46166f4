//! Its own time: the machine's, moved on demand.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: Duration,
}

impl Clock {
    pub(super) fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// Unix seconds.
    pub(super) fn now(&self) -> i64 {
        i64::try_from(self.millis() / 1000).expect("a time of this era")
    }

    /// RFC 3339 with milliseconds, as Harbor prints times.
    pub(super) fn stamp(&self) -> String {
        let millis = self.millis();
        let (y, m, d, seconds) = civil(i64::try_from(millis / 1000).expect("a time of this era"));
        let (h, min, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z", millis % 1000)
    }

    /// For the `Date` header (RFC 9110, "Date/Time Formats").
    pub(super) fn date(&self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let now = self.now();
        let (y, m, d, seconds) = civil(now);
        let day = DAYS[usize::try_from(now / 86_400 % 7).expect("a day of the week")];
        let month = MONTHS[usize::try_from(m - 1).expect("a month")];
        let (h, min, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{day}, {d:02} {month} {y:04} {h:02}:{min:02}:{s:02} GMT")
    }

    fn millis(&self) -> u128 {
        (SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970") + self.ahead).as_millis()
    }
}

/// Year, month, day, and seconds of the day (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(unix: i64) -> (i64, i64, i64, i64) {
    let (days, seconds) = (unix.div_euclid(86_400) + 719_468, unix.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let doe = days.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1, seconds)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_counted_right() {
        assert_eq!(civil(0), (1970, 1, 1, 0));
        assert_eq!(civil(951_782_400), (2000, 2, 29, 0));
        assert_eq!(civil(1_795_437_495), (2026, 11, 23, 45_495));
    }
}
