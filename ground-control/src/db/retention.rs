//! What is forgotten, and when. Every statement may run in several replicas at once.

use super::{Conn, Result, Sql, now};

/// How long things stay, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// Lines of the status history, of which the newest of each satellite stays, and events.
    pub history: i64,
    /// Audit events.
    pub audit: i64,
    /// Everything else that has run out: sessions, tokens, counters, done rows of the outbox.
    pub rest: i64,
}

/// Removes what is older; how many rows.
pub async fn sweep(c: &mut Conn, ages: Ages) -> Result<u64> {
    let at = now();
    let mut rows = 0;
    for (sql, before) in [
        ("DELETE FROM sessions WHERE expires_at < $1", at),
        ("DELETE FROM tokens WHERE expires_at < $1", at - ages.rest),
        (
            "DELETE FROM login_attempts WHERE last_attempt < $1 AND COALESCE(locked_until, 0) < $1",
            at - ages.rest,
        ),
        ("DELETE FROM rate_windows WHERE started_at < $1", at - ages.rest),
        ("DELETE FROM outbox WHERE done_at < $1", at - ages.rest),
        ("DELETE FROM satellite_events WHERE created_at < $1", at - ages.history),
        ("DELETE FROM audit_events WHERE created_at < $1", at - ages.audit),
        (
            "DELETE FROM status_history WHERE created_at < $1 AND NOT EXISTS (SELECT 1 FROM heartbeats h \
             WHERE h.satellite_id = status_history.satellite_id AND h.status_id = status_history.id)",
            at - ages.history,
        ),
        (
            "DELETE FROM images WHERE created_at < $1 AND NOT EXISTS (SELECT 1 FROM satellite_images si \
             WHERE si.image_id = images.id)",
            at - ages.history,
        ),
    ] {
        rows += match Sql::new(sql).bind(before).run(c).await {
            // An image that somebody just reported again.
            Err(super::Error::Reference) => 0,
            other => other?,
        };
    }
    Ok(rows)
}
