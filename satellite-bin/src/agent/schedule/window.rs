//! Times of day in which something may run.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::agent::{
    cause::{Cause, Trouble},
    settings::Window,
};

/// Most windows that are taken as following on each other without a break.
const CHAIN: usize = 64;

/// Windows in the site's time; without any, it is always open.
#[derive(Clone, Debug, Default)]
pub struct Windows(Vec<(Window, TimeZone)>);

/// Whether something may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now, until then; `None`: always.
    Open(Option<Timestamp>),
    /// Not before then.
    Closed(Timestamp),
}

impl Windows {
    /// With the machine's time zone database.
    ///
    /// # Errors
    /// [`Cause::CONFIG_REFUSED`] names a zone that it does not have.
    pub fn new(windows: &[Window]) -> Result<Self, Trouble> {
        let zoned = windows.iter().map(|window| {
            let zone = match &window.zone {
                Some(name) => TimeZone::get(name).map_err(|_| {
                    let message = format!(
                        "the machine has no time zone {name:?}: install its time zone data (tzdata), or correct the name"
                    );
                    Trouble::new(Cause::CONFIG_REFUSED, message).slowly()
                })?,
                None => TimeZone::system(),
            };
            Ok((window.clone(), zone))
        });
        zoned.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it may run at that time.
    pub fn at(&self, now: Timestamp) -> Opening {
        if self.0.is_empty() {
            return Opening::Open(None);
        }
        let mut until = now;
        // Another window may begin before this one ends.
        for _ in 0..CHAIN {
            let Some(end) =
                self.spans(until).filter(|(from, to)| *from <= until && until < *to).map(|s| s.1).max()
            else {
                break;
            };
            until = end;
        }
        if until > now {
            return Opening::Open(Some(until));
        }
        let next = self.spans(now).map(|(from, _)| from).filter(|from| *from > now).min();
        // Only without a time that the calendar holds is there none.
        Opening::Closed(next.unwrap_or(Timestamp::MAX))
    }

    /// The windows around `now`: those of the day before to those of a week and a day later.
    fn spans(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.0.iter().flat_map(move |(window, zone)| {
            let today = zone.to_datetime(now).date();
            (-1..=8).filter_map(move |days| {
                let day = today.checked_add(jiff::Span::new().days(days)).ok()?;
                if !window.days.is_empty() && !window.days.contains(&day.weekday()) {
                    return None;
                }
                span(window, zone, day)
            })
        })
    }
}

/// The window that begins on that day. A time that the change of the clocks leaves out is that much later, of one that
/// comes twice the first counts.
fn span(window: &Window, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
    let last = if window.to > window.from { day } else { day.tomorrow().ok()? };
    let from = zone.to_timestamp(day.to_datetime(window.from)).ok()?;
    Some((from, zone.to_timestamp(last.to_datetime(window.to)).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::civil::{Time, Weekday, time};
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[Weekday], from: Time, to: Time) -> Window {
        Window { days: days.to_vec(), from, to, zone: Some("Europe/Berlin".into()) }
    }

    fn at(windows: &[Window], now: &str) -> Opening {
        Windows::new(windows).unwrap().at(now.parse().unwrap())
    }

    fn open(until: &str) -> Opening {
        Opening::Open(Some(until.parse().unwrap()))
    }

    fn closed(until: &str) -> Opening {
        Opening::Closed(until.parse().unwrap())
    }

    #[test]
    fn nights_belong_to_the_day_they_begin_on() {
        let night = [window(&[Weekday::Friday], time(22, 0, 0, 0), time(6, 0, 0, 0))];
        // 26 June 2026 is a Friday; Berlin is two hours ahead.
        assert_eq!(at(&night, "2026-06-26T19:59:59Z"), closed("2026-06-26T20:00:00Z"));
        assert_eq!(at(&night, "2026-06-26T20:00:00Z"), open("2026-06-27T04:00:00Z"));
        assert_eq!(at(&night, "2026-06-27T03:59:59Z"), open("2026-06-27T04:00:00Z"));
        assert_eq!(at(&night, "2026-06-27T04:00:00Z"), closed("2026-07-03T20:00:00Z"));
        assert_eq!(Windows::default().at(Timestamp::UNIX_EPOCH), Opening::Open(None));
    }

    #[test]
    fn windows_follow_the_sites_clocks() {
        let early = [window(&[], time(2, 30, 0, 0), time(4, 0, 0, 0))];
        assert_eq!(at(&early, "2026-03-28T12:00:00Z"), closed("2026-03-29T01:30:00Z"));
        assert_eq!(at(&early, "2026-03-29T01:30:00Z"), open("2026-03-29T02:00:00Z"));
        assert_eq!(at(&early, "2026-10-25T00:30:00Z"), open("2026-10-25T03:00:00Z"));
        let adjacent = [
            window(&[], time(22, 0, 0, 0), time(0, 0, 0, 0)),
            window(&[], time(0, 0, 0, 0), time(6, 0, 0, 0)),
        ];
        assert_eq!(at(&adjacent, "2026-06-26T20:00:00Z"), open("2026-06-27T04:00:00Z"));
        let unknown = Window { zone: Some("Mars/North".into()), ..Window::default() };
        assert!(Windows::new(&[unknown]).unwrap_err().message.contains("Mars/North"));
    }

    proptest! {
        #[test]
        fn what_is_closed_opens_when_it_says(
            from in 0i8..24, to in 0i8..24, minute in 0i8..60, days in proptest::collection::vec(0i8..7, 0..4),
            second in 1_700_000_000i64..2_000_000_000,
        ) {
            let days: Vec<_> = days.iter().map(|d| Weekday::from_monday_zero_offset(*d).unwrap()).collect();
            let windows = Windows::new(&[window(&days, time(from, minute, 0, 0), time(to, 0, 0, 0))]).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            match windows.at(now) {
                Opening::Open(until) => {
                    let until = until.unwrap();
                    prop_assert!(until > now);
                }
                Opening::Closed(until) => {
                    prop_assert!(until > now && until.duration_since(now).as_secs() <= 8 * 86_400);
                    prop_assert!(matches!(windows.at(until), Opening::Open(_)));
                    let before = until - std::time::Duration::from_secs(1);
                    prop_assert!(before <= now || matches!(windows.at(before), Opening::Closed(_)));
                }
            }
        }
    }
}
