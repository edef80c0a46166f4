//! Failed logins and counted requests, shared by all replicas.

use super::{Conn, Result, Sql, now};

/// Until when a name is locked, if it is. No lock is longer than `lock` microseconds: what seems so was written before a
/// clock went back.
pub async fn locked_until(c: &mut Conn, username: &str, lock: i64) -> Result<Option<i64>> {
    let until: Option<i64> =
        Sql::new("SELECT COALESCE(locked_until, 0) FROM login_attempts WHERE username = $1")
            .bind(username)
            .one(c)
            .await?;
    let at = now();
    Ok(until.filter(|until| *until > at && *until <= at.saturating_add(lock)))
}

/// Counts a failure; at the `limit`th the name is locked for `lock` microseconds. The count begins anew after a lock.
pub async fn failed(c: &mut Conn, username: &str, limit: i64, lock: i64) -> Result<()> {
    let at = now();
    Sql::new(
        "INSERT INTO login_attempts (username, failed_count, locked_until, last_attempt) \
         VALUES ($1, 1, CASE WHEN $3 <= 1 THEN $4 ELSE NULL END, $2) \
         ON CONFLICT (username) DO UPDATE SET last_attempt = $2, \
         failed_count = CASE WHEN login_attempts.locked_until <= $2 THEN 1 ELSE login_attempts.failed_count + 1 END, \
         locked_until = CASE \
           WHEN login_attempts.locked_until > $2 THEN login_attempts.locked_until \
           WHEN login_attempts.locked_until IS NULL AND login_attempts.failed_count + 1 >= $3 THEN $4 \
           WHEN $3 <= 1 THEN $4 ELSE NULL END",
    )
    .bind(username)
    .bind(at)
    .bind(limit)
    .bind(at.saturating_add(lock))
    .run(c)
    .await?;
    Ok(())
}

/// A login that succeeded: nothing is held against the name any more.
pub async fn succeeded(c: &mut Conn, username: &str) -> Result<()> {
    Sql::new("DELETE FROM login_attempts WHERE username = $1").bind(username).run(c).await?;
    Ok(())
}

/// Counts one more of something named, and says how many there were within the window that began with the first.
pub async fn hit(c: &mut Conn, name: &str, window: i64) -> Result<i64> {
    let at = now();
    Sql::new(
        "INSERT INTO rate_windows (name, started_at, hits) VALUES ($1, $2, 1) \
         ON CONFLICT (name) DO UPDATE SET \
         hits = CASE WHEN rate_windows.started_at <= $3 OR rate_windows.started_at > $2 THEN 1 \
           ELSE rate_windows.hits + 1 END, \
         started_at = CASE WHEN rate_windows.started_at <= $3 OR rate_windows.started_at > $2 THEN $2 \
           ELSE rate_windows.started_at END \
         RETURNING hits",
    )
    .bind(name)
    .bind(at)
    .bind(at.saturating_sub(window))
    .just(c)
    .await
}

/// Counts from nothing again.
pub async fn forget(c: &mut Conn, name: &str) -> Result<()> {
    Sql::new("DELETE FROM rate_windows WHERE name = $1").bind(name).run(c).await?;
    Ok(())
}
