//! The database: PostgreSQL or SQLite by one SQL. The only place that names sqlx.
//!
//! [`Db`] gives connections to read with ([`Db::read`]) and transactions to change with ([`Db::begin`]); the functions
//! of the files here take either. A file a table (or a few that belong together); rows are plain structs.
//!
//! SQLite has one writer: transactions wait for each other in this process, and for another process's as long as
//! SQLite's busy timeout says. PostgreSQL's run side by side, at READ COMMITTED; what must not race is decided by one
//! statement (`UPDATE … WHERE`), never by a look and a write.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_lock::{Mutex, MutexGuardArc};
use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor,
    any::{AnyPoolOptions, AnyRow},
    pool::PoolConnection,
};

pub mod attempts;
pub mod audit;
pub mod configs;
pub mod embedded;
mod error;
pub mod events;
pub mod groups;
pub mod heartbeats;
pub mod images;
pub mod keys;
mod migrate;
pub mod outbox;
pub mod publications;
pub mod retention;
pub mod robots;
pub mod satellites;
mod sql;
pub mod tokens;
pub mod users;

#[cfg(test)]
pub(crate) mod tests;

pub use error::{Error, Result};
pub use sql::{Sql, like};

/// For a connection out of the pool.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that was idle for so long is asked whether it lives, before anybody relies on it.
const DOUBT: Duration = Duration::from_secs(1);
/// For the database's word that it is there.
const PING: Duration = Duration::from_secs(3);

/// Which database it is, for the few statements that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 15 or later.
    Postgres,
    /// SQLite, built in.
    Sqlite,
}

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    dialect: Dialect,
    /// Held while a transaction of SQLite is open.
    writer: Arc<Mutex<()>>,
}

impl Db {
    /// Connects to `url` (`postgres://…` or `sqlite:PATH`), waiting up to `patience` for a server that is not there yet.
    ///
    /// # Errors
    /// [`Error::Url`] for another scheme, else what the database says.
    pub async fn connect(url: &str, connections: u32, patience: Duration) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let dialect = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Dialect::Postgres,
            Some("sqlite") => Dialect::Sqlite,
            _ => return Err(Error::Url),
        };
        let options = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(1800))
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for >= DOUBT {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let setup = match dialect {
                        // Acknowledged is durable: FULL syncs the log at every commit.
                        Dialect::Sqlite => {
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                             PRAGMA busy_timeout = 10000; PRAGMA cache_size = -1024"
                        }
                        Dialect::Postgres => {
                            "SET statement_timeout = '25s'; SET idle_in_transaction_session_timeout = '30s'"
                        }
                    };
                    connection.execute(setup).await?;
                    Ok(())
                })
            });
        let begun = std::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        let pool = loop {
            match options.clone().connect(url).await {
                Ok(pool) => break pool,
                Err(e) if begun.elapsed() + pause < patience && Error::is_away(&e) => {
                    log::warn!("the database does not answer, trying again: {e}");
                    async_io::Timer::after(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(e) => return Err(e.into()),
            }
        };
        Ok(Self { pool, dialect, writer: Arc::default() })
    }

    /// The URL of a SQLite file.
    pub fn sqlite_url(path: &Path) -> String {
        let path = percent_encoding::utf8_percent_encode(&path.to_string_lossy(), URL_PATH).to_string();
        format!("sqlite://{path}?mode=rwc")
    }

    /// Which it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A connection for reading, or for one statement that changes something.
    pub async fn read(&self) -> Result<PoolConnection<Any>> {
        Ok(self.pool.acquire().await?)
    }

    /// A transaction; rolled back unless [`Tx::commit`] is called.
    pub async fn begin(&self) -> Result<Tx> {
        match self.dialect {
            Dialect::Postgres => Ok(Tx { inner: self.pool.begin().await?, _writer: None }),
            Dialect::Sqlite => {
                let writer = self.writer.lock_arc().await;
                let inner = self.pool.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Tx { inner, _writer: Some(writer) })
            }
        }
    }

    /// Brings the tables up to this program's version; several replicas may do so at once.
    pub async fn migrate(&self) -> Result<migrate::Report> {
        migrate::run(self).await
    }

    /// The version of the tables, and whether that is what this program needs.
    pub async fn version(&self) -> Result<(i64, i64)> {
        Ok((migrate::version(&mut *self.read().await?).await?, migrate::latest()))
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<()> {
        let ping = async {
            let mut connection = self.read().await?;
            sqlx::query("SELECT 1").execute(&mut *connection).await?;
            Ok(())
        };
        let late = async {
            async_io::Timer::after(PING).await;
            Err(Error::Away(sqlx::Error::PoolTimedOut))
        };
        futures_lite::future::or(ping, late).await
    }

    /// A consistent copy of a SQLite database in a new file, while others write.
    pub async fn copy_to(&self, path: &Path) -> Result<()> {
        let mut connection = self.read().await?;
        sqlx::query("VACUUM INTO $1")
            .bind(path.to_string_lossy().into_owned())
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Whether no other connection has this SQLite database open: leaving the log's mode needs that.
    pub async fn is_alone(&self) -> bool {
        let alone = async {
            let mut connection = self.read().await?;
            (&mut *connection).execute("PRAGMA busy_timeout = 500").await?;
            let mode: String = Sql::new("PRAGMA journal_mode = DELETE").just(&mut connection).await?;
            Ok::<_, Error>(mode == "delete")
        };
        alone.await.unwrap_or(false)
    }

    /// Connections open, and of these idle.
    pub fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    /// Ends all connections once they are idle; those that are not within five seconds are cut with the process.
    pub async fn close(&self) {
        futures_lite::future::or(self.pool.close(), async {
            async_io::Timer::after(Duration::from_secs(5)).await;
        })
        .await;
    }
}

const URL_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'?').add(b'#').add(b'%');

