//! How often heartbeats come: seldom where nothing happens. Links are paid for by the byte, and a heartbeat by TLS costs about
//! as much as two pages of text; every half minute, that would be 200 MB a month to say that all is as it was.

use std::{collections::BTreeMap, time::Duration};

use super::BeatInput;
use crate::agent::cause::Cause;

/// For so long after something happened, whoever watches sees the next thing as soon as ever.
const PATIENCE: Duration = Duration::from_secs(600);
/// The quiet before is so many times as long as the pause that follows.
const SHARE: u32 = 10;

/// Since when nothing has happened.
#[derive(Debug, Default)]
pub struct Pace {
    /// By the monotonic clock; `None`: whoever listens must hear from us as often as was said.
    since: Option<Duration>,
    last: Option<Signs>,
}

/// What something has happened by.
#[derive(Debug, PartialEq)]
struct Signs {
    state: String,
    config: String,
    states: BTreeMap<String, String>,
    images: usize,
    trouble: Option<Cause>,
}

impl Pace {
    /// Before a heartbeat that says this.
    pub fn look(&mut self, input: &BeatInput, now: Duration) {
        let signs = Signs {
            state: input.state_digest.clone(),
            config: input.config_digest.clone(),
            states: input.states.clone(),
            images: input.images.len(),
            trouble: input.last_error.as_ref().map(|t| t.cause),
        };
        if self.last.as_ref() != Some(&signs) {
            self.last = Some(signs);
            self.since = self.since.map(|_| now);
        }
    }

    /// After a heartbeat: `heard` by a Ground Control that judges a satellite by the interval it tells, which the reference's
    /// does not; with `news` for us or without.
    pub fn answered(&mut self, heard: bool, news: bool, now: Duration) {
        match (heard, self.since) {
            (false, _) => self.since = None,
            (true, Some(_)) if !news => {}
            (true, _) => self.since = Some(now),
        }
    }

    /// From one heartbeat to the next: `base` after something happened, and up to `longest`. Doubles, since each other
    /// interval is a line in Ground Control's history.
    pub fn period(&self, base: Duration, longest: Duration, now: Duration) -> Duration {
        let quiet = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let mut period = base;
        while quiet >= PATIENCE && !period.is_zero() && period * 2 <= quiet / SHARE {
            period *= 2;
        }
        period.min(longest.max(base))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BASE: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(900);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn quiet() -> Pace {
        let mut pace = Pace::default();
        pace.look(&BeatInput::default(), at(0));
        pace.answered(true, false, at(0));
        pace
    }

    #[test]
    fn pauses_grow_with_the_quiet_and_end_with_it() {
        let mut pace = quiet();
        let seen =
            [0, 599, 600, 1200, 3600, 9600, 86_400].map(|now| pace.period(BASE, LONGEST, at(now)).as_secs());
        assert_eq!(seen, [30, 30, 60, 120, 240, 900, 900]);
        pace.look(&BeatInput { state_digest: "sha256:new".into(), ..BeatInput::default() }, at(90_000));
        assert_eq!(pace.period(BASE, LONGEST, at(90_000)), BASE);
        assert_eq!(pace.period(BASE, LONGEST, at(91_300)).as_secs(), 120);
        pace.answered(true, true, at(92_000));
        assert_eq!(pace.period(BASE, LONGEST, at(92_000)), BASE);
    }

    #[test]
    fn who_does_not_listen_to_the_interval_hears_as_often_as_before() {
        let mut pace = quiet();
        pace.answered(false, false, at(5000));
        assert_eq!(pace.period(BASE, LONGEST, at(90_000)), BASE);
        pace.answered(true, false, at(90_000));
        assert_eq!(pace.period(BASE, LONGEST, at(91_000)).as_secs(), 60);
    }

    #[test]
    fn a_longest_that_is_shorter_changes_nothing() {
        assert_eq!(quiet().period(BASE, at(10), at(90_000)), BASE);
        assert_eq!(quiet().period(Duration::ZERO, LONGEST, at(90_000)), Duration::ZERO);
    }

    /// What `tests/agent_life/traffic.rs` measures a heartbeat to cost, times this, is a month.
    #[test]
    fn a_quiet_month_has_three_thousand_heartbeats() {
        let pace = quiet();
        let (mut now, mut beats) = (Duration::ZERO, 0);
        while now < at(30 * 86_400) {
            now += pace.period(BASE, LONGEST, now);
            beats += 1;
        }
        assert!((2880..2960).contains(&beats), "{beats}");
    }
}
