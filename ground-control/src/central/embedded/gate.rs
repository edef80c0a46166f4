//! Who may do what at the embedded registry.

use std::sync::Arc;

use async_trait::async_trait;
use satellite_core::registry::{Gate, Login, Verdict, Wish};

use super::{
    super::{Accounts, Error, RobotBook},
    PREFIX, digest, may_pull, now,
};

pub(super) struct Gatekeeper {
    book: Arc<dyn RobotBook>,
    accounts: Arc<dyn Accounts>,
}

impl Gatekeeper {
    pub(super) fn new(book: Arc<dyn RobotBook>, accounts: Arc<dyn Accounts>) -> Self {
        Self { book, accounts }
    }

    async fn decide(&self, wish: Wish<'_>, login: &Login) -> Result<Verdict, Error> {
        if !login.user.starts_with(PREFIX) {
            let right = self.accounts.verify(&login.user, &login.password).await?;
            return Ok(if right { Verdict::Admitted } else { Verdict::Unknown });
        }
        let Some(robot) = self.book.by_login(&login.user).await? else { return Ok(Verdict::Unknown) };
        // Digests are compared, so how long it takes says nothing about the secret.
        if digest(&login.password) != robot.secret_digest || robot.expires_at.is_some_and(|at| at <= now()) {
            return Ok(Verdict::Unknown);
        }
        let may = match wish {
            Wish::Login => true,
            Wish::Pull(repository) => may_pull(&robot.projects, repository.as_str()),
            Wish::Catalog | Wish::Write(_) => false,
        };
        Ok(if may { Verdict::Admitted } else { Verdict::Denied })
    }
}

#[async_trait]
impl Gate for Gatekeeper {
    async fn admits(&self, wish: Wish<'_>, login: Option<Login>) -> Verdict {
        let Some(login) = login else { return Verdict::Unknown };
        self.decide(wish, &login).await.unwrap_or_else(|error| {
            log::error!("accounts of the embedded registry: {error}");
            Verdict::Unavailable
        })
    }
}
