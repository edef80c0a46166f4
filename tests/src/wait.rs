//! Waiting for an event, with a bound.

use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value, and panics naming `what` when `bound` is over.
pub fn until<T>(bound: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(bound, probe).unwrap_or_else(|| panic!("waited {bound:?} in vain for {what}"))
}

/// Asks `probe` until it gives a value; `None` when `bound` is over.
pub fn within<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + bound;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Sleeps as long as `done` bytes since `begin` are ahead of `rate` bytes a second; 0 is no limit.
pub(crate) fn pace(rate: u64, begin: Instant, done: u64) {
    if rate > 0 {
        let due = Duration::from_secs_f64(done as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
}
