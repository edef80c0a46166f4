//! Robots of the embedded registry.

use async_trait::async_trait;

use super::{Columns, Db, Error, FromColumns, Result, Sql, json};
use crate::central::{self, RobotBook, RobotRecord};

impl FromColumns for RobotRecord {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: c.take()?,
            login: c.take()?,
            projects: c.json()?,
            secret_digest: c.take()?,
            expires_at: c.take()?,
        })
    }
}

fn at_central(e: &Error) -> central::Error {
    match e {
        Error::Conflict => central::Error::permanent("conflict", "another robot has that login"),
        Error::Away(_) => central::Error::transient("database", e.to_string()),
        _ => central::Error::permanent("database", e.to_string()),
    }
}

#[async_trait]
impl RobotBook for Db {
    async fn by_id(&self, id: &str) -> central::Result<Option<RobotRecord>> {
        let found = async {
            let sql = Sql::new(
                "SELECT id, login, projects, secret_digest, expires_at FROM embedded_robots WHERE id = $1",
            );
            sql.bind(id).one(&mut *self.read().await?).await
        };
        found.await.map_err(|e| at_central(&e))
    }

    async fn by_login(&self, login: &str) -> central::Result<Option<RobotRecord>> {
        let found = async {
            let sql = Sql::new(
                "SELECT id, login, projects, secret_digest, expires_at FROM embedded_robots WHERE login = $1",
            );
            sql.bind(login).one(&mut *self.read().await?).await
        };
        found.await.map_err(|e| at_central(&e))
    }

    async fn put(&self, record: &RobotRecord) -> central::Result<()> {
        let put = async {
            let mut tx = self.begin().await?;
            Sql::new(
                "INSERT INTO embedded_robots (id, login, projects, secret_digest, expires_at) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET \
                 login = $2, projects = $3, secret_digest = $4, expires_at = $5",
            )
            .bind(&record.id)
            .bind(&record.login)
            .bind(json(&record.projects)?)
            .bind(&record.secret_digest)
            .bind(record.expires_at)
            .run(&mut tx)
            .await?;
            tx.commit().await
        };
        put.await.map_err(|e: Error| at_central(&e))
    }

    async fn remove(&self, id: &str) -> central::Result<()> {
        let removed = async {
            let mut tx = self.begin().await?;
            Sql::new("DELETE FROM embedded_robots WHERE id = $1").bind(id).run(&mut tx).await?;
            tx.commit().await
        };
        removed.await.map_err(|e: Error| at_central(&e))
    }

    async fn all(&self) -> central::Result<Vec<RobotRecord>> {
        let all = async {
            Sql::new(
                "SELECT id, login, projects, secret_digest, expires_at FROM embedded_robots ORDER BY login",
            )
            .all(&mut *self.read().await?)
            .await
        };
        all.await.map_err(|e| at_central(&e))
    }
}
