//! What satellites said: the last of each, and a history of changes.

use super::{Columns, Conn, FromColumns, Result, Sql, now};

/// One heartbeat, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose.
    pub satellite_id: i64,
    /// When it came, by this server's clock.
    pub last_seen: i64,
    /// Normalised, `@every HHhMMmSSs`; `None`: it said none.
    pub interval: Option<String>,
    /// That in microseconds.
    pub interval_us: Option<i64>,
    /// Free text.
    pub activity: String,
    /// Digest of the state it runs; may be empty.
    pub state_digest: String,
    /// Digest of the configuration it runs; may be empty.
    pub config_digest: String,
    /// Hundredths of a per cent.
    pub cpu_centi: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Bytes.
    pub storage_bytes: i64,
    /// Milliseconds.
    pub sync_ms: i64,
    /// As it says.
    pub image_count: i64,
    /// When it was made, by the satellite's clock.
    pub reported_at: i64,
    /// What is wrong: a stable code, and a text.
    pub error: Option<(String, String)>,
}

/// Columns of the batch below.
const WIDTH: usize = 15;

/// Holds these satellites' rows until the transaction ends, taken in the order of their numbers: two replicas that take
/// the same ones in different orders would wait for each other. `ids` is sorted. For PostgreSQL alone: SQLite has one
/// writer.
pub async fn hold(c: &mut Conn, ids: &[i64]) -> Result<()> {
    let Some(last) = ids.last() else { return Ok(()) };
    // Few different statements here too: the last is named again until there is a power of two.
    let size = ids.len().next_power_of_two();
    let padded = ids.iter().chain(std::iter::repeat_n(last, size - ids.len()));
    let mut sql = Sql::new("SELECT satellite_id FROM heartbeats WHERE satellite_id IN ");
    sql.push_rows(size, padded.map(|id| Sql::value(*id)));
    sql.push(" ORDER BY satellite_id FOR UPDATE", []);
    sql.all::<i64>(c).await?;
    Ok(())
}

/// Writes down a batch, a row a satellite; the last of a satellite wins. Rows are changed in order of their numbers, so
/// that replicas do not block each other for good.
pub async fn write(c: &mut Conn, beats: &mut Vec<Beat>) -> Result<()> {
    beats.sort_by_key(|b| (b.satellite_id, b.last_seen));
    beats.reverse();
    beats.dedup_by_key(|b| b.satellite_id);
    beats.reverse();
    let mut rest = beats.as_slice();
    while !rest.is_empty() {
        // Few different statements, so that all stay prepared: batches of powers of two.
        let size = (1 << rest.len().ilog2()).min(128);
        let (some, others) = rest.split_at(size);
        rest = others;
        let mut sql = Sql::new(
            "WITH beat (id, seen, every, every_us, activity, state, config, cpu, memory, storage, sync, images, \
             reported, cause, message) AS (VALUES ",
        );
        for (i, b) in some.iter().enumerate() {
            if i > 0 {
                sql.push(", ", []);
            }
            sql.push(
                "(CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), \
                 CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), \
                 CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT))",
                values(b),
            );
        }
        sql.push(
            ") UPDATE heartbeats SET last_seen = beat.seen, heartbeat_interval = beat.every, \
             interval_us = beat.every_us, activity = beat.activity, state_digest = beat.state, \
             config_digest = beat.config, cpu_centi = beat.cpu, memory_bytes = beat.memory, \
             storage_bytes = beat.storage, sync_ms = beat.sync, image_count = beat.images, \
             reported_at = beat.reported, error_cause = beat.cause, error_message = beat.message FROM beat WHERE heartbeats.satellite_id = beat.id",
            [],
        );
        sql.run(c).await?;
    }
    Ok(())
}

