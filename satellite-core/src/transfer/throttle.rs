//! One token bucket for all bytes over the WAN.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How far a quiet bucket fills: short, so that the rate holds over a second too.
const BURST: Duration = Duration::from_millis(100);

/// Shares a rate among transfers. Without a rate it costs one atomic read.
pub struct Throttle {
    /// Bytes per second; 0: no limit.
    rate: AtomicU64,
    /// When all bytes granted so far are paid for.
    paid: Mutex<Instant>,
}

impl Throttle {
    /// A bucket of `rate` bytes per second; `None`: no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), paid: Mutex::new(Instant::now()) }
    }

    /// Sets another rate, for what is granted from now on.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    /// The rate in force.
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|r| *r > 0)
    }

    /// Waits until `bytes` that came are paid for. In order of asking, so that no transfer starves.
    pub async fn pay(&self, bytes: u64) {
        if let Some(until) = self.due(bytes, Instant::now()) {
            async_io::Timer::at(until).await;
        }
    }

    /// Grants `bytes` and says until when to wait.
    fn due(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate()?;
        let cost = Duration::from_nanos(
            (u128::from(bytes) * 1_000_000_000 / u128::from(rate)).min(u64::MAX.into()) as u64,
        );
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        *paid = (*paid).max(floor) + cost;
        (*paid > now).then_some(*paid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the sizes of the pieces, a busy link gets its rate, within 5 % over a minute.
        #[test]
        fn the_rate_holds(rate in 8_000u64..20_000_000, seed: u64) {
            let throttle = Throttle::new(Some(rate));
            let begun = Instant::now();
            let (mut now, mut granted, mut state) = (begun, 0u64, seed | 1);
            while now < begun + Duration::from_secs(60) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // What a read returns: at most a few hundred KiB, and less on a slow link with a small buffer.
                let piece = 1 + state % (rate / 8).clamp(1000, 400_000);
                granted += piece;
                now = throttle.due(piece, now).unwrap_or(now);
            }
            let share = granted as f64 / (rate as f64 * (now - begun).as_secs_f64());
            prop_assert!((0.95..1.05).contains(&share), "{share}");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        assert_eq!(Throttle::new(None).due(u64::MAX, Instant::now()), None);
    }
}
