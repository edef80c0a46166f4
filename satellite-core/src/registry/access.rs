//! Who may do what: anybody may pull, nobody may change anything without a credential, unless loopback is trusted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use async_lock::Semaphore;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header};

use super::error::{Code, Failure};
use crate::oci::Digest;

/// How long a verified password is believed without hashing it again.
const REMEMBER: Duration = Duration::from_secs(300);
const MAX_REMEMBERED: usize = 256;
/// How often the password file is looked at for changes.
const RECHECK: Duration = Duration::from_secs(2);

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Pull,
    Write,
}

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// Not readable.
    #[error("cannot read the password file {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A line that is not `name:bcrypt-hash`.
    #[error("{0} line {1}: expected NAME:HASH with a bcrypt hash ($2y$…); make one with `htpasswd -B`")]
    Line(PathBuf, usize),
}

/// Names and bcrypt hashes of an `htpasswd -B` file, read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    state: Mutex<State>,
    /// bcrypt costs tens of milliseconds of CPU: one at a time, so that wrong passwords cannot stop pulls.
    hashing: Arc<Semaphore>,
    secret: [u8; 32],
}

struct State {
    users: HashMap<String, String>,
    modified: Option<SystemTime>,
    checked: Instant,
    /// Keyed hashes of credentials that were right lately.
    verified: HashMap<Digest, Instant>,
}

impl Htpasswd {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, HtpasswdError> {
        let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let users = read(path)?;
        let mut secret = [0; 32];
        // Without a random source the cache key is only as secret as the process's memory, which holds it anyway.
        let _ = getrandom::fill(&mut secret);
        Ok(Self {
            path: path.into(),
            state: Mutex::new(State { users, modified, checked: Instant::now(), verified: HashMap::new() }),
            hashing: Arc::new(Semaphore::new(1)),
            secret,
        })
    }

    async fn verify(&self, name: &str, password: &str) -> bool {
        let mut keyed = self.secret.to_vec();
        keyed.extend_from_slice(&(name.len() as u64).to_le_bytes());
        keyed.extend_from_slice(name.as_bytes());
        keyed.extend_from_slice(password.as_bytes());
        let key = Digest::sha256(&keyed);
        let hash = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.refresh(&mut state);
            if state.verified.get(&key).is_some_and(|t| t.elapsed() < REMEMBER) {
                return true;
            }
            // A name that is not there costs the same time as a wrong password.
            state.users.get(name).cloned().unwrap_or_else(|| "$2y$10$".to_string() + &"a".repeat(53))
        };
        let Some(place) = self.hashing.acquire_arc().await.into() else { return false };
        let password = password.to_string();
        let good = smol::unblock(move || {
            let _place: async_lock::SemaphoreGuardArc = place;
            bcrypt::verify(password, &hash).unwrap_or(false)
        })
        .await;
        if good {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.verified.retain(|_, t| t.elapsed() < REMEMBER);
            if state.verified.len() < MAX_REMEMBERED {
                state.verified.insert(key, Instant::now());
            }
        }
        good
    }

    fn refresh(&self, state: &mut State) {
        if state.checked.elapsed() < RECHECK {
            return;
        }
        state.checked = Instant::now();
        let modified = std::fs::metadata(&self.path).and_then(|m| m.modified()).ok();
        if modified == state.modified {
            return;
        }
        state.modified = modified;
        match read(&self.path) {
            Ok(users) => {
                state.users = users;
                state.verified.clear();
                log::info!("password file {} read again", self.path.display());
            }
            Err(e) => log::error!("{e}; the old passwords stay"),
        }
    }
}

fn read(path: &Path) -> Result<HashMap<String, String>, HtpasswdError> {
    let text = std::fs::read_to_string(path).map_err(|e| HtpasswdError::Read(path.into(), e))?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, hash)) if !name.is_empty() && hash.starts_with("$2") && hash.len() == 60 => {
                users.insert(name.to_string(), hash.to_string());
            }
            _ => return Err(HtpasswdError::Line(path.into(), number + 1)),
        }
    }
    Ok(users)
}

/// The rules of a registry.
#[derive(Default)]
pub struct Access {
    /// Requests from loopback may push and delete without credentials.
    pub trust_loopback: bool,
    /// Who may push and delete; and pull, if that is not open.
    pub users: Option<Htpasswd>,
    /// Pulling needs a credential too.
    pub private: bool,
}

const CHALLENGE: &str = r#"Basic realm="satellite""#;

impl Access {
    /// What a client is told that may, but need not, say who it is.
    pub(super) fn challenge(&self) -> Option<&'static str> {
        self.users.is_some().then_some(CHALLENGE)
    }

    /// Lets a request pass, or says why not.
    pub(super) async fn check(
        &self,
        right: Right,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<(), Failure> {
        let credentials = basic(headers);
        if let (Some(users), Some((name, password))) = (&self.users, &credentials) {
            // Wrong credentials are refused even where none are needed: `docker login` must not lie.
            return if users.verify(name, password).await {
                Ok(())
            } else {
                Err(challenge("wrong name or password"))
            };
        }
        let loopback = self.trust_loopback && peer.is_some_and(|p| p.ip().to_canonical().is_loopback());
        match right {
            Right::Pull if !self.private => Ok(()),
            _ if loopback => Ok(()),
            _ if self.users.is_some() => Err(challenge("a name and password are needed")),
            _ => Err(Failure::new(
                Code::Denied,
                "changing this registry is off: it was started with neither --htpasswd nor --trust-loopback",
            )),
        }
    }
}

pub(super) fn challenge(message: &str) -> Failure {
    Failure::new(Code::Unauthorized, message).header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// Name and password of a request (RFC 7617).
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    // Podman tries empty credentials first: the same as none.
    (!name.is_empty() || !password.is_empty()).then(|| (name.to_string(), password.to_string()))
}
