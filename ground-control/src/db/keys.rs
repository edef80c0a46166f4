//! Keys that all replicas share.

use super::{Conn, Result, Sql};

/// The key of that name; `fresh` becomes it if there is none yet.
pub async fn get_or_put(c: &mut Conn, name: &str, fresh: &str) -> Result<String> {
    Sql::new("INSERT INTO server_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(fresh)
        .run(c)
        .await?;
    Sql::new("SELECT value FROM server_keys WHERE name = $1").bind(name).just(c).await
}
