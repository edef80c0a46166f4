//! Ctrl-C, and the system's wish that the process ends.

use futures_lite::StreamExt;

use crate::exit::{Code, Failure, Result};

/// Never gives a value: fails when the user or the system ends the command.
pub(crate) async fn interrupted<T>() -> Result<T> {
    stop_signal().await;
    Err(Failure::new(
        Code::Interrupted,
        "interrupted; what came so far is kept, the same command goes on from there",
    ))
}

/// Ready at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) async fn stop_signal() {
    let signals = async_signal::Signals::new([async_signal::Signal::Int, async_signal::Signal::Term]);
    match signals {
        Ok(mut signals) => {
            signals.next().await;
            std::thread::spawn(move || {
                smol::block_on(signals.next());
                std::process::exit(Code::Interrupted as i32);
            });
        }
        // Without handlers the signals end the process the hard way, which the store survives.
        Err(e) => {
            log::warn!("signals cannot be handled: {e}");
            std::future::pending::<()>().await;
        }
    }
}
