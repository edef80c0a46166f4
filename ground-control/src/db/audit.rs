//! What was done, by whom.

use serde_json::Value;

use super::{Columns, Conn, FromColumns, Result, Sql, json, now};

/// An event as it is stored: what can be asked for in columns, and the whole as JSON.
#[derive(Clone, Debug)]
pub struct Event {
    /// UUID.
    pub event_id: String,
    /// `<resource_type>.<operation>.<outcome>`
    pub event_type: String,
    /// First part of that.
    pub resource_type: String,
    /// Second.
    pub operation: String,
    /// Third.
    pub outcome: String,
    /// Who; may be empty.
    pub actor: String,
    /// On what; may be empty.
    pub resource: String,
    /// All of it.
    pub event: Value,
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Numbers below this.
    pub before: Option<i64>,
    /// The whole type.
    pub event_type: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// On what.
    pub resource: Option<String>,
    /// `success` or `failure`.
    pub outcome: Option<String>,
    /// Microseconds.
    pub since: Option<i64>,
    /// Microseconds.
    pub until: Option<i64>,
}

struct Row(i64, Value);

impl FromColumns for Row {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self(c.take()?, c.json()?))
    }
}

/// Writes one down.
pub async fn insert(c: &mut Conn, event: &Event) -> Result<()> {
    Sql::new(
        "INSERT INTO audit_events (created_at, event_id, event_type, resource_type, operation, outcome, actor, \
         resource, event) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(now())
    .bind(&event.event_id)
    .bind(&event.event_type)
    .bind(&event.resource_type)
    .bind(&event.operation)
    .bind(&event.outcome)
    .bind(&event.actor)
    .bind(&event.resource)
    .bind(json(&event.event)?)
    .run(c)
    .await?;
    Ok(())
}

/// Newest first: number and event.
pub async fn page(c: &mut Conn, filter: &Filter, limit: i64) -> Result<Vec<(i64, Value)>> {
    let mut sql = Sql::new("SELECT id, event FROM audit_events WHERE id < ");
    sql.push("?", [Sql::value(filter.before.unwrap_or(i64::MAX))]);
    for (condition, value) in [
        (" AND event_type = ?", &filter.event_type),
        (" AND actor = ?", &filter.actor),
        (" AND resource = ?", &filter.resource),
        (" AND outcome = ?", &filter.outcome),
    ] {
        if let Some(value) = value {
            sql.push(condition, [Sql::value(value)]);
        }
    }
    for (condition, value) in [(" AND created_at >= ?", filter.since), (" AND created_at < ?", filter.until)]
    {
        if let Some(value) = value {
            sql.push(condition, [Sql::value(value)]);
        }
    }
    sql.push(" ORDER BY id DESC LIMIT ?", [Sql::value(limit)]);
    Ok(sql.all::<Row>(c).await?.into_iter().map(|row| (row.0, row.1)).collect())
}
