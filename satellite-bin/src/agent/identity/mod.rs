//! Who this satellite is: registration, renewal, and the way back in.
//!
//! An account counts once it is stored durably, and is never thrown away: only another account that Ground Control gave
//! takes its place. What a registry says about it changes nothing here.

mod key;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satellite_core::{
    fleet::{StateKind, Ztr},
    remote::Secret,
};
use url::Url;

use super::{
    cause::{Cause, Trouble},
    center::{Center, Login},
};

pub use key::DeviceKey;
pub(in crate::agent) use key::put;

/// Where the account is kept. `store` is durable when it returns; both may block.
pub trait Vault: Send + Sync {
    /// What is kept, if this satellite was registered.
    fn load(&self) -> Option<Ztr>;
    /// Keeps it in place of the one before.
    ///
    /// # Errors
    /// What the disk says.
    fn store(&self, account: &Ztr) -> Result<(), Trouble>;
}

/// How a satellite without an account gets one.
#[derive(Clone)]
pub enum Way {
    /// By a one-time token.
    Token(Secret),
    /// By the certificate that the connection shows.
    Certificate,
    /// Not at all: somebody has to give a token.
    None,
}

/// This satellite's identity.
pub struct Identity {
    center: Arc<Center>,
    vault: Arc<dyn Vault>,
    key: DeviceKey,
    way: Way,
    /// Overrides scheme, host and port of what Ground Control says of the registry.
    harbor: Option<Url>,
    accounts: Mutex<Accounts>,
}

#[derive(Default)]
struct Accounts {
    current: Option<Ztr>,
    /// Tried once, if the current one is refused.
    previous: Option<Ztr>,
}

