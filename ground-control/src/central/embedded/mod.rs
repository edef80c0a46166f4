//! The registry that this server keeps itself, with nothing configured: a store in the data directory, served on the
//! server's own port. Robots are records in its database ([`RobotBook`]), users push with their password ([`Accounts`]).
//!
//! | file | does |
//! |---|---|
//! | `gate` | who may do what at the registry |
//! | `states` | state artifacts straight into the store |

mod gate;
mod states;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use satellite_core::{
    oci::Digest,
    registry::{Access, Metrics, Registry, Settings},
    remote::Secret,
    store::Store,
};

use super::{
    Accounts, Central, Error, Health, Result, Robot, RobotBook, RobotRecord, RobotRow, RobotWant, push,
};

const DAY: i64 = 86_400;
/// What a robot's login begins with, as in Harbor.
const PREFIX: &str = "robot$";

/// The embedded registry.
pub struct Embedded {
    url: String,
    store: Store,
    book: Arc<dyn RobotBook>,
    robot_days: u32,
}

impl Embedded {
    /// `url` is what satellites are told: where this server is reached, scheme, host and port.
    ///
    /// # Errors
    /// `config` if the URL is none.
    pub fn new(url: &str, store: Store, book: Arc<dyn RobotBook>, robot_days: u32) -> Result<Self> {
        let url = push::base_url(url)?.as_str().trim_end_matches('/').to_string();
        Ok(Self { url, store, book, robot_days: robot_days.max(1) })
    }

    /// What answers `/v2/`: robots pull from their projects, users do everything.
    pub fn registry(&self, accounts: Arc<dyn Accounts>, metrics: Arc<Metrics>) -> Registry {
        let gate = gate::Gatekeeper::new(self.book.clone(), accounts);
        Registry::new(self.store.clone(), Access::default(), Settings::default(), metrics)
            .with_gate(Arc::new(gate))
    }

    /// Gives back the room of what nothing names any more. For the server to call now and then.
    ///
    /// # Errors
    /// `store`.
    pub async fn collect(&self) -> Result<()> {
        self.store.gc(None).await.map(drop).map_err(|e| states::at_store(&e))
    }

    /// Brings the store's `index.json` up to date, from which a lost index is rebuilt; does nothing if nothing changed. For
    /// the server to call every second, and when it stops.
    ///
    /// # Errors
    /// `store`.
    pub async fn refresh(&self) -> Result<()> {
        self.store.refresh_layout().await.map(drop).map_err(|e| states::at_store(&e))
    }

    async fn write(&self, mut record: RobotRecord, secret: Option<Secret>) -> Result<Robot> {
        if let Some(secret) = &secret {
            record.secret_digest = digest(secret.expose());
        }
        self.book.put(&record).await?;
        Ok(Robot { id: record.id, login: record.login, secret, expires_at: record.expires_at })
    }

    async fn bring(&self, record: RobotRecord, want: &RobotWant) -> Result<Robot> {
        let days = i64::from(want.days.max(1));
        let short = record.expires_at.is_none_or(|at| at - now() < days * DAY / 2);
        if !short && record.projects == want.projects {
            return Ok(Robot {
                id: record.id,
                login: record.login,
                secret: None,
                expires_at: record.expires_at,
            });
        }
        let expires_at = if short { Some(now() + days * DAY) } else { record.expires_at };
        self.write(RobotRecord { projects: want.projects.clone(), expires_at, ..record }, None).await
    }
}

#[async_trait]
impl Central for Embedded {
    fn url(&self) -> &str {
        &self.url
    }

    /// Nothing to do: projects are the beginnings of names, and none is public.
    async fn ensure_project(&self, _name: &str, _public: bool) -> Result<()> {
        Ok(())
    }

    async fn project_exists(&self, _name: &str) -> Result<bool> {
        Ok(true)
    }

    async fn ensure_robot(&self, want: &RobotWant) -> Result<Robot> {
        let known = match &want.known_id {
            Some(id) => self.book.by_id(id).await?,
            None => None,
        };
        let login = format!("{PREFIX}{}", want.name);
        let known = match known {
            Some(record) => Some(record),
            None => self.book.by_login(&login).await?,
        };
        if let Some(record) = known {
            return self.bring(record, want).await;
        }
        let record = RobotRecord {
            id: random(16)?,
            login,
            projects: want.projects.clone(),
            secret_digest: String::new(),
            expires_at: Some(now() + i64::from(want.days.max(1)) * DAY),
        };
        self.write(record, Some(new_secret()?)).await
    }

    async fn rotate_robot(&self, id: &str) -> Result<Robot> {
        let Some(record) = self.book.by_id(id).await? else {
            return Err(Error::permanent("not_found", format!("there is no robot {id}")).with_status(404));
        };
        let expires_at = record.expires_at.map(|_| now() + i64::from(self.robot_days) * DAY);
        self.write(RobotRecord { expires_at, ..record }, Some(new_secret()?)).await
    }

    async fn delete_robot(&self, id: &str) -> Result<()> {
        self.book.remove(id).await
    }

    async fn find_robot(&self, name: &str) -> Result<Option<RobotRow>> {
        Ok(self.book.by_login(&format!("{PREFIX}{name}")).await?.map(row))
    }

    async fn list_robots(&self) -> Result<Vec<RobotRow>> {
        Ok(self.book.all().await?.into_iter().map(row).collect())
    }

    async fn publish(&self, repository: &str, json: &[u8], stamp: i64) -> Result<String> {
        let repository = push::repository(repository)?;
        let digest = states::publish(&self.store, &repository, json, stamp).await?;
        states::prune(&self.store, &repository, &digest, stamp).await?;
        Ok(digest.to_string())
    }

    async fn unpublish(&self, repository: &str) -> Result<()> {
        states::unpublish(&self.store, &push::repository(repository)?).await
    }

    async fn resolve(&self, repository: &str, tag: &str) -> Result<Option<String>> {
        states::resolve(&self.store, &push::repository(repository)?, tag)
    }

    async fn health(&self) -> Health {
        match self.store.is_stuck().await {
            Ok(false) => Health::Well,
            Ok(true) => Health::Ill("the store cannot be written to".into()),
            Err(e) => Health::Ill(e.to_string()),
        }
    }
}

fn row(record: RobotRecord) -> RobotRow {
    RobotRow { id: record.id, login: record.login, expires_at: record.expires_at }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Letters and digits, as Harbor's secrets.
fn new_secret() -> Result<Secret> {
    random(32).map(Secret::from)
}

fn random(length: usize) -> Result<String> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::transient("random", format!("no random bytes: {e}")))?;
        // Those above are thrown away, so that all letters are equally likely.
        let letters = bytes.iter().filter_map(|b| LETTERS.get(usize::from(b & 63)));
        text.extend(letters.take(length - text.len()).map(|l| char::from(*l)));
    }
    Ok(text)
}

/// A secret is 190 random bits: one round of SHA-256 is enough.
fn digest(secret: &str) -> String {
    Digest::sha256(secret.as_bytes()).hex().to_string()
}

/// Whether the record's robot may pull from the project now.
fn may_pull(projects: &BTreeSet<String>, repository: &str) -> bool {
    repository.split_once('/').is_some_and(|(project, _)| projects.contains(project))
}
