//! Satellites, their labels, and the ways to look for them.

use std::collections::BTreeMap;

use super::{Columns, Conn, FromColumns, Result, Sql, images, json, like, now};
use crate::fleet::{
    health::{Standing, State, Thresholds},
    reference::Parts,
    selector::{Requirement, Selector},
};

/// Labels: names and values.
pub type Labels = BTreeMap<String, String>;

/// A satellite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Satellite {
    /// Number.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// What it may do.
    pub standing: Standing,
    /// For selectors.
    pub labels: Labels,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
    /// `None`: never.
    pub last_seen: Option<i64>,
    /// As it reported, normalised.
    pub interval: Option<String>,
    /// That in microseconds.
    pub interval_us: Option<i64>,
    /// What it said last.
    pub activity: Option<String>,
    /// The state it runs.
    pub state_digest: Option<String>,
    /// The configuration it runs.
    pub config_digest: Option<String>,
    /// What is wrong with it, as a stable code; `None`: nothing.
    pub error_cause: Option<String>,
    /// The same for people.
    pub error_message: Option<String>,
}

impl FromColumns for Satellite {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            name: c.take()?,
            standing: Standing::from_text(&c.take::<String>()?),
            labels: c.json()?,
            created_at: c.take()?,
            updated_at: c.take()?,
            last_seen: c.take()?,
            interval: c.take()?,
            interval_us: c.take()?,
            activity: c.take()?,
            state_digest: c.take()?,
            config_digest: c.take()?,
            error_cause: c.take()?,
            error_message: c.take()?,
        })
    }
}

const COLUMNS: &str = "SELECT s.id, s.name, s.standing, s.labels, s.created_at, s.updated_at, h.last_seen, \
                       h.heartbeat_interval, h.interval_us, h.activity, h.state_digest, h.config_digest, \
                       h.error_cause, h.error_message \
                       FROM satellites s LEFT JOIN heartbeats h ON h.satellite_id = s.id WHERE ";

/// What to look for; all of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Part of the name.
    pub q: Option<String>,
    /// Labels.
    pub selector: Selector,
    /// Name of a group it is in.
    pub group: Option<String>,
    /// Name of the configuration it has.
    pub config: Option<String>,
    /// How it is, at a time, by thresholds.
    pub state: Option<(State, i64, Thresholds)>,
    /// An image that it holds (`true`) or lacks.
    pub image: Option<(String, bool)>,
    /// An image that one of its groups wants.
    pub wants: Option<String>,
    /// What is wrong with it: a cause code, or its first part.
    pub cause: Option<String>,
    /// Other digests than it should run.
    pub drifted: bool,
}

/// Whether rows come by number or by name.
fn conditions(sql: &mut Sql, filter: &Filter) {
    if let Some(q) = &filter.q {
        sql.push(" AND s.name LIKE ? ESCAPE '\\'", [Sql::value(like(q))]);
    }
    for requirement in filter.selector.requirements() {
        push_requirement(sql, requirement);
    }
    if let Some(group) = &filter.group {
        sql.push(
            " AND EXISTS (SELECT 1 FROM satellite_groups sg JOIN groups g ON g.id = sg.group_id \
             WHERE sg.satellite_id = s.id AND g.group_name = ?)",
            [Sql::value(group)],
        );
    }
    if let Some(config) = &filter.config {
        sql.push(
            " AND EXISTS (SELECT 1 FROM satellite_configs sc JOIN configs k ON k.id = sc.config_id \
             WHERE sc.satellite_id = s.id AND k.config_name = ?)",
            [Sql::value(config)],
        );
    }
    if let Some((state, at, thresholds)) = &filter.state {
        push_state(sql, *state, *at, thresholds);
    }
    if let Some((reference, held)) = &filter.image {
        let parts = Parts::of(reference);
        let open = if *held { " AND " } else { " AND NOT " };
        sql.push(open, []);
        sql.push(
            "EXISTS (SELECT 1 FROM satellite_images si WHERE si.satellite_id = s.id AND si.image_id IN (",
            [],
        );
        images::push_matching(sql, &parts);
        sql.push("))", []);
    }
    if let Some(reference) = &filter.wants {
        let parts = Parts::of(reference);
        sql.push(
            " AND EXISTS (SELECT 1 FROM satellite_groups sg JOIN group_images gi ON gi.group_id = sg.group_id \
             WHERE sg.satellite_id = s.id",
            [],
        );
        if !parts.repository.is_empty() {
            sql.push(" AND gi.repository = ?", [Sql::value(parts.repository)]);
        }
        if !parts.tag.is_empty() {
            sql.push(" AND gi.tag = ?", [Sql::value(parts.tag)]);
        }
        if !parts.digest.is_empty() {
            sql.push(" AND gi.digest = ?", [Sql::value(parts.digest)]);
        }
        sql.push(")", []);
    }
    if let Some(cause) = &filter.cause {
        sql.push(
            " AND (h.error_cause = ? OR h.error_cause LIKE ? ESCAPE '\\')",
            [Sql::value(cause), Sql::value(format!("{}.%", like(cause).trim_matches('%')))],
        );
    }
    if filter.drifted {
        sql.push(
            " AND h.last_seen IS NOT NULL AND (EXISTS (SELECT 1 FROM publications p \
             WHERE p.repository = 'satellite/satellite-state/' || s.name || '/state' \
             AND p.digest <> COALESCE(h.state_digest, '')) \
             OR EXISTS (SELECT 1 FROM satellite_configs sc JOIN configs k ON k.id = sc.config_id \
             JOIN publications p ON p.repository = 'satellite/config-state/' || k.config_name || '/state' \
             WHERE sc.satellite_id = s.id AND p.digest <> COALESCE(h.config_digest, '')))",
            [],
        );
    }
}

