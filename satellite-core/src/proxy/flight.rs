//! One job for all who want its result: the first starts it, the others wait for the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_io::Timer;
use event_listener::Event;
use futures_lite::FutureExt;

/// A job under way, or done.
pub(super) struct Flight<T> {
    /// Set when the job has begun to give something; for a blob, that bytes come.
    begun: OnceLock<()>,
    result: OnceLock<T>,
    changed: Event,
    started: Instant,
}

/// How far a job is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress<T> {
    /// It is done.
    Done(T),
    /// It is not done, but something comes.
    Begun,
    /// Nothing yet.
    Waiting,
}

impl<T: Clone> Flight<T> {
    /// How long it has been under way.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says that something comes.
    pub(super) fn begin(&self) {
        if self.begun.set(()).is_ok() {
            self.changed.notify(usize::MAX);
        }
    }

    fn end(&self, result: T) {
        let _ = self.result.set(result);
        self.changed.notify(usize::MAX);
    }

    fn progress(&self) -> Progress<T> {
        match (self.result.get(), self.begun.get()) {
            (Some(result), _) => Progress::Done(result.clone()),
            (None, Some(())) => Progress::Begun,
            (None, None) => Progress::Waiting,
        }
    }

    /// Waits until it is done, or, with `begun`, until something comes; no longer than `patience`.
    pub(super) async fn wait(&self, begun: bool, patience: Duration) -> Progress<T> {
        let wanted = async {
            loop {
                let changed = self.changed.listen();
                match self.progress() {
                    Progress::Waiting => {}
                    Progress::Begun if !begun => {}
                    other => return other,
                }
                changed.await;
            }
        };
        let timeout = async {
            Timer::after(patience).await;
            self.progress()
        };
        wanted.or(timeout).await
    }
}

/// Jobs under way, by name.
pub(super) struct Flights<T>(Mutex<HashMap<String, Arc<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// The end of a job, also of one that is dropped.
pub(super) struct Landing<'a, T: Clone> {
    flights: &'a Flights<T>,
    name: String,
    flight: Arc<Flight<T>>,
    result: Option<T>,
}

impl<T: Clone> Flights<T> {
    /// The job of this name; `true` if it is new, and the caller must do it.
    pub(super) fn join(&self, name: &str) -> (Arc<Flight<T>>, bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = all.get(name) {
            return (flight.clone(), false);
        }
        let (begun, result) = (OnceLock::new(), OnceLock::new());
        let flight = Arc::new(Flight { begun, result, changed: Event::new(), started: Instant::now() });
        all.insert(name.into(), flight.clone());
        (flight, true)
    }

    /// What the doer holds. Dropped without a result, it gives `otherwise`.
    pub(super) fn landing(&self, name: &str, flight: &Arc<Flight<T>>, otherwise: T) -> Landing<'_, T> {
        Landing { flights: self, name: name.into(), flight: flight.clone(), result: Some(otherwise) }
    }

    /// Jobs under way.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<T: Clone> Landing<'_, T> {
    pub(super) fn with(mut self, result: T) {
        self.result = Some(result);
    }
}

impl<T: Clone> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        // Off the list first: who comes now starts anew, and whoever waits has the result.
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        if let Some(result) = self.result.take() {
            self.flight.end(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn everybody_gets_the_result_of_the_one_who_does_it() {
        let flights = Flights::<u32>::default();
        let (flight, first) = flights.join("a");
        let (same, second) = flights.join("a");
        assert!(first && !second && Arc::ptr_eq(&flight, &same) && flights.count() == 1);
        smol::block_on(async {
            assert_eq!(flight.wait(true, Duration::ZERO).await, Progress::Waiting);
            flight.begin();
            assert_eq!(flight.wait(true, LONG).await, Progress::Begun);
            assert_eq!(flight.wait(false, Duration::from_millis(1)).await, Progress::Begun);
            flights.landing("a", &flight, 0).with(7);
            assert_eq!(same.wait(false, LONG).await, Progress::Done(7));
            assert!(flights.join("a").1, "the next is another");
            let (flight, _) = flights.join("b");
            drop(flights.landing("b", &flight, 3));
            assert_eq!(flight.wait(true, LONG).await, Progress::Done(3), "given up");
        });
    }
}
