//! `ground-control user`: users in the database, without a running server.

use clap::{Args, Subcommand};

use super::{Data, Failure, Result, read_password};
use crate::{
    audit::{Audit, Event},
    auth::{self, ADMIN, Keys, Passwords, SYSTEM_ADMIN},
    db::{self, Db, attempts, users},
    http::Origin,
    server,
    settings::{AuditSettings, Settings},
};

#[derive(Args)]
pub(super) struct User {
    #[command(flatten)]
    data: Data,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List users
    List,
    /// Make a user of role admin; the password comes from standard input
    Create {
        /// Its name
        name: String,
    },
    /// Set a user's password, which comes from standard input; its sessions and its lockout end
    Password {
        /// Its name; `admin` is the first one
        name: String,
    },
    /// End a user's lockout
    Unlock {
        /// Its name
        name: String,
    },
    /// Remove a user
    Delete {
        /// Its name
        name: String,
    },
}

impl User {
    pub(super) fn run(&self) -> Result<()> {
        let settings = self.data.settings(Vec::new())?;
        smol::block_on(async {
            let db = server::open(&settings).await?;
            db.migrate().await?;
            let done = Box::pin(self.what.run(&db, &settings)).await;
            db.close().await;
            done
        })
    }
}

impl What {
    async fn run(&self, db: &Db, settings: &Settings) -> Result<()> {
        match self {
            Self::List => {
                let mut c = db.read().await?;
                let first = users::by_name(&mut c, "admin").await?;
                let others = users::page(&mut c, None, None, i64::MAX).await?;
                for user in first.into_iter().chain(others) {
                    println!("{}\t{}\t{}", user.username, user.role, crate::http::time(user.created_at));
                }
                Ok(())
            }
            Self::Create { name } => {
                auth::check_username(name).map_err(Failure::usage)?;
                let hash = hash(settings).await?;
                let mut tx = db.begin().await?;
                match users::insert(&mut tx, name, &hash, ADMIN).await {
                    Err(db::Error::Conflict) => return Err(Failure::new(format!("user {name} exists"))),
                    other => other?,
                };
                finish(tx, "create", name).await
            }
            Self::Password { name } => {
                let hash = hash(settings).await?;
                let mut tx = db.begin().await?;
                match users::by_name(&mut tx, name).await? {
                    Some(user) => users::set_password(&mut tx, user.id, &hash).await?,
                    None if name == "admin" => {
                        users::insert(&mut tx, name, &hash, SYSTEM_ADMIN).await?;
                    }
                    None => return Err(absent(name)),
                }
                attempts::succeeded(&mut tx, name).await?;
                finish(tx, "password_change", name).await
            }
            Self::Unlock { name } => {
                let mut tx = db.begin().await?;
                attempts::succeeded(&mut tx, name).await?;
                finish(tx, "unlock", name).await
            }
            Self::Delete { name } => {
                let mut tx = db.begin().await?;
                let user = users::by_name(&mut tx, name).await?.ok_or_else(|| absent(name))?;
                if user.role == SYSTEM_ADMIN {
                    return Err(Failure::usage("the first administrator cannot be deleted"));
                }
                users::delete(&mut tx, user.id).await?;
                finish(tx, "delete", name).await
            }
        }
    }
}

fn absent(name: &str) -> Failure {
    Failure { code: 3, message: format!("there is no user {name}") }
}

async fn hash(settings: &Settings) -> Result<String> {
    let password = read_password()?;
    auth::check_password(&settings.policy, &password).map_err(Failure::usage)?;
    let passwords = Passwords::new(Keys::new(""));
    passwords.hash(&password).await.map_err(|_| Failure::new("too many hashes at once"))
}

async fn finish(mut tx: db::Tx, operation: &'static str, name: &str) -> Result<()> {
    let audit = Audit::open(&AuditSettings::default()).map_err(Failure::new)?;
    let event = Event::done("user", operation, &Origin::default()).by("command line", "system").on(name);
    audit.record(&mut tx, event).await?;
    tx.commit().await?;
    println!("user {name}: {} done", operation.replace('_', " "));
    Ok(())
}
