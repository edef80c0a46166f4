//! Users and their sessions.

use super::{Columns, Conn, FromColumns, Result, Sql, like, now};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Number.
    pub id: i64,
    /// Unique.
    pub username: String,
    /// A PHC string.
    pub password_hash: String,
    /// `system_admin` or `admin`.
    pub role: String,
    /// Microseconds.
    pub created_at: i64,
}

impl FromColumns for User {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            username: c.take()?,
            password_hash: c.take()?,
            role: c.take()?,
            created_at: c.take()?,
        })
    }
}

/// The one with this name.
pub async fn by_name(c: &mut Conn, username: &str) -> Result<Option<User>> {
    Sql::new("SELECT id, username, password_hash, role, created_at FROM users WHERE username = $1")
        .bind(username)
        .one(c)
        .await
}

/// Those of role `admin`, newest first, with numbers below `before`, whose name contains `q`.
pub async fn page(c: &mut Conn, before: Option<i64>, q: Option<&str>, limit: i64) -> Result<Vec<User>> {
    Sql::new(
        "SELECT id, username, password_hash, role, created_at FROM users WHERE role = 'admin' AND id < $1 \
         AND username LIKE $2 ESCAPE '\\' ORDER BY id DESC LIMIT $3",
    )
    .bind(before.unwrap_or(i64::MAX))
    .bind(like(q.unwrap_or_default()))
    .bind(limit)
    .all(c)
    .await
}

/// How many have this role.
pub async fn count(c: &mut Conn, role: &str) -> Result<i64> {
    Sql::new("SELECT COUNT(*) FROM users WHERE role = $1").bind(role).just(c).await
}

/// A new one.
///
/// # Errors
/// [`Conflict`](super::Error::Conflict) if the name is taken.
pub async fn insert(c: &mut Conn, username: &str, password_hash: &str, role: &str) -> Result<User> {
    let at = now();
    let id = Sql::new(
        "INSERT INTO users (username, password_hash, role, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
         RETURNING id",
    )
    .bind(username)
    .bind(password_hash)
    .bind(role)
    .bind(at)
    .just(c)
    .await?;
    Ok(User {
        id,
        username: username.into(),
        password_hash: password_hash.into(),
        role: role.into(),
        created_at: at,
    })
}

/// Removes it, with its sessions.
pub async fn delete(c: &mut Conn, id: i64) -> Result<bool> {
    Ok(Sql::new("DELETE FROM users WHERE id = $1").bind(id).run(c).await? > 0)
}

/// Sets its password and ends all its sessions.
pub async fn set_password(c: &mut Conn, id: i64, password_hash: &str) -> Result<()> {
    Sql::new("UPDATE users SET password_hash = $1, updated_at = $2 WHERE id = $3")
        .bind(password_hash)
        .bind(now())
        .bind(id)
        .run(c)
        .await?;
    Sql::new("DELETE FROM sessions WHERE user_id = $1").bind(id).run(c).await?;
    Ok(())
}

/// A new session, known by the hash of its token.
pub async fn insert_session(c: &mut Conn, user: i64, token_hash: &str, expires_at: i64) -> Result<()> {
    Sql::new("INSERT INTO sessions (user_id, token_hash, expires_at, created_at) VALUES ($1, $2, $3, $4)")
        .bind(user)
        .bind(token_hash)
        .bind(expires_at)
        .bind(now())
        .run(c)
        .await?;
    Ok(())
}

/// Whose session it is, while it lasts.
pub async fn by_session(c: &mut Conn, token_hash: &str) -> Result<Option<User>> {
    Sql::new(
        "SELECT u.id, u.username, u.password_hash, u.role, u.created_at FROM sessions s \
         JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1 AND s.expires_at > $2",
    )
    .bind(token_hash)
    .bind(now())
    .one(c)
    .await
}

/// Ends a session.
pub async fn delete_session(c: &mut Conn, token_hash: &str) -> Result<bool> {
    Ok(Sql::new("DELETE FROM sessions WHERE token_hash = $1").bind(token_hash).run(c).await? > 0)
}
