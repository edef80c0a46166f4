//! Groups, what they want, and who is in them.

use serde_json::Value;

use super::{Columns, Conn, FromColumns, Result, Sql, json, like, now};

/// A group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Number.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// Central's URL when it was written.
    pub registry_url: String,
    /// First parts of its repositories, sorted.
    pub projects: Vec<String>,
    /// The `artifacts` as they are published.
    pub artifacts: Value,
    /// Which satellites are in it by their labels, beside those that were put in.
    pub selector: Option<String>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

impl FromColumns for Group {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            name: c.take()?,
            registry_url: c.take()?,
            projects: c.json()?,
            artifacts: c.json()?,
            selector: c.take()?,
            created_at: c.take()?,
            updated_at: c.take()?,
        })
    }
}

/// An image that a group wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// With its project.
    pub repository: String,
    /// Empty if it is named by digest only.
    pub tag: String,
    /// Empty if the group does not say.
    pub digest: String,
}

impl FromColumns for Wanted {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self { repository: c.take()?, tag: c.take()?, digest: c.take()? })
    }
}

/// The one with this name.
pub async fn by_name(c: &mut Conn, name: &str) -> Result<Option<Group>> {
    Sql::new(
        "SELECT id, group_name, registry_url, projects, artifacts, selector, created_at, updated_at \
         FROM groups WHERE group_name = $1",
    )
    .bind(name)
    .one(c)
    .await
}

/// By number, those above `after` whose name contains `q`.
pub async fn page(c: &mut Conn, after: i64, q: Option<&str>, limit: i64) -> Result<Vec<Group>> {
    Sql::new(
        "SELECT id, group_name, registry_url, projects, '[]', selector, created_at, updated_at FROM groups \
         WHERE id > $1 AND group_name LIKE $2 ESCAPE '\\' ORDER BY id LIMIT $3",
    )
    .bind(after)
    .bind(like(q.unwrap_or_default()))
    .bind(limit)
    .all(c)
    .await
}

/// Makes the group, or replaces what it wants. Gives it, and whether its projects are others than before.
pub async fn put(
    c: &mut Conn,
    name: &str,
    registry_url: &str,
    projects: &[String],
    artifacts: &Value,
    wanted: &[Wanted],
) -> Result<(Group, bool)> {
    let before: Option<String> =
        Sql::new("SELECT projects FROM groups WHERE group_name = $1").bind(name).one(c).await?;
    let text = json(&projects)?;
    let id: i64 = Sql::new(
        "INSERT INTO groups (group_name, registry_url, projects, artifacts, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (group_name) DO UPDATE SET \
         registry_url = $2, projects = $3, artifacts = $4, updated_at = $5 RETURNING id",
    )
    .bind(name)
    .bind(registry_url)
    .bind(&text)
    .bind(json(artifacts)?)
    .bind(now())
    .just(c)
    .await?;
    Sql::new("DELETE FROM group_images WHERE group_id = $1").bind(id).run(c).await?;
    for some in wanted.chunks(500) {
        let mut sql = Sql::new("INSERT INTO group_images (group_id, repository, tag, digest) VALUES ");
        sql.push_rows(
            4,
            some.iter().flat_map(|w| {
                [Sql::value(id), Sql::value(&w.repository), Sql::value(&w.tag), Sql::value(&w.digest)]
            }),
        );
        sql.push(" ON CONFLICT (group_id, repository, tag) DO UPDATE SET digest = excluded.digest", []);
        sql.run(c).await?;
    }
    let group = by_name(c, name).await?.ok_or(super::Error::Reference)?;
    Ok((group, before.is_none_or(|b| b != text)))
}

/// Removes it.
pub async fn delete(c: &mut Conn, id: i64) -> Result<()> {
    Sql::new("DELETE FROM groups WHERE id = $1").bind(id).run(c).await?;
    Ok(())
}

/// Sets or removes its selector.
pub async fn set_selector(c: &mut Conn, id: i64, selector: Option<&str>) -> Result<()> {
    Sql::new("UPDATE groups SET selector = $1, updated_at = $2 WHERE id = $3")
        .bind(selector)
        .bind(now())
        .bind(id)
        .run(c)
        .await?;
    Ok(())
}

/// Those that have a selector: number and selector.
pub async fn with_selector(c: &mut Conn) -> Result<Vec<(i64, String)>> {
    Sql::new("SELECT id, selector FROM groups WHERE selector IS NOT NULL ORDER BY id").all(c).await
}

/// Puts a satellite into it. `false`: it is in it already. One put in by hand stays whatever the selector says.
pub async fn add_member(c: &mut Conn, group: i64, satellite: i64, by_selector: bool) -> Result<bool> {
    let added = Sql::new(
        "INSERT INTO satellite_groups (satellite_id, group_id, by_selector) VALUES ($1, $2, $3) \
         ON CONFLICT (satellite_id, group_id) DO NOTHING",
    )
    .bind(satellite)
    .bind(group)
    .bind(by_selector)
    .run(c)
    .await?
        > 0;
    if !added && !by_selector {
        Sql::new("UPDATE satellite_groups SET by_selector = 0 WHERE satellite_id = $1 AND group_id = $2")
            .bind(satellite)
            .bind(group)
            .run(c)
            .await?;
    }
    Ok(added)
}

/// Takes a satellite out. `false`: it was not in it.
pub async fn remove_member(c: &mut Conn, group: i64, satellite: i64) -> Result<bool> {
    let sql = Sql::new("DELETE FROM satellite_groups WHERE satellite_id = $1 AND group_id = $2");
    Ok(sql.bind(satellite).bind(group).run(c).await? > 0)
}

/// Names of all groups of a satellite, by group number.
pub async fn of_satellite(c: &mut Conn, satellite: i64) -> Result<Vec<String>> {
    Sql::new(
        "SELECT g.group_name FROM satellite_groups sg JOIN groups g ON g.id = sg.group_id \
         WHERE sg.satellite_id = $1 ORDER BY g.id",
    )
    .bind(satellite)
    .all(c)
    .await
}

/// Projects of all groups of a satellite, each a JSON list.
pub async fn projects_of_satellite(c: &mut Conn, satellite: i64) -> Result<Vec<String>> {
    Sql::new(
        "SELECT g.projects FROM satellite_groups sg JOIN groups g ON g.id = sg.group_id \
         WHERE sg.satellite_id = $1 ORDER BY g.id",
    )
    .bind(satellite)
    .all(c)
    .await
}

/// What all groups of a satellite want.
pub async fn wanted_by_satellite(c: &mut Conn, satellite: i64) -> Result<Vec<Wanted>> {
    Sql::new(
        "SELECT DISTINCT gi.repository, gi.tag, gi.digest FROM satellite_groups sg \
         JOIN group_images gi ON gi.group_id = sg.group_id WHERE sg.satellite_id = $1 \
         ORDER BY gi.repository, gi.tag",
    )
    .bind(satellite)
    .all(c)
    .await
}

/// Digests that the groups of a satellite have at central: name and digest.
pub async fn published_of_satellite(c: &mut Conn, satellite: i64) -> Result<Vec<(String, String)>> {
    Sql::new(
        "SELECT g.group_name, p.digest FROM satellite_groups sg JOIN groups g ON g.id = sg.group_id \
         JOIN publications p ON p.repository = 'satellite/group-state/' || g.group_name || '/state' \
         WHERE sg.satellite_id = $1 ORDER BY g.id",
    )
    .bind(satellite)
    .all(c)
    .await
}
