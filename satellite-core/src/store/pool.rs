//! The one way to blocking file work: a bounded number of threads beside the executor.

use async_lock::Semaphore;
use std::sync::Arc;

/// Bounds how many blocking jobs run at once; more wait their turn.
#[derive(Clone)]
pub(super) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads)))
    }

    /// Starts `job` on a thread that may block, as soon as there is a place; it runs whether the task is polled or not.
    /// Dropping the task does not stop it, and its place is not given away before it ended.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> smol::Task<T> {
        let place = self.0.acquire_arc().await;
        smol::unblock(move || {
            let result = job();
            drop(place);
            result
        })
    }

    /// Runs `job` and waits for it.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).await.await
    }
}
