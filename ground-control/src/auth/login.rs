//! Name and password against the database.

use super::{Busy, Passwords};
use crate::{
    app::App,
    db::{self, attempts, users},
};

/// A minute, the window of the limit.
const WINDOW: i64 = 60_000_000;

/// Why somebody is not let in. All but the last two look the same from outside.
#[derive(Debug)]
pub enum Refusal {
    /// A field was empty.
    Missing,
    /// Too many failures.
    Locked,
    /// No such user.
    Unknown,
    /// Not the password.
    Wrong,
    /// Too many tries of this name from this address.
    Limited,
    /// The queue of hashes is full.
    Busy,
    /// The database.
    Database(db::Error),
}

impl Refusal {
    /// The reason in the audit log, where it is one.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("missing_credentials"),
            Self::Locked => Some("account_locked"),
            Self::Unknown => Some("unknown_user"),
            Self::Wrong => Some("bad_password"),
            Self::Limited | Self::Busy | Self::Database(_) => None,
        }
    }
}

impl From<db::Error> for Refusal {
    fn from(e: db::Error) -> Self {
        Self::Database(e)
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// Who that is. `address` counts wrong tries together with the name, never alone: a site of hundreds may share one.
/// `often`: credentials that come with every request, and are remembered for a while.
///
/// # Errors
/// [`Refusal`]
pub async fn check(
    app: &App,
    name: &str,
    password: &str,
    address: &str,
    often: bool,
) -> Result<users::User, Refusal> {
    if name.is_empty() || password.is_empty() {
        return Err(Refusal::Missing);
    }
    // Longer ones are nobody's, and must not fill the tables.
    if name.len() > 255 || password.len() > 1024 {
        return Err(Refusal::Unknown);
    }
    let (user, locked) = {
        let mut c = app.db.read().await?;
        let locked = attempts::locked_until(&mut c, name, db::micros(app.settings.lockout)).await?;
        (users::by_name(&mut c, name).await?, locked)
    };
    let hash = user.as_ref().map(|u| u.password_hash.as_str());
    if locked.is_none() && often && hash.is_some_and(|h| app.passwords.remembers(password, h)) {
        return user.ok_or(Refusal::Unknown);
    }
    if over_limit(app, name, address).await? {
        return Err(Refusal::Limited);
    }
    if locked.is_some() {
        return Err(Refusal::Locked);
    }
    let good = verify(&app.passwords, password, hash, often).await?;
    let settings = &app.settings;
    let mut tx = app.db.begin().await?;
    if good && let Some(user) = user {
        attempts::succeeded(&mut tx, name).await?;
        tx.commit().await?;
        forgive(app, name, address).await?;
        return Ok(user);
    }
    attempts::failed(&mut tx, name, settings.lockout_after, db::micros(settings.lockout)).await?;
    tx.commit().await?;
    Err(if hash.is_some() { Refusal::Wrong } else { Refusal::Unknown })
}

async fn verify(
    passwords: &Passwords,
    password: &str,
    hash: Option<&str>,
    often: bool,
) -> Result<bool, Busy> {
    if often { passwords.verify_often(password, hash).await } else { passwords.verify(password, hash).await }
}

fn window(name: &str, address: &str) -> String {
    // A digest, so that the row's key has one length whatever was typed.
    format!("login:{}", &super::sha256_hex(&format!("{name}\n{address}"))[..32])
}

async fn over_limit(app: &App, name: &str, address: &str) -> Result<bool, db::Error> {
    if app.settings.login_limit <= 0 {
        return Ok(false);
    }
    let mut tx = app.db.begin().await?;
    let hits = attempts::hit(&mut tx, &window(name, address), WINDOW).await?;
    tx.commit().await?;
    Ok(hits > app.settings.login_limit)
}

/// A right password is not held against anybody.
async fn forgive(app: &App, name: &str, address: &str) -> Result<(), db::Error> {
    let mut tx = app.db.begin().await?;
    attempts::forget(&mut tx, &window(name, address)).await?;
    tx.commit().await
}
