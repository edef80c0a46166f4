//! What every route can reach.

use std::sync::Arc;

use async_trait::async_trait;
use satellite_core::net::Executor;
use smol::channel::bounded;

use crate::{
    audit::{Audit, Event},
    auth::{self, Directory, Keys, Limits, Passwords, Refusal},
    beats::Beats,
    central::{self, Central},
    db::Db,
    metrics::Metrics,
    outbox::Outbox,
    settings::Settings,
};

/// The server's parts.
pub struct App {
    /// What it was told.
    pub settings: Settings,
    /// The database.
    pub db: Db,
    /// The registry behind it.
    pub central: Arc<dyn Central>,
    /// For digests of robots' secrets.
    pub keys: Keys,
    /// Hashes of users' passwords.
    pub passwords: Passwords,
    /// Whose login it is, where each satellite has its own.
    pub directory: Option<Directory>,
    /// Requests of satellites.
    pub limits: Limits,
    /// Heartbeats.
    pub beats: Beats,
    /// Changes of central.
    pub outbox: Outbox,
    /// Who did what.
    pub audit: Audit,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Where work goes on that outlives its request.
    pub executor: Executor,
}

impl App {
    /// Writes a failure of somebody down, unless one of theirs was just now.
    pub async fn audit_failure(&self, who: &str, event: Event) {
        if !self.audit.is_news(who) {
            return;
        }
        let written = async {
            let mut tx = self.db.begin().await?;
            self.audit.record(&mut tx, event).await?;
            tx.commit().await
        };
        if let Err(e) = written.await {
            log::warn!("the audit log cannot be written: {e}");
        }
    }

    /// Does something to its end, although whoever asked for it may be gone by then. `None` if the server stops.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, done) = bounded(1);
        self.executor
            .spawn(async move {
                let _ = sender.try_send(work.await);
            })
            .detach();
        done.recv().await.ok()
    }
}

/// Users of the server, as the embedded registry asks for them.
pub struct Users(pub std::sync::OnceLock<std::sync::Weak<App>>);

#[async_trait]
impl central::Accounts for Users {
    async fn verify(&self, user: &str, password: &str) -> central::Result<bool> {
        let Some(app) = self.0.get().and_then(std::sync::Weak::upgrade) else {
            return Err(central::Error::transient("starting", "the server starts or stops"));
        };
        match auth::check(&app, user, password, "registry", true).await {
            Ok(_) => Ok(true),
            Err(Refusal::Database(e)) => Err(central::Error::transient("database", e.to_string())),
            Err(Refusal::Busy) => Err(central::Error::transient("busy", "too many logins at once")),
            Err(_) => Ok(false),
        }
    }
}
