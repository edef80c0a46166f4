//! Where state artifacts and robot accounts live: [`Central`], and what stands behind it.
//!
//! | file | is |
//! |---|---|
//! | `error` | why central did not do it, and whether to try again |
//! | `harbor` | Harbor: REST API and registry |
//! | `plain` | any OCI registry with one credential for all |
//! | `embedded` | a store and a registry of this server's own |
//! | `push` | a state artifact into a registry, for the first two |
//! | `books` | what the embedded registry asks of the rest of the server: robots' records and users' passwords |
//!
//! Nothing here names SQL or axum; the outbox and the API know no more of a registry than this trait.

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use satellite_core::remote::Secret;

mod books;
mod embedded;
mod error;
mod harbor;
mod plain;
mod push;

pub use books::{Accounts, RobotBook, RobotRecord};
pub use embedded::Embedded;
pub use error::{Error, Result};
pub use harbor::{Harbor, HarborSettings};
pub use plain::{Plain, PlainSettings};

/// The rights a robot account shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotWant {
    /// Name without any prefix: the satellite's.
    pub name: String,
    /// Projects it may pull from; nothing else is granted.
    pub projects: BTreeSet<String>,
    /// Days from now until it expires.
    pub days: u32,
    /// Its id, where one was made before.
    pub known_id: Option<String>,
}

/// A robot account as it is now.
#[derive(Clone, Debug)]
pub struct Robot {
    /// Central's id of it.
    pub id: String,
    /// The name it logs in with, prefix included.
    pub login: String,
    /// Only where it was newly made or rotated.
    pub secret: Option<Secret>,
    /// Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
}

/// One line of the list of robots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotRow {
    /// Central's id.
    pub id: String,
    /// The name it logs in with.
    pub login: String,
    /// Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
}

/// How central is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, and says that it is well.
    Well,
    /// It answers, and is not well; which parts, or why.
    Ill(String),
    /// No answer; why.
    Away(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("well"),
            Self::Ill(why) => write!(f, "ill: {why}"),
            Self::Away(why) => write!(f, "away: {why}"),
        }
    }
}

/// The registry that is the truth, and its robot accounts. Every call is idempotent and bounded in time; a call that
/// failed may have been done.
#[async_trait]
pub trait Central: Send + Sync {
    /// Base URL that satellites are told and state URLs begin with: `scheme://host[:port]`, no slash at its end.
    fn url(&self) -> &str;

    /// Makes the project unless it is there.
    async fn ensure_project(&self, name: &str, public: bool) -> Result<()>;

    /// Whether it is there.
    async fn project_exists(&self, name: &str) -> Result<bool>;

    /// Makes the robot, or brings the one of that id or name to these rights. The secret is only in the answer if it
    /// was newly made.
    async fn ensure_robot(&self, want: &RobotWant) -> Result<Robot>;

    /// Gives it a new secret and its full life from now.
    async fn rotate_robot(&self, id: &str) -> Result<Robot>;

    /// Absent is fine.
    async fn delete_robot(&self, id: &str) -> Result<()>;

    /// The one of that name (without any prefix) that this server manages, if there is one.
    async fn find_robot(&self, name: &str) -> Result<Option<RobotRow>>;

    /// Those that this server manages, to find what leaked.
    async fn list_robots(&self) -> Result<Vec<RobotRow>>;

    /// Publishes `json` as the state artifact of `repository`, as tag `latest` and as tag `stamp` (Unix seconds), and
    /// removes what it replaces. Unchanged content moves nothing. Gives the manifest's digest.
    async fn publish(&self, repository: &str, json: &[u8], stamp: i64) -> Result<String>;

    /// Removes a repository with all that is in it. Absent is fine.
    async fn unpublish(&self, repository: &str) -> Result<()>;

    /// What a tag names now.
    async fn resolve(&self, repository: &str, tag: &str) -> Result<Option<String>>;

    /// Asks it how it is; bounded to a few seconds.
    async fn health(&self) -> Health;
}
