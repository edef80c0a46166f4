//! Objects at central that have to be brought in line with the tables.

use super::{Columns, Conn, Dialect, FromColumns, Result, Sql, like, now};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number.
    pub id: i64,
    /// `group`, `satellite`, `config`, `robot`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// Grows with every change; done means done up to one.
    pub generation: i64,
    /// Tries since the last success.
    pub attempts: i64,
    /// When it is tried next.
    pub due_at: i64,
    /// Until when somebody works on it.
    pub lease_until: Option<i64>,
    /// Why the last try failed, in a word.
    pub cause: Option<String>,
    /// And in a sentence.
    pub error: Option<String>,
    /// What the tables no longer know: a robot's id.
    pub payload: Option<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
    /// `None`: pending.
    pub done_at: Option<i64>,
}

impl FromColumns for Entry {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            kind: c.take()?,
            name: c.take()?,
            generation: c.take()?,
            attempts: c.take()?,
            due_at: c.take()?,
            lease_until: c.take()?,
            cause: c.take()?,
            error: c.take()?,
            payload: c.take()?,
            created_at: c.take()?,
            updated_at: c.take()?,
            done_at: c.take()?,
        })
    }
}

/// Nothing is ever scheduled further ahead than this, nor leased for longer: what seems so was written before a clock went
/// back, and is due at once.
const HORIZON: i64 = 420_000_000;

/// How long a row is left to the request that put it, before a worker takes it.
const GRACE: i64 = 3_000_000;

/// The object changed: whoever changed it does it at once, else a worker in a moment.
pub async fn put(c: &mut Conn, kind: &str, name: &str, payload: Option<&str>) -> Result<()> {
    Sql::new(
        "INSERT INTO outbox (kind, name, generation, attempts, due_at, payload, created_at, updated_at) \
         VALUES ($1, $2, 1, 0, $5, $3, $4, $4) ON CONFLICT (kind, name) DO UPDATE SET \
         generation = outbox.generation + 1, attempts = 0, due_at = $5, updated_at = $4, done_at = NULL, \
         cause = NULL, error = NULL, payload = COALESCE($3, outbox.payload)",
    )
    .bind(kind)
    .bind(name)
    .bind(payload)
    .bind(now())
    .bind(now() + GRACE)
    .run(c)
    .await?;
    Ok(())
}