impl Identity {
    /// With what the vault has. Blocks.
    pub fn new(
        center: Arc<Center>,
        vault: Arc<dyn Vault>,
        key: DeviceKey,
        way: Way,
        harbor: Option<Url>,
    ) -> Self {
        let accounts = Mutex::new(Accounts { current: vault.load(), previous: None });
        Self { center, vault, key, way, harbor, accounts }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account, if there is one; its addresses by the override that holds now.
    pub fn account(&self) -> Option<Ztr> {
        let mut account = self.accounts().current.clone()?;
        for field in [&mut account.state, &mut account.auth.url] {
            // What cannot be an address was refused before it was kept; from a file of somebody else it is told later.
            if let Ok(at) = at_harbor(field, self.harbor.as_ref()) {
                *field = at;
            }
        }
        Some(account)
    }

    /// How to log in at Ground Control.
    pub fn login(&self) -> Option<Login> {
        let account = self.account()?;
        Some(match self.way {
            Way::Certificate => Login::Certificate,
            _ => robot(&account),
        })
    }

    /// Its name, from the address of its state.
    pub fn name(&self) -> Option<String> {
        name(&self.account()?)
    }

    /// Gets an account, if there is none: to be called until it succeeds. The exchange may be repeated after a crash
    /// anywhere: the same key and token are named to Ground Control as the same try.
    ///
    /// # Errors
    /// Codes of `token`, `account`, `center`; [`Trouble::retry_after`] is long for what will hardly mend itself.
    pub async fn register(&self) -> Result<(), Trouble> {
        if self.account().is_some() {
            return Ok(());
        }
        let account = match &self.way {
            Way::Certificate => self.center.by_certificate().await?,
            Way::Token(token) => {
                let token = token.expose();
                let plausible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                if token.is_empty() || token.len() > 256 || !token.bytes().all(plausible) {
                    let message =
                        "the token has characters that no token has: give the one that Ground Control showed";
                    return Err(Trouble::new(Cause::TOKEN_MALFORMED, message).slowly());
                }
                self.center.exchange(token, &self.key.try_of(token), &self.key.public()).await?
            }
            Way::None => {
                let message = "not registered, and no token was given: start with --token";
                return Err(Trouble::new(Cause::TOKEN_ABSENT, message).slowly());
            }
        };
        self.adopt(account).await
    }

    /// Fetches a new secret, as Ground Control asks.
    ///
    /// # Errors
    /// Codes of `account` and `center`. The old secret stays.
    pub async fn renew(&self) -> Result<(), Trouble> {
        let Some(login) = self.login() else { return self.register().await };
        let account = match self.way {
            Way::Certificate => self.center.by_certificate().await?,
            _ => self.center.credentials(&login).await?,
        };
        self.adopt(account).await
    }

    /// Ground Control itself refused the account: the one before is tried once, then the device key. `Ok`: there is
    /// another account, try again.
    ///
    /// # Errors
    /// [`Cause::DEVICE_UNKNOWN`], [`Cause::ACCOUNT_REVOKED`], codes of `center`. The account stays.
    pub async fn refused(&self) -> Result<(), Trouble> {
        let previous = self.accounts().previous.take();
        if let Some(previous) = previous {
            self.store(previous.clone()).await?;
            self.accounts().current = Some(previous);
            return Ok(());
        }
        if matches!(self.way, Way::Certificate) {
            return self.renew().await;
        }
        let Some(name) = self.name() else { return self.register().await };
        let nonce = self.center.challenge(&name).await?;
        let account = self.center.enroll(&name, &nonce, &self.key.answer(&name, &nonce)).await?;
        self.adopt(account).await
    }

    async fn adopt(&self, account: Ztr) -> Result<(), Trouble> {
        for field in [&account.state, &account.auth.url] {
            at_harbor(field, self.harbor.as_ref())?;
        }
        self.store(account.clone()).await?;
        let mut accounts = self.accounts();
        accounts.previous = accounts.current.replace(account);
        Ok(())
    }

    async fn store(&self, account: Ztr) -> Result<(), Trouble> {
        let vault = Arc::clone(&self.vault);
        smol::unblock(move || vault.store(&account)).await
    }
}

fn robot(account: &Ztr) -> Login {
    Login::Robot {
        username: account.auth.username.clone(),
        password: Secret::new(account.auth.password.as_str()),
    }
}

fn name(account: &Ztr) -> Option<String> {
    let url: Url = account.state.parse().ok()?;
    let path = url.path().trim_start_matches('/');
    let repository = path.rsplit_once(':').map_or(path, |(r, _)| r);
    match StateKind::of_repository(repository)? {
        (StateKind::Satellite, name) => Some(name.into()),
        _ => None,
    }
}

/// A URL of the registry, with scheme, host and port of the override.
pub(in crate::agent) fn at_harbor(text: &str, harbor: Option<&Url>) -> Result<String, Trouble> {
    let bad = || {
        let shown: String = text.chars().take(120).collect();
        Trouble::new(Cause::ACCOUNT_INCOMPLETE, format!("Ground Control gave {shown:?} in place of a URL"))
    };
    let url: Url = text.parse().map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    let Some(harbor) = harbor else { return Ok(text.into()) };
    let path = if text.trim_end_matches('/').matches('/').count() > 2 { url.path() } else { "" };
    Ok(format!("{}{path}", harbor.origin().ascii_serialization()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_override_replaces_scheme_host_and_port_alone() {
        let harbor: Url = "https://10.0.0.1:8443/ignored".parse().unwrap();
        for (text, expected) in [
            (
                "http://harbor/satellite/satellite-state/s/state:latest",
                "https://10.0.0.1:8443/satellite/satellite-state/s/state:latest",
            ),
            ("http://harbor:80", "https://10.0.0.1:8443"),
        ] {
            assert_eq!(at_harbor(text, Some(&harbor)).unwrap(), expected);
            assert_eq!(at_harbor(text, None).unwrap(), text);
        }
        for bad in ["harbor/x", "file:///etc/passwd", ""] {
            assert_eq!(at_harbor(bad, None).unwrap_err().cause, Cause::ACCOUNT_INCOMPLETE);
        }
    }
}