fn push_requirement(sql: &mut Sql, requirement: &Requirement) {
    let (not, name, values) = match requirement {
        Requirement::In(name, values) => (false, name, Some(values)),
        Requirement::NotIn(name, values) => (true, name, Some(values)),
        Requirement::Exists(name) => (false, name, None),
        Requirement::Absent(name) => (true, name, None),
    };
    sql.push(if not { " AND NOT " } else { " AND " }, []);
    sql.push(
        "EXISTS (SELECT 1 FROM satellite_labels l WHERE l.satellite_id = s.id AND l.name = ?",
        [Sql::value(name)],
    );
    if let Some(values) = values {
        sql.push(" AND l.value IN ", []);
        sql.push_rows(values.len(), values.iter().map(Sql::value));
    }
    sql.push(")", []);
}

fn push_state(sql: &mut Sql, state: State, at: i64, thresholds: &Thresholds) {
    match state {
        State::Suspended | State::Revoked => {
            sql.push(" AND s.standing = ?", [Sql::value(state.as_str())]);
        }
        State::Pending => {
            sql.push(" AND s.standing = 'active' AND h.last_seen IS NULL", []);
        }
        State::Online => {
            sql.push(
                " AND s.standing = 'active' AND h.last_seen >= ? - COALESCE(h.interval_us * 3, ?)",
                [Sql::value(at), Sql::value(thresholds.without_interval)],
            );
        }
        State::Stale => {
            sql.push(
                " AND s.standing = 'active' AND h.last_seen < ? - COALESCE(h.interval_us * 3, ?) \
                 AND (h.last_seen >= ? OR h.last_seen >= ? - 2 * COALESCE(h.interval_us * 3, ?))",
                [
                    Sql::value(at),
                    Sql::value(thresholds.without_interval),
                    Sql::value(at.saturating_sub(thresholds.offline)),
                    Sql::value(at),
                    Sql::value(thresholds.without_interval),
                ],
            );
        }
        State::Offline => {
            sql.push(
                " AND s.standing = 'active' AND h.last_seen < ? \
                 AND h.last_seen < ? - 2 * COALESCE(h.interval_us * 3, ?)",
                [
                    Sql::value(at.saturating_sub(thresholds.offline)),
                    Sql::value(at),
                    Sql::value(thresholds.without_interval),
                ],
            );
        }
    }
}

/// By number, those above `after`.
pub async fn page(c: &mut Conn, filter: &Filter, after: i64, limit: i64) -> Result<Vec<Satellite>> {
    let mut sql = Sql::new(COLUMNS);
    sql.push("s.id > ?", [Sql::value(after)]);
    conditions(&mut sql, filter);
    sql.push(" ORDER BY s.id LIMIT ?", [Sql::value(limit)]);
    sql.all(c).await
}