/// What queries run on.
pub type Conn = AnyConnection;

/// A transaction.
pub struct Tx {
    inner: sqlx::Transaction<'static, Any>,
    _writer: Option<MutexGuardArc<()>>,
}

impl Tx {
    /// Makes it last.
    pub async fn commit(self) -> Result<()> {
        let Self { inner, _writer } = self;
        Ok(inner.commit().await?)
    }
}

impl Deref for Tx {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.inner
    }
}

/// Now, in the tables' unit: Unix microseconds.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// A duration in the tables' unit.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Columns in order, so that every query reads like its struct.
struct Columns<'a> {
    row: &'a AnyRow,
    at: usize,
}

impl<'a> Columns<'a> {
    fn new(row: &'a AnyRow) -> Self {
        Self { row, at: 0 }
    }

    fn take<T>(&mut self) -> Result<T>
    where
        T: sqlx::Decode<'a, Any> + sqlx::Type<Any>,
    {
        use sqlx::Row;
        let value = self.row.try_get(self.at)?;
        self.at += 1;
        Ok(value)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let text: String = self.take()?;
        serde_json::from_str(&text).map_err(Error::Json)
    }
}

/// A row as a struct.
trait FromColumns: Sized {
    fn from_columns(columns: &mut Columns<'_>) -> Result<Self>;
}

impl FromColumns for i64 {
    fn from_columns(columns: &mut Columns<'_>) -> Result<Self> {
        columns.take()
    }
}

impl FromColumns for String {
    fn from_columns(columns: &mut Columns<'_>) -> Result<Self> {
        columns.take()
    }
}

impl<A: FromColumns, B: FromColumns> FromColumns for (A, B) {
    fn from_columns(columns: &mut Columns<'_>) -> Result<Self> {
        Ok((A::from_columns(columns)?, B::from_columns(columns)?))
    }
}

/// JSON text for a column.
fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::Json)
}
