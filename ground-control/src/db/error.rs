//! What a query may end in.

/// What the database refused or could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of a database that is known here.
    #[error("the database's URL must begin with postgres:// or sqlite:")]
    Url,
    /// A row of that name is there already.
    #[error("already there")]
    Conflict,
    /// Something else still refers to the row, or what it refers to is gone.
    #[error("still in use, or what it refers to is gone")]
    Reference,
    /// The database is away, or too busy.
    #[error("the database does not answer: {0}")]
    Away(sqlx::Error),
    /// A stored document is not what this program writes.
    #[error("a stored document is not understood: {0}")]
    Json(serde_json::Error),
    /// Anything else it says.
    #[error("database: {0}")]
    Other(sqlx::Error),
}

/// What a query gives.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Two transactions stood in each other's way, and this one was undone: it may just be tried again.
    pub fn is_rivalry(&self) -> bool {
        let Self::Away(sqlx::Error::Database(e)) = self else { return false };
        e.code().is_some_and(|code| code.len() == 5 && code.starts_with("40"))
    }

    pub(super) fn is_away(error: &sqlx::Error) -> bool {
        use sqlx::Error as E;
        match error {
            E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => true,
            // 08: connection; 57P: shut down or starting; 53: out of resources; 40: serialization, deadlock.
            // SQLite: busy and locked.
            E::Database(e) => e.code().is_some_and(|code| {
                ["08", "57P", "53", "40"].iter().any(|c| code.len() == 5 && code.starts_with(c))
                    || ["5", "6", "261", "517"].contains(&&*code)
            }),
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(e) = &error {
            if e.is_unique_violation() {
                return Self::Conflict;
            }
            if e.is_foreign_key_violation() {
                return Self::Reference;
            }
        }
        if Self::is_away(&error) { Self::Away(error) } else { Self::Other(error) }
    }
}
