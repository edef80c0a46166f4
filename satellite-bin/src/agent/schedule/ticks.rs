//! The machine's clocks.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use async_io::Timer;
use jiff::Timestamp;

/// Ends when its time is over.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock that only goes on, one of the time of day, and waiting.
pub trait Ticks: Send + Sync {
    /// Time since some fixed moment of this process.
    fn monotonic(&self) -> Duration;
    /// The time of day, right or wrong.
    fn wall(&self) -> Timestamp;
    /// Waits, by the monotonic clock.
    fn sleep(&self, time: Duration) -> Sleep;
}

/// The real ones.
#[derive(Debug)]
pub struct MachineTicks(Instant);

impl MachineTicks {
    /// Counts from now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for MachineTicks {
    fn default() -> Self {
        Self::new()
    }
}

impl Ticks for MachineTicks {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        Box::pin(async move {
            Timer::after(time).await;
        })
    }
}
