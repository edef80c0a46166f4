//! What goes on behind the requests: old rows go, robots live on, numbers are counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;

use crate::{
    api,
    app::App,
    central::{Embedded, Health},
    db::{self, outbox, retention, robots, satellites},
    outbox::Kind,
};

/// How often numbers are counted and robots looked at.
const LOOK: Duration = Duration::from_secs(15);
/// How often free memory is given back: a crowd leaves some 10 MiB a second behind.
const TRIM: Duration = Duration::from_secs(3);
/// How often old rows are removed.
const SWEEP: Duration = Duration::from_secs(3600);
/// How often the embedded registry gives back room.
const COLLECT: Duration = Duration::from_secs(6 * 3600);
/// A robot is looked after at most so often: central counts lives in days.
const PROLONG: i64 = 3600 * 1_000_000;
/// Robots whose life is prolonged at one look.
const ROBOTS: i64 = 200;
/// What has run out stays so long, for questions.
const REST: i64 = 24 * 3600 * 1_000_000;

/// Runs for ever.
pub async fn keep(app: &Arc<App>, embedded: Option<&Embedded>) {
    futures_lite::future::or(look_after(app, embedded), give_back()).await;
}

async fn give_back() {
    loop {
        Timer::after(TRIM).await;
        satellite_core::memory::trim();
    }
}

async fn look_after(app: &Arc<App>, embedded: Option<&Embedded>) {
    let (mut swept, mut collected): (Option<Instant>, Instant) = (None, Instant::now());
    let mut central = Health::Well;
    loop {
        if let Err(e) = count(app).await {
            log::warn!("the fleet could not be counted: {e}");
        }
        let health = app.central.health().await;
        app.metrics.central_up.set(i64::from(health == Health::Well));
        if health != central {
            if health == Health::Well {
                log::info!("central is well again");
                app.outbox.wake();
            } else {
                log::warn!("central is {health}: heartbeats are taken, changes wait in the outbox");
            }
            central = health;
        }
        if let Err(e) = prolong(app).await {
            log::warn!("robots that expire could not be looked for: {e}");
        }
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            swept = Some(Instant::now());
            match sweep(app).await {
                Ok(0) => {}
                Ok(rows) => log::info!(rows; "old rows removed"),
                Err(e) => log::warn!("old rows could not be removed: {e}"),
            }
        }
        if let Some(embedded) = embedded
            && collected.elapsed() >= COLLECT
        {
            collected = Instant::now();
            if let Err(e) = embedded.collect().await {
                log::warn!("the embedded registry could not give back room: {e}");
            }
        }
        Timer::after(LOOK).await;
    }
}

async fn count(app: &App) -> db::Result<()> {
    let mut c = app.db.read().await?;
    let now = db::now();
    let census = satellites::census(&mut c, now, &api::thresholds(app)).await?;
    app.metrics.census(&census);
    let ((pending, failing), oldest) = outbox::backlog(&mut c).await?;
    app.metrics.outbox_pending.set(pending);
    app.metrics.outbox_failing.set(failing);
    app.metrics.outbox_age.set(if pending > 0 { (now - oldest).max(0) / 1_000_000 } else { 0 });
    Ok(())
}

/// Robots whose life is half over live on: their row brings them in line, and that includes their expiry.
async fn prolong(app: &App) -> db::Result<()> {
    let half = i64::from(app.settings.robot_days).saturating_mul(86_400_000_000) / 2;
    let now = db::now();
    let names = robots::expiring(&mut *app.db.read().await?, now + half, now - PROLONG, ROBOTS).await?;
    if names.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    for name in &names {
        outbox::put_unless_pending(&mut tx, Kind::Robot.as_str(), name).await?;
    }
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

async fn sweep(app: &App) -> db::Result<u64> {
    let ages = retention::Ages {
        history: db::micros(app.settings.keep_history),
        audit: db::micros(app.settings.keep_audit),
        rest: REST,
    };
    let mut tx = app.db.begin().await?;
    let rows = retention::sweep(&mut tx, ages).await?;
    tx.commit().await?;
    Ok(rows)
}
