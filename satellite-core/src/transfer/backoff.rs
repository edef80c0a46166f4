//! Waiting between tries: full jitter, so that a site that comes back does not come back at once.

use std::time::Duration;

/// The n-th wait is a random part of `first × 2ⁿ`, at most `most`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first wait's upper bound. Default half a second.
    pub first: Duration,
    /// No wait is longer, whatever a server asks for. Default one minute.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), most: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// How long to wait after `failures` in a row; at least what the server asked for. After progress (0 failures) a
    /// short breath.
    pub fn wait(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let bound = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.most);
        let share = if failures == 0 { 0.1 } else { 1.0 };
        let jittered = bound.mul_f64(fastrand::f64() * share);
        jittered.max(asked.unwrap_or_default()).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_heed_the_server() {
        let backoff = Backoff::default();
        for failures in 0..100 {
            let bound = Duration::from_millis(500).saturating_mul(1 << failures.min(16)).min(backoff.most);
            assert!(backoff.wait(failures, None) <= bound);
            let asked = Duration::from_secs(5);
            assert!(backoff.wait(failures, Some(asked)) >= asked);
            assert_eq!(backoff.wait(failures, Some(Duration::from_secs(86_400))), backoff.most);
        }
    }
}
