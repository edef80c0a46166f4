//! What one satellite may ask of one process: a bucket each, refilled by the clock. Never by address: hundreds of
//! gateways may stand behind one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Buckets kept; beyond that, full ones are forgotten.
const MAX_BUCKETS: usize = 200_000;

/// A bucket each.
pub struct Limits {
    per_minute: u32,
    buckets: Mutex<HashMap<i64, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f32,
    at: Instant,
}

impl Limits {
    /// So many requests a minute each, in bursts of as many; 0: no limit.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: Mutex::default() }
    }

    /// Counts one. `Err`: after how long there is room again.
    pub fn take(&self, satellite: i64) -> Result<(), Duration> {
        self.take_at(satellite, Instant::now())
    }

    fn take_at(&self, satellite: i64, now: Instant) -> Result<(), Duration> {
        if self.per_minute == 0 {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "a limit of millions need not be exact")]
        let (most, rate) = (self.per_minute as f32, self.per_minute as f32 / 60.0);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled =
            |b: &Bucket| (b.left + now.saturating_duration_since(b.at).as_secs_f32() * rate).min(most);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&satellite) {
            buckets.retain(|_, b| filled(b) < most);
        }
        let bucket = buckets.entry(satellite).or_insert(Bucket { left: most, at: now });
        bucket.left = filled(bucket);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f32((1.0 - bucket.left) / rate));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_satellite_has_its_own_bucket_which_fills_by_the_clock() {
        let limits = Limits::new(60);
        let now = Instant::now();
        for _ in 0..60 {
            assert!(limits.take_at(1, now).is_ok());
        }
        let wait = limits.take_at(1, now).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limits.take_at(2, now).is_ok());
        assert!(limits.take_at(1, now + Duration::from_millis(1001)).is_ok());
        assert!(limits.take_at(1, now + Duration::from_millis(1001)).is_err());
        assert!(Limits::new(0).take_at(1, now).is_ok());
    }
}
