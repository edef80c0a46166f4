//! Clocks that tests turn: a day passes in milliseconds.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use jiff::Timestamp;
use smol::LocalExecutor;

use super::ticks::{Sleep, Ticks};

/// Goes on when [`pass`](Self::pass) or [`run`](Self::run) says so.
#[derive(Clone)]
pub(in crate::agent) struct FakeTicks(Arc<Mutex<State>>);

struct State {
    now: Duration,
    /// The wall's time when `now` was zero.
    wall: Timestamp,
    sleepers: Vec<(Duration, Waker)>,
}

impl FakeTicks {
    pub(in crate::agent) fn at(wall: Timestamp) -> Arc<Self> {
        let now = Duration::from_secs(1000);
        Arc::new(Self(Arc::new(Mutex::new(State { now, wall: wall - now, sleepers: vec![] }))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both clocks go on.
    pub(in crate::agent) fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        let now = state.now;
        let due: Vec<_> = state.sleepers.extract_if(.., |(at, _)| *at <= now).collect();
        drop(state);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The wall's clock is set.
    pub(in crate::agent) fn set(&self, wall: Timestamp) {
        let mut state = self.state();
        state.wall = wall - state.now;
    }

    /// Runs all that can run, and lets time pass to whatever sleeps shortest, until `time` has passed.
    pub(in crate::agent) fn run(&self, executor: &LocalExecutor<'_>, time: Duration) {
        let end = self.state().now + time;
        loop {
            while executor.try_tick() {}
            let (now, next) = {
                let state = self.state();
                (state.now, state.sleepers.iter().map(|(at, _)| *at).min())
            };
            match next.filter(|at| *at <= end) {
                Some(at) => self.pass(at.saturating_sub(now)),
                None => return self.pass(end.saturating_sub(now)),
            }
        }
    }
}

impl Ticks for FakeTicks {
    fn monotonic(&self) -> Duration {
        self.state().now
    }

    fn wall(&self) -> Timestamp {
        let state = self.state();
        state.wall + state.now
    }

    fn sleep(&self, time: Duration) -> Sleep {
        let this = self.clone();
        let end = self.state().now + time;
        Box::pin(poll_fn(move |context| {
            let mut state = this.state();
            if state.now >= end {
                return Poll::Ready(());
            }
            state.sleepers.retain(|(_, waker)| !waker.will_wake(context.waker()));
            state.sleepers.push((end, context.waker().clone()));
            Poll::Pending
        }))
    }
}