fn values(b: &Beat) -> [super::sql::Bound; WIDTH] {
    [
        Sql::value(b.satellite_id),
        Sql::value(b.last_seen),
        Sql::value(b.interval.clone()),
        Sql::value(b.interval_us),
        Sql::value(&b.activity),
        Sql::value(&b.state_digest),
        Sql::value(&b.config_digest),
        Sql::value(b.cpu_centi),
        Sql::value(b.memory_bytes),
        Sql::value(b.storage_bytes),
        Sql::value(b.sync_ms),
        Sql::value(b.image_count),
        Sql::value(b.reported_at),
        Sql::value(b.error.as_ref().map(|e| e.0.as_str())),
        Sql::value(b.error.as_ref().map(|e| e.1.as_str())),
    ]
}

/// A line of the history, or the state now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number of the change.
    pub id: i64,
    /// Whose.
    pub satellite_id: i64,
    /// Free text.
    pub activity: String,
    /// May be empty.
    pub state_digest: String,
    /// May be empty.
    pub config_digest: String,
    /// Hundredths of a per cent.
    pub cpu_centi: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Bytes.
    pub storage_bytes: i64,
    /// Milliseconds.
    pub sync_ms: i64,
    /// As it said.
    pub image_count: i64,
    /// By the satellite's clock.
    pub reported_at: i64,
    /// By this server's.
    pub created_at: i64,
}

impl FromColumns for Status {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            satellite_id: c.take()?,
            activity: c.take()?,
            state_digest: c.take()?,
            config_digest: c.take()?,
            cpu_centi: c.take()?,
            memory_bytes: c.take()?,
            storage_bytes: c.take()?,
            sync_ms: c.take()?,
            image_count: c.take()?,
            reported_at: c.take()?,
            created_at: c.take()?,
        })
    }
}

/// What a satellite said last; `None` before its first heartbeat.
pub async fn latest(c: &mut Conn, satellite: i64) -> Result<Option<Status>> {
    Sql::new(
        "SELECT COALESCE(status_id, 0), satellite_id, COALESCE(activity, ''), COALESCE(state_digest, ''), \
         COALESCE(config_digest, ''), COALESCE(cpu_centi, 0), COALESCE(memory_bytes, 0), COALESCE(storage_bytes, 0), \
         COALESCE(sync_ms, 0), COALESCE(image_count, 0), COALESCE(reported_at, 0), last_seen \
         FROM heartbeats WHERE satellite_id = $1 AND last_seen IS NOT NULL",
    )
    .bind(satellite)
    .one(c)
    .await
}

/// Changes of a satellite, newest first, with numbers below `before`.
pub async fn history(c: &mut Conn, satellite: i64, before: Option<i64>, limit: i64) -> Result<Vec<Status>> {
    Sql::new(
        "SELECT id, satellite_id, activity, state_digest, config_digest, cpu_centi, memory_bytes, storage_bytes, \
         sync_ms, image_count, reported_at, created_at FROM status_history \
         WHERE satellite_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(satellite)
    .bind(before.unwrap_or(i64::MAX))
    .bind(limit)
    .all(c)
    .await
}

/// Something changed: a line of the history, and where the images are others, their hash.
pub async fn record(c: &mut Conn, b: &Beat, images_hash: Option<&str>) -> Result<i64> {
    let id: i64 = Sql::new(
        "INSERT INTO status_history (satellite_id, activity, state_digest, config_digest, cpu_centi, memory_bytes, \
         storage_bytes, sync_ms, image_count, reported_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
    )
    .bind(b.satellite_id)
    .bind(&b.activity)
    .bind(&b.state_digest)
    .bind(&b.config_digest)
    .bind(b.cpu_centi)
    .bind(b.memory_bytes)
    .bind(b.storage_bytes)
    .bind(b.sync_ms)
    .bind(b.image_count)
    .bind(b.reported_at)
    .bind(now())
    .just(c)
    .await?;
    Sql::new(
        "UPDATE heartbeats SET status_id = $2, images_hash = COALESCE($3, images_hash) WHERE satellite_id = $1",
    )
    .bind(b.satellite_id)
    .bind(id)
    .bind(images_hash)
    .run(c)
    .await?;
    Ok(id)
}
