//! A future that is polled only when what it waits for has happened.
//!
//! Who drives an executor by `block_on(executor.run(main))` polls `main` at every turn of the executor. A main future
//! that accepts connections and waits for signals would then try each of its sockets again for every request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use atomic_waker::AtomicWaker;

struct Flag {
    woken: AtomicBool,
    outer: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.outer.wake();
    }
}

/// See the module.
pub(super) struct Woken<F> {
    inner: Pin<Box<F>>,
    flag: Arc<Flag>,
    waker: Waker,
}

impl<F: Future> Woken<F> {
    pub(super) fn new(inner: F) -> Self {
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), outer: AtomicWaker::new() });
        Self { inner: Box::pin(inner), waker: Arc::clone(&flag).into(), flag }
    }
}

impl<F: Future> Future for Woken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // First the waker: what happens from here on is not missed.
        self.flag.outer.register(cx.waker());
        if !self.flag.woken.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let this = &mut *self;
        this.inner.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_lite::future;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn it_is_polled_when_woken_and_not_when_others_are() {
        let (sender, receiver) = smol::channel::bounded::<u8>(1);
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let mut wanted = Box::pin(async move { receiver.recv().await.unwrap() });
        let inner = future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            wanted.as_mut().poll(cx)
        });
        let mut woken = Box::pin(Woken::new(inner));
        smol::block_on(async {
            for _ in 0..100 {
                assert!(future::poll_once(&mut woken).await.is_none());
            }
            assert_eq!(polls.load(Ordering::Relaxed), 1);
            sender.send(7).await.unwrap();
            assert_eq!(woken.await, 7);
            assert_eq!(polls.load(Ordering::Relaxed), 2);
        });
    }
}