/// The object has to be looked after, unless that is so already.
pub async fn put_unless_pending(c: &mut Conn, kind: &str, name: &str) -> Result<()> {
    Sql::new(
        "INSERT INTO outbox (kind, name, generation, attempts, due_at, created_at, updated_at) \
         VALUES ($1, $2, 1, 0, $3, $3, $3) ON CONFLICT (kind, name) DO UPDATE SET \
         generation = outbox.generation + 1, attempts = 0, due_at = $3, updated_at = $3, done_at = NULL \
         WHERE outbox.done_at IS NOT NULL",
    )
    .bind(kind)
    .bind(name)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

macro_rules! everything {
    () => {
        "INSERT INTO outbox (kind, name, generation, attempts, due_at, created_at, updated_at) "
    };
}

macro_rules! again {
    () => {
        " ON CONFLICT (kind, name) DO UPDATE SET generation = outbox.generation + 1, attempts = 0, \
         due_at = excluded.due_at, updated_at = excluded.updated_at, done_at = NULL, cause = NULL, error = NULL"
    };
}

/// The robots of all satellites of a group changed.
pub async fn put_robots_of_group(c: &mut Conn, group: i64) -> Result<u64> {
    Sql::new(
        "INSERT INTO outbox (kind, name, generation, attempts, due_at, created_at, updated_at) \
         SELECT 'robot', s.name, 1, 0, $2, $2, $2 FROM satellite_groups sg \
         JOIN satellites s ON s.id = sg.satellite_id WHERE sg.group_id = $1 ORDER BY s.id \
         ON CONFLICT (kind, name) DO UPDATE SET generation = outbox.generation + 1, attempts = 0, due_at = $2, \
         updated_at = $2, done_at = NULL, cause = NULL, error = NULL",
    )
    .bind(group)
    .bind(now())
    .run(c)
    .await
}

/// The states of all satellites of a group changed.
pub async fn put_satellites_of_group(c: &mut Conn, group: i64) -> Result<u64> {
    Sql::new(
        "INSERT INTO outbox (kind, name, generation, attempts, due_at, created_at, updated_at) \
         SELECT 'satellite', s.name, 1, 0, $2, $2, $2 FROM satellite_groups sg \
         JOIN satellites s ON s.id = sg.satellite_id WHERE sg.group_id = $1 ORDER BY s.id \
         ON CONFLICT (kind, name) DO UPDATE SET generation = outbox.generation + 1, attempts = 0, due_at = $2, \
         updated_at = $2, done_at = NULL, cause = NULL, error = NULL",
    )
    .bind(group)
    .bind(now())
    .run(c)
    .await
}

const RETURNING: &str = " RETURNING id, kind, name, generation, attempts, due_at, lease_until, cause, error, payload, \
                         created_at, updated_at, done_at";

/// Takes up to `limit` rows that are due and that nobody works on, for `lease_us` microseconds. Several processes take
/// different ones.
pub async fn claim(
    c: &mut Conn,
    dialect: Dialect,
    lease: &str,
    lease_us: i64,
    limit: i64,
) -> Result<Vec<Entry>> {
    let at = now();
    let mut sql = Sql::new("UPDATE outbox SET ");
    sql.push(
        "lease = ?, lease_until = ?, attempts = attempts + 1 WHERE id IN (SELECT id FROM outbox \
         WHERE done_at IS NULL AND (due_at <= ? OR due_at > ?) \
         AND (lease_until IS NULL OR lease_until < ? OR lease_until > ?) ORDER BY due_at, id LIMIT ?",
        [
            Sql::value(lease),
            Sql::value(at.saturating_add(lease_us)),
            Sql::value(at),
            Sql::value(at.saturating_add(HORIZON)),
            Sql::value(at),
            Sql::value(at.saturating_add(HORIZON)),
            Sql::value(limit),
        ],
    );
    sql.push(if dialect == Dialect::Postgres { " FOR UPDATE SKIP LOCKED)" } else { ")" }, []);
    sql.push(RETURNING, []);
    let mut rows: Vec<Entry> = sql.all(c).await?;
    rows.sort_by_key(|row| (row.due_at, row.id));
    Ok(rows)
}

/// Takes one row, due or not, unless somebody works on it or it is done.
pub async fn claim_one(
    c: &mut Conn,
    kind: &str,
    name: &str,
    lease: &str,
    lease_us: i64,
) -> Result<Option<Entry>> {
    let at = now();
    let mut sql = Sql::new("UPDATE outbox SET ");
    sql.push(
        "lease = ?, lease_until = ?, attempts = attempts + 1 WHERE kind = ? AND name = ? AND done_at IS NULL \
         AND (lease_until IS NULL OR lease_until < ? OR lease_until > ?)",
        [
            Sql::value(lease),
            Sql::value(at.saturating_add(lease_us)),
            Sql::value(kind),
            Sql::value(name),
            Sql::value(at),
            Sql::value(at.saturating_add(HORIZON)),
        ],
    );
    sql.push(RETURNING, []);
    sql.one(c).await
}

/// Nobody works on anything: for a database that one process owns, when that starts. Nor does anybody exchange a token.
pub async fn forget_leases(c: &mut Conn) -> Result<()> {
    Sql::new("UPDATE outbox SET lease = NULL, lease_until = NULL WHERE lease IS NOT NULL").run(c).await?;
    Sql::new("UPDATE tokens SET claim = NULL, claimed_at = NULL WHERE claim IS NOT NULL").run(c).await?;
    Ok(())
}

/// Keeps a row for another `lease_us` microseconds.
pub async fn renew(c: &mut Conn, entry: &Entry, lease: &str, lease_us: i64) -> Result<()> {
    Sql::new("UPDATE outbox SET lease_until = $3 WHERE id = $1 AND lease = $2")
        .bind(entry.id)
        .bind(lease)
        .bind(now().saturating_add(lease_us))
        .run(c)
        .await?;
    Ok(())
}

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// In line.
    Done,
    /// Somebody works on it, or will.
    Open,
    /// The last try failed like this, and nobody works on it now.
    Failed(String),
}

/// Where it stands; `None` if it was never put.
pub async fn state(c: &mut Conn, kind: &str, name: &str) -> Result<Option<Progress>> {
    struct Row(Option<i64>, Option<i64>, Option<String>);
    impl FromColumns for Row {
        fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
            Ok(Self(c.take()?, c.take()?, c.take()?))
        }
    }
    let sql = Sql::new("SELECT done_at, lease_until, error FROM outbox WHERE kind = $1 AND name = $2");
    let row: Option<Row> = sql.bind(kind).bind(name).one(c).await?;
    Ok(row.map(|Row(done, lease, error)| match (done, error) {
        (Some(_), _) => Progress::Done,
        (None, Some(error)) if lease.is_none_or(|until| until < now()) => Progress::Failed(error),
        _ => Progress::Open,
    }))
}

