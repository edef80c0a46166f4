//! What systemd is told (`sd_notify(3)`). Without systemd nothing happens.

use std::time::Duration;

use async_io::Timer;
use sd_notify::NotifyState;

/// It works: who waits for this unit may begin.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A line for `systemctl status`.
pub fn say(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It ends, and knows it.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that it lives, as often as the unit's `WatchdogSec=` wants, for as long as it is polled: an executor that hangs, or
/// a process that was stopped, says nothing and is started anew. A runtime that waits for a mirror that hangs waits for
/// tens of seconds, so this is what keeps pulls going.
pub async fn watchdog() {
    let Some(every) = sd_notify::watchdog_enabled().map(half) else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        Timer::after(every).await;
    }
}

/// `sd_watchdog_enabled(3)` recommends half of it.
fn half(limit: Duration) -> Duration {
    (limit / 2).max(Duration::from_millis(10))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        log::debug!("systemd was not told: {e}");
    }
}
