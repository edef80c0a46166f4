//! What was published at central.

use super::{Conn, Result, Sql, now};

/// The digest a repository's `latest` has.
pub async fn digest(c: &mut Conn, repository: &str) -> Result<Option<String>> {
    Sql::new("SELECT digest FROM publications WHERE repository = $1").bind(repository).one(c).await
}

/// It was published.
pub async fn put(c: &mut Conn, repository: &str, content_hash: &str, digest: &str) -> Result<()> {
    Sql::new(
        "INSERT INTO publications (repository, content_hash, digest, published_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository) DO UPDATE SET content_hash = $2, digest = $3, published_at = $4",
    )
    .bind(repository)
    .bind(content_hash)
    .bind(digest)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

/// It was removed.
pub async fn delete(c: &mut Conn, repository: &str) -> Result<()> {
    Sql::new("DELETE FROM publications WHERE repository = $1").bind(repository).run(c).await?;
    Ok(())
}