/// It is in line with what the tables were at `generation`; what changed since stays due.
pub async fn done(c: &mut Conn, entry: &Entry, lease: &str) -> Result<()> {
    Sql::new(
        "UPDATE outbox SET lease = NULL, lease_until = NULL, cause = NULL, error = NULL, updated_at = $4, \
         attempts = 0, payload = CASE WHEN generation = $3 THEN NULL ELSE payload END, \
         done_at = CASE WHEN generation = $3 THEN $4 ELSE NULL END WHERE id = $1 AND lease = $2",
    )
    .bind(entry.id)
    .bind(lease)
    .bind(entry.generation)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

/// It failed; it is tried again at `due_at`, or at once if the object changed meanwhile.
pub async fn failed(
    c: &mut Conn,
    entry: &Entry,
    lease: &str,
    cause: &str,
    error: &str,
    due_at: i64,
) -> Result<()> {
    Sql::new(
        "UPDATE outbox SET lease = NULL, lease_until = NULL, cause = $3, error = $4, updated_at = $6, \
         due_at = CASE WHEN generation = $7 THEN $5 ELSE due_at END WHERE id = $1 AND lease = $2",
    )
    .bind(entry.id)
    .bind(lease)
    .bind(cause)
    .bind(error)
    .bind(due_at)
    .bind(now())
    .bind(entry.generation)
    .run(c)
    .await?;
    Ok(())
}

/// Makes all pending rows due at once.
pub async fn retry(c: &mut Conn) -> Result<u64> {
    Sql::new("UPDATE outbox SET attempts = 0, due_at = $1, updated_at = $1 WHERE done_at IS NULL")
        .bind(now())
        .run(c)
        .await
}

/// Everything that the tables know of is looked after anew.
pub async fn put_everything(c: &mut Conn) -> Result<u64> {
    let mut rows = 0;
    for sql in [
        concat!(
            everything!(),
            "SELECT 'group', group_name, 1, 0, $1, $1, $1 FROM groups WHERE 1 = 1",
            again!()
        ),
        concat!(
            everything!(),
            "SELECT 'config', config_name, 1, 0, $1, $1, $1 FROM configs WHERE 1 = 1",
            again!()
        ),
        concat!(
            everything!(),
            "SELECT 'robot', name, 1, 0, $1, $1, $1 FROM satellites WHERE 1 = 1",
            again!()
        ),
        concat!(
            everything!(),
            "SELECT 'satellite', name, 1, 0, $1, $1, $1 FROM satellites WHERE 1 = 1",
            again!()
        ),
    ] {
        rows += Sql::new(sql).bind(now()).run(c).await?;
    }
    Ok(rows)
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `Some(true)`: pending ones, `Some(false)`: done ones.
    pub pending: Option<bool>,
    /// Those whose last try failed.
    pub failed: bool,
    /// The kind.
    pub kind: Option<String>,
    /// Part of the name.
    pub q: Option<String>,
}

/// By number, above `after`.
pub async fn page(c: &mut Conn, filter: &Filter, after: i64, limit: i64) -> Result<Vec<Entry>> {
    let mut sql = Sql::new(
        "SELECT id, kind, name, generation, attempts, due_at, lease_until, cause, error, payload, created_at, \
         updated_at, done_at FROM outbox WHERE id > ",
    );
    sql.push("?", [Sql::value(after)]);
    match filter.pending {
        Some(true) => sql.push(" AND done_at IS NULL", []),
        Some(false) => sql.push(" AND done_at IS NOT NULL", []),
        None => &mut sql,
    };
    if filter.failed {
        sql.push(" AND done_at IS NULL AND cause IS NOT NULL", []);
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND kind = ?", [Sql::value(kind)]);
    }
    if let Some(q) = &filter.q {
        sql.push(" AND name LIKE ? ESCAPE '\\'", [Sql::value(like(q))]);
    }
    sql.push(" ORDER BY id LIMIT ?", [Sql::value(limit)]);
    sql.all(c).await
}

/// How many are pending, of these failed at least once, and since when the oldest waits.
pub async fn backlog(c: &mut Conn) -> Result<((i64, i64), i64)> {
    Sql::new("SELECT COUNT(*), COUNT(cause), COALESCE(MIN(updated_at), 0) FROM outbox WHERE done_at IS NULL")
        .just(c)
        .await
}

/// When the next pending row is due, if any.
pub async fn next_due(c: &mut Conn) -> Result<Option<i64>> {
    let due: i64 = Sql::new(
        "SELECT COALESCE(MIN(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END), 0) FROM outbox \
         WHERE done_at IS NULL",
    )
    .just(c)
    .await?;
    Ok((due > 0).then_some(due))
}
