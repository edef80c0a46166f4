//! When to try again. Pure but for the waiting.

use std::time::{Duration, SystemTime};

use async_io::Timer;

use super::{Error, Result};

/// How often, and how long apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests in all; 1 means no second one.
    pub attempts: u32,
    /// Longest pause before the second; it doubles from one to the next.
    pub base: Duration,
    /// Longest pause of all.
    pub cap: Duration,
    /// Longest `Retry-After` that is waited for. Who asks for more gets no further request now; the error says when
    /// ([`Error::retry_after`]).
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(20),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// No second request.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// The pause after `failed` failed requests (from 1), or `None` to give up. `random` lies in `0.0..1.0`: full
    /// jitter, so that a fleet that failed together does not return together.
    pub fn pause(&self, failed: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(30);
        let jittered = self.base.saturating_mul(1 << doublings).min(self.cap).mul_f64(random.clamp(0.0, 1.0));
        match retry_after {
            Some(asked) if asked > self.max_retry_after => None,
            // Never sooner than asked, and not all at the same instant either.
            Some(asked) => Some(asked + jittered.min(self.base)),
            None => Some(jittered),
        }
    }
}

/// Whether a status may go away by itself (RFC 9110 §15, RFC 8470 for 425, RFC 6585 for 429).
pub(super) fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is compared with the answer's own `Date` so that a
/// wrong local clock does not matter.
pub(super) fn parse_retry_after(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(365 * 86_400)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = date.and_then(|d| httpdate::parse_http_date(d).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// Counts the requests of one operation.
pub(super) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    failed: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Waits before the next request, or gives the error back if there shall be none.
    pub(super) async fn wait(&mut self, error: Error) -> Result<()> {
        self.failed += 1;
        let pause = self.policy.pause(self.failed, error.retry_after(), fastrand::f64());
        let Some(pause) = pause.filter(|_| error.is_retryable()) else { return Err(error) };
        log::debug!(error:% = error, pause_ms = pause.as_millis() as u64; "trying again");
        Timer::after(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_a_cap_and_end() {
        let policy = RetryPolicy { attempts: 40, base: S, cap: 5 * S, max_retry_after: 60 * S };
        let table = [
            (1, None, 1.0, Some(S)),
            (2, None, 1.0, Some(2 * S)),
            (3, None, 0.5, Some(2 * S)),
            (4, None, 1.0, Some(5 * S)),
            (39, None, 1.0, Some(5 * S)),
            (40, None, 1.0, None),
            (1, None, 0.0, Some(Duration::ZERO)),
            (1, Some(10 * S), 0.0, Some(10 * S)),
            (3, Some(10 * S), 1.0, Some(11 * S)),
            (1, Some(61 * S), 0.0, None),
        ];
        for (failed, after, random, pause) in table {
            assert_eq!(policy.pause(failed, after, random), pause, "{failed} {after:?} {random}");
        }
        assert_eq!(RetryPolicy::never().pause(1, None, 0.5), None);
    }

    #[test]
    fn retry_after_does_not_trust_the_local_clock() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        let now = SystemTime::now();
        assert_eq!(parse_retry_after(" 120", None, now), Some(120 * S));
        assert_eq!(parse_retry_after(later, Some(date), now), Some(30 * S));
        assert_eq!(parse_retry_after(date, Some(later), now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after(date, None, now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", None, now), None);
        assert_eq!(parse_retry_after("-1", None, now), None);
    }
}
