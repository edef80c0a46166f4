//! What satellites say of their replications.

use super::{Columns, Conn, FromColumns, Result, Sql, now};

/// A step of a replication, as a satellite told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number here; 0 before it is written.
    pub id: i64,
    /// The satellite's own number.
    pub seq: i64,
    /// By the satellite's clock, microseconds.
    pub at: i64,
    /// `started`, `progress`, `completed`, `failed`, `removed`.
    pub event: String,
    /// Which image; may be empty.
    pub image: String,
    /// Bytes that are there.
    pub bytes: i64,
    /// Of so many.
    pub total: i64,
    /// A stable code of a failure; else empty.
    pub cause: String,
}

impl FromColumns for Event {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            seq: c.take()?,
            at: c.take()?,
            event: c.take()?,
            image: c.take()?,
            bytes: c.take()?,
            total: c.take()?,
            cause: c.take()?,
        })
    }
}

/// Writes down what is not there yet.
pub async fn put(c: &mut Conn, satellite: i64, events: &[Event]) -> Result<()> {
    for e in events {
        Sql::new(
            "INSERT INTO satellite_events (satellite_id, seq, at, event, image, bytes, total, cause, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (satellite_id, seq, at) DO NOTHING",
        )
        .bind(satellite)
        .bind(e.seq)
        .bind(e.at)
        .bind(&e.event)
        .bind(&e.image)
        .bind(e.bytes)
        .bind(e.total)
        .bind(&e.cause)
        .bind(now())
        .run(c)
        .await?;
    }
    Ok(())
}

/// Of a satellite, newest first, with numbers below `before`.
pub async fn of_satellite(c: &mut Conn, satellite: i64, before: i64, limit: i64) -> Result<Vec<Event>> {
    Sql::new(
        "SELECT id, seq, at, event, image, bytes, total, cause FROM satellite_events \
         WHERE satellite_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(satellite)
    .bind(before)
    .bind(limit)
    .all(c)
    .await
}