/// How many there are.
pub async fn count(c: &mut Conn, filter: &Filter) -> Result<i64> {
    let mut sql = Sql::new(
        "SELECT COUNT(*) FROM satellites s LEFT JOIN heartbeats h ON h.satellite_id = s.id WHERE 1 = 1",
    );
    conditions(&mut sql, filter);
    sql.just(c).await
}

/// Seen within three of its intervals, or 15 minutes where it told none, before `at`. Ordered by number, above `after`.
pub async fn active(c: &mut Conn, at: i64, after: i64, limit: i64) -> Result<Vec<Satellite>> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(
        "s.id > ? AND h.last_seen >= ? - COALESCE(h.interval_us * 3, 900000000) ORDER BY s.id LIMIT ?",
        [Sql::value(after), Sql::value(at), Sql::value(limit)],
    );
    sql.all(c).await
}

/// Seen before, but not within three of the intervals it told.
pub async fn stale(c: &mut Conn, at: i64, after: i64, limit: i64) -> Result<Vec<Satellite>> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(
        "s.id > ? AND h.interval_us IS NOT NULL AND h.last_seen < ? - h.interval_us * 3 ORDER BY s.id LIMIT ?",
        [Sql::value(after), Sql::value(at), Sql::value(limit)],
    );
    sql.all(c).await
}

/// The one with this name.
pub async fn by_name(c: &mut Conn, name: &str) -> Result<Option<Satellite>> {
    let mut sql = Sql::new(COLUMNS);
    sql.push("s.name = ?", [Sql::value(name)]);
    sql.one(c).await
}

/// Members of a group, in the order they came in by number, above `after`.
pub async fn of_group(c: &mut Conn, group: i64, after: i64, limit: i64) -> Result<Vec<Satellite>> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(
        "s.id > ? AND s.id IN (SELECT satellite_id FROM satellite_groups WHERE group_id = ?) ORDER BY s.id LIMIT ?",
        [Sql::value(after), Sql::value(group), Sql::value(limit)],
    );
    sql.all(c).await
}

/// A new one, with its labels and an empty heartbeat.
///
/// # Errors
/// [`Conflict`](super::Error::Conflict) if the name is taken.
pub async fn insert(c: &mut Conn, name: &str, labels: &Labels) -> Result<i64> {
    let id: i64 = Sql::new(
        "INSERT INTO satellites (name, standing, labels, created_at, updated_at) \
         VALUES ($1, 'active', '{}', $2, $2) RETURNING id",
    )
    .bind(name)
    .bind(now())
    .just(c)
    .await?;
    Sql::new("INSERT INTO heartbeats (satellite_id) VALUES ($1)").bind(id).run(c).await?;
    if !labels.is_empty() {
        set_labels(c, id, labels).await?;
    }
    Ok(id)
}

/// Replaces its labels.
pub async fn set_labels(c: &mut Conn, id: i64, labels: &Labels) -> Result<()> {
    Sql::new("UPDATE satellites SET labels = $1, updated_at = $2 WHERE id = $3")
        .bind(json(labels)?)
        .bind(now())
        .bind(id)
        .run(c)
        .await?;
    Sql::new("DELETE FROM satellite_labels WHERE satellite_id = $1").bind(id).run(c).await?;
    if !labels.is_empty() {
        let mut sql = Sql::new("INSERT INTO satellite_labels (satellite_id, name, value) VALUES ");
        sql.push_rows(3, labels.iter().flat_map(|(k, v)| [Sql::value(id), Sql::value(k), Sql::value(v)]));
        sql.run(c).await?;
    }
    Ok(())
}

/// Sets what it may do.
pub async fn set_standing(c: &mut Conn, id: i64, standing: Standing) -> Result<()> {
    Sql::new("UPDATE satellites SET standing = $1, updated_at = $2 WHERE id = $3")
        .bind(standing.as_str())
        .bind(now())
        .bind(id)
        .run(c)
        .await?;
    Ok(())
}

/// The public key of its device; base64.
pub async fn device_key(c: &mut Conn, id: i64) -> Result<Option<String>> {
    let sql = Sql::new("SELECT device_key FROM satellites WHERE id = $1 AND device_key IS NOT NULL");
    sql.bind(id).one(c).await
}

