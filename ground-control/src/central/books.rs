//! What the embedded registry asks of the rest of the server.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::Result;

/// A robot account of the embedded registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotRecord {
    /// Its id.
    pub id: String,
    /// The name it logs in with; unique.
    pub login: String,
    /// Projects it may pull from.
    pub projects: BTreeSet<String>,
    /// Keyed or plain digest of its secret, lower-case hex; the book does not look into it.
    pub secret_digest: String,
    /// Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
}

/// Where robots of the embedded registry are kept, durably.
#[async_trait]
pub trait RobotBook: Send + Sync {
    /// By id.
    async fn by_id(&self, id: &str) -> Result<Option<RobotRecord>>;
    /// By login.
    async fn by_login(&self, login: &str) -> Result<Option<RobotRecord>>;
    /// Writes it, in place of one of the same id. A login that another id has is refused for good (`conflict`).
    async fn put(&self, record: &RobotRecord) -> Result<()>;
    /// Absent is fine.
    async fn remove(&self, id: &str) -> Result<()>;
    /// All of them, by login.
    async fn all(&self) -> Result<Vec<RobotRecord>>;
}

/// Users of the server, who may push images to the embedded registry with their password.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Whether name and password are right. Counts wrong ones towards the lockout, and remembers right ones for a while.
    async fn verify(&self, user: &str, password: &str) -> Result<bool>;
}
