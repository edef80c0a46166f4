//! Configurations, and which satellite has which.

use serde_json::Value;

use super::{Columns, Conn, FromColumns, Result, Sql, json, like, now};

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Number.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// Central's URL when it was written.
    pub registry_url: String,
    /// As it is published.
    pub config: Value,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

impl FromColumns for Config {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            name: c.take()?,
            registry_url: c.take()?,
            config: c.json()?,
            created_at: c.take()?,
            updated_at: c.take()?,
        })
    }
}

/// The one with this name.
pub async fn by_name(c: &mut Conn, name: &str) -> Result<Option<Config>> {
    Sql::new(
        "SELECT id, config_name, registry_url, config, created_at, updated_at FROM configs WHERE config_name = $1",
    )
    .bind(name)
    .one(c)
    .await
}

/// By number, those above `after` whose name contains `q`.
pub async fn page(c: &mut Conn, after: i64, q: Option<&str>, limit: i64) -> Result<Vec<Config>> {
    Sql::new(
        "SELECT id, config_name, registry_url, config, created_at, updated_at FROM configs \
         WHERE id > $1 AND config_name LIKE $2 ESCAPE '\\' ORDER BY id LIMIT $3",
    )
    .bind(after)
    .bind(like(q.unwrap_or_default()))
    .bind(limit)
    .all(c)
    .await
}

/// A new one.
///
/// # Errors
/// [`Conflict`](super::Error::Conflict) if the name is taken.
pub async fn insert(c: &mut Conn, name: &str, registry_url: &str, config: &Value) -> Result<i64> {
    Sql::new(
        "INSERT INTO configs (config_name, registry_url, config, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $4) RETURNING id",
    )
    .bind(name)
    .bind(registry_url)
    .bind(json(config)?)
    .bind(now())
    .just(c)
    .await
}

/// Replaces its content, unless somebody else did since `seen` was read. `false`: somebody did.
pub async fn update(c: &mut Conn, seen: &Config, registry_url: &str, config: &Value) -> Result<bool> {
    let at = now().max(seen.updated_at + 1);
    let changed = Sql::new(
        "UPDATE configs SET config = $1, registry_url = $2, updated_at = $3 WHERE id = $4 AND updated_at = $5",
    )
    .bind(json(config)?)
    .bind(registry_url)
    .bind(at)
    .bind(seen.id)
    .bind(seen.updated_at)
    .run(c)
    .await?;
    Ok(changed > 0)
}

/// Removes it.
///
/// # Errors
/// [`Reference`](super::Error::Reference) while a satellite has it.
pub async fn delete(c: &mut Conn, id: i64) -> Result<()> {
    Sql::new("DELETE FROM configs WHERE id = $1").bind(id).run(c).await?;
    Ok(())
}

/// Gives it to a satellite, in place of what it had.
pub async fn assign(c: &mut Conn, satellite: i64, config: i64) -> Result<()> {
    Sql::new(
        "INSERT INTO satellite_configs (satellite_id, config_id) VALUES ($1, $2) \
         ON CONFLICT (satellite_id) DO UPDATE SET config_id = $2",
    )
    .bind(satellite)
    .bind(config)
    .run(c)
    .await?;
    Ok(())
}

/// How many satellites have it.
pub async fn users(c: &mut Conn, id: i64) -> Result<i64> {
    Sql::new("SELECT COUNT(*) FROM satellite_configs WHERE config_id = $1").bind(id).just(c).await
}

/// The name of a satellite's.
pub async fn of_satellite(c: &mut Conn, satellite: i64) -> Result<Option<String>> {
    Sql::new(
        "SELECT k.config_name FROM satellite_configs sc JOIN configs k ON k.id = sc.config_id \
         WHERE sc.satellite_id = $1",
    )
    .bind(satellite)
    .one(c)
    .await
}
