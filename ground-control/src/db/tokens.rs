//! One-time tokens, known by their hash.

use super::{Columns, Conn, FromColumns, Result, Sql, now};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Number.
    pub id: i64,
    /// For which satellite.
    pub satellite_id: i64,
    /// Its name.
    pub satellite: String,
    /// Microseconds.
    pub expires_at: i64,
    /// When it was exchanged.
    pub used_at: Option<i64>,
    /// Hash of what the device called its try, if it did.
    pub retry_hash: Option<String>,
    /// When the secret it was exchanged for was first used.
    pub secret_used_at: Option<i64>,
    /// The satellite's standing.
    pub standing: String,
}

impl FromColumns for Token {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            satellite_id: c.take()?,
            satellite: c.take()?,
            expires_at: c.take()?,
            used_at: c.take()?,
            retry_hash: c.take()?,
            secret_used_at: c.take()?,
            standing: c.take()?,
        })
    }
}

/// The one with this hash.
pub async fn by_hash(c: &mut Conn, hash: &str) -> Result<Option<Token>> {
    Sql::new(
        "SELECT t.id, t.satellite_id, s.name, t.expires_at, t.used_at, t.retry_hash, r.used_at, s.standing \
         FROM tokens t JOIN satellites s ON s.id = t.satellite_id \
         LEFT JOIN robots r ON r.satellite_id = t.satellite_id WHERE t.token_hash = $1",
    )
    .bind(hash)
    .one(c)
    .await
}

/// A new one.
pub async fn insert(c: &mut Conn, satellite: i64, hash: &str, expires_at: i64) -> Result<()> {
    Sql::new("INSERT INTO tokens (satellite_id, token_hash, expires_at, created_at) VALUES ($1, $2, $3, $4)")
        .bind(satellite)
        .bind(hash)
        .bind(expires_at)
        .bind(now())
        .run(c)
        .await?;
    Ok(())
}

/// Takes the token for one exchange, named `claim`. Of all who race for it one gets `true`; a claim whose process died
/// lapses at `stale_before`. `seen_used` is `used_at` as it was read: a token exchanged in between is not taken again.
pub async fn claim(
    c: &mut Conn,
    id: i64,
    claim: &str,
    seen_used: Option<i64>,
    stale_before: i64,
) -> Result<bool> {
    let taken = Sql::new(
        "UPDATE tokens SET claimed_at = $2, claim = $3 WHERE id = $1 AND COALESCE(used_at, 0) = $4 \
         AND (claimed_at IS NULL OR claimed_at < $5 OR claimed_at > $2)",
    )
    .bind(id)
    .bind(now())
    .bind(claim)
    .bind(seen_used.unwrap_or(0))
    .bind(stale_before)
    .run(c)
    .await?;
    Ok(taken > 0)
}

/// Gives a claim back: the exchange failed, the token is as good as before.
pub async fn unclaim(c: &mut Conn, id: i64, claim: &str) -> Result<()> {
    Sql::new("UPDATE tokens SET claimed_at = NULL, claim = NULL WHERE id = $1 AND claim = $2")
        .bind(id)
        .bind(claim)
        .run(c)
        .await?;
    Ok(())
}

/// The exchange was done under this claim. `false`: the claim had lapsed, and somebody else has the token.
pub async fn mark_used(c: &mut Conn, id: i64, claim: &str, retry_hash: Option<&str>) -> Result<bool> {
    let done = Sql::new(
        "UPDATE tokens SET used_at = $3, claimed_at = NULL, claim = NULL, retry_hash = $4 WHERE id = $1 AND claim = $2",
    )
    .bind(id)
    .bind(claim)
    .bind(now())
    .bind(retry_hash)
    .run(c)
    .await?;
    Ok(done > 0)
}

/// Removes all tokens of a satellite.
pub async fn delete_of(c: &mut Conn, satellite: i64) -> Result<u64> {
    Sql::new("DELETE FROM tokens WHERE satellite_id = $1").bind(satellite).run(c).await
}