/// Another device, or none.
pub async fn set_device_key(c: &mut Conn, id: i64, key: Option<&str>) -> Result<()> {
    Sql::new("UPDATE satellites SET device_key = $2 WHERE id = $1").bind(id).bind(key).run(c).await?;
    Ok(())
}

/// Removes it with all that belongs to it.
pub async fn delete(c: &mut Conn, id: i64) -> Result<bool> {
    Ok(Sql::new("DELETE FROM satellites WHERE id = $1").bind(id).run(c).await? > 0)
}

/// How many are how, at `at`: rows of standing, whether seen, and of these online and stale.
pub async fn census(c: &mut Conn, at: i64, thresholds: &Thresholds) -> Result<Vec<(State, i64)>> {
    let mut counts = Vec::new();
    for state in State::ALL {
        let filter = Filter { state: Some((state, at, *thresholds)), ..Filter::default() };
        counts.push((state, count(c, &filter).await?));
    }
    Ok(counts)
}

/// Brings a group's members in line with its selector: gives the names of those who came or went.
pub async fn reselect_group(c: &mut Conn, group: i64, selector: Option<&Selector>) -> Result<Vec<String>> {
    let filter = Filter { selector: selector.cloned().unwrap_or_default(), ..Filter::default() };
    let mut changed = Vec::new();
    let mut sql = Sql::new(
        "SELECT s.name FROM satellites s JOIN satellite_groups m ON m.satellite_id = s.id \
         WHERE m.by_selector = 1 AND m.group_id = ",
    );
    sql.push("?", [Sql::value(group)]);
    let chosen = |sql: &mut Sql| {
        sql.push(" AND s.id NOT IN (SELECT s.id FROM satellites s WHERE 1 = 1", []);
        conditions(sql, &filter);
        sql.push(")", []);
    };
    if selector.is_some() {
        chosen(&mut sql);
    }
    changed.extend(sql.all::<String>(c).await?);
    for some in changed.chunks(500) {
        let mut sql = Sql::new("DELETE FROM satellite_groups WHERE by_selector = 1 AND group_id = ");
        sql.push("? AND satellite_id IN (SELECT id FROM satellites WHERE name IN ", [Sql::value(group)]);
        sql.push_rows(some.len(), some.iter().map(Sql::value));
        sql.push(")", []);
        sql.run(c).await?;
    }
    if selector.is_some() {
        let mut sql = Sql::new("SELECT s.id, s.name FROM satellites s WHERE 1 = 1");
        conditions(&mut sql, &filter);
        sql.push(
            " AND NOT EXISTS (SELECT 1 FROM satellite_groups m WHERE m.satellite_id = s.id AND m.group_id = ?) \
             ORDER BY s.id",
            [Sql::value(group)],
        );
        let new: Vec<(i64, String)> = sql.all(c).await?;
        for some in new.chunks(500) {
            let mut sql =
                Sql::new("INSERT INTO satellite_groups (satellite_id, group_id, by_selector) VALUES ");
            sql.push_rows(
                3,
                some.iter().flat_map(|(id, _)| [Sql::value(*id), Sql::value(group), Sql::value(true)]),
            );
            sql.push(" ON CONFLICT (satellite_id, group_id) DO NOTHING", []);
            sql.run(c).await?;
        }
        changed.extend(new.into_iter().map(|(_, name)| name));
    }
    Ok(changed)
}

/// Brings the groups of a satellite in line with its labels. Whether any came or went.
pub async fn reselect_satellite(c: &mut Conn, id: i64, labels: &Labels) -> Result<bool> {
    let mut changed = false;
    for (group, text) in super::groups::with_selector(c).await? {
        let Ok(selector) = text.parse::<Selector>() else { continue };
        if selector.matches(labels) {
            changed |= super::groups::add_member(c, group, id, true).await?;
        } else {
            let sql = Sql::new(
                "DELETE FROM satellite_groups WHERE satellite_id = $1 AND group_id = $2 AND by_selector = 1",
            );
            changed |= sql.bind(id).bind(group).run(c).await? > 0;
        }
    }
    Ok(changed)
}
