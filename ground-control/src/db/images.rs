//! Which images satellites hold.

use std::collections::BTreeMap;

use super::{Columns, Conn, FromColumns, Result, Sql, now};
use crate::fleet::reference::Parts;

/// Rows of one statement.
const CHUNK: usize = 500;

/// An image as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Number.
    pub id: i64,
    /// As reported.
    pub reference: String,
    /// Config and layers.
    pub size_bytes: i64,
    /// When it was first reported.
    pub created_at: i64,
}

impl FromColumns for Image {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self { id: c.take()?, reference: c.take()?, size_bytes: c.take()?, created_at: c.take()? })
    }
}

/// What a satellite holds, by reference, those after `after`.
pub async fn of_satellite(c: &mut Conn, satellite: i64, after: &str, limit: i64) -> Result<Vec<Image>> {
    Sql::new(
        "SELECT i.id, i.reference, i.size_bytes, i.created_at FROM satellite_images si \
         JOIN images i ON i.id = si.image_id WHERE si.satellite_id = $1 AND i.reference > $2 \
         ORDER BY i.reference LIMIT $3",
    )
    .bind(satellite)
    .bind(after)
    .bind(limit)
    .all(c)
    .await
}

/// Their numbers.
pub async fn ids_of_satellite(c: &mut Conn, satellite: i64) -> Result<Vec<i64>> {
    Sql::new("SELECT image_id FROM satellite_images WHERE satellite_id = $1 ORDER BY image_id")
        .bind(satellite)
        .all(c)
        .await
}

/// What a satellite holds is `held` (reference and size): the first size that anybody reported of a reference stays.
pub async fn replace(c: &mut Conn, satellite: i64, held: &BTreeMap<String, i64>) -> Result<()> {
    let references: Vec<(&String, &i64)> = held.iter().collect();
    let mut ids = Vec::with_capacity(references.len());
    for some in references.chunks(CHUNK) {
        let mut sql = Sql::new(
            "INSERT INTO images (reference, repository, tag, digest, size_bytes, created_at) VALUES ",
        );
        sql.push_rows(
            6,
            some.iter().flat_map(|(reference, size)| {
                let parts = Parts::of(reference);
                [
                    Sql::value(*reference),
                    Sql::value(parts.repository),
                    Sql::value(parts.tag),
                    Sql::value(parts.digest),
                    Sql::value(**size),
                    Sql::value(now()),
                ]
            }),
        );
        sql.push(" ON CONFLICT (reference) DO NOTHING", []);
        sql.run(c).await?;
        let mut sql = Sql::new("SELECT id FROM images WHERE reference IN ");
        sql.push_rows(some.len(), some.iter().map(|(reference, _)| Sql::value(*reference)));
        ids.extend(sql.all::<i64>(c).await?);
    }
    ids.sort_unstable();
    let before = ids_of_satellite(c, satellite).await?;
    let gone: Vec<i64> = before.iter().copied().filter(|id| ids.binary_search(id).is_err()).collect();
    let new: Vec<i64> = ids.into_iter().filter(|id| before.binary_search(id).is_err()).collect();
    for some in gone.chunks(CHUNK) {
        let mut sql = Sql::new("DELETE FROM satellite_images WHERE satellite_id = ");
        sql.push("? AND image_id IN ", [Sql::value(satellite)]);
        sql.push_rows(some.len(), some.iter().map(|id| Sql::value(*id)));
        sql.run(c).await?;
    }
    for some in new.chunks(CHUNK) {
        let mut sql = Sql::new("INSERT INTO satellite_images (satellite_id, image_id) VALUES ");
        sql.push_rows(2, some.iter().flat_map(|id| [Sql::value(satellite), Sql::value(*id)]));
        sql.push(" ON CONFLICT (satellite_id, image_id) DO NOTHING", []);
        sql.run(c).await?;
    }
    Ok(())
}

/// Appends the numbers of the images that `parts` names: `SELECT id FROM images WHERE …`.
pub(super) fn push_matching(sql: &mut Sql, parts: &Parts<'_>) {
    sql.push("SELECT id FROM images WHERE 1 = 1", []);
    if !parts.repository.is_empty() {
        sql.push(" AND repository = ?", [Sql::value(parts.repository)]);
    }
    if !parts.digest.is_empty() {
        sql.push(" AND digest = ?", [Sql::value(parts.digest)]);
    } else if !parts.tag.is_empty() {
        sql.push(" AND tag = ?", [Sql::value(parts.tag)]);
    }
}
