//! The system's wish that the process ends.

use futures_lite::StreamExt;

/// Ready at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(super) async fn stop_signal() {
    match async_signal::Signals::new([async_signal::Signal::Int, async_signal::Signal::Term]) {
        Ok(mut signals) => {
            signals.next().await;
            std::thread::spawn(move || {
                smol::block_on(signals.next());
                std::process::exit(130);
            });
        }
        // Without handlers the signals end the process the hard way, which the database survives.
        Err(e) => {
            log::warn!("signals cannot be handled: {e}");
            std::future::pending::<()>().await;
        }
    }
}
