//! Passwords of users: argon2id as the reference stores it, one hash at a time.
//!
//! A hash takes 19 MiB and tens of milliseconds; whoever sends many logins must not take the server's memory or all of
//! its time. So they stand in a queue, which is short: who does not fit in is told to come again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use async_lock::Semaphore;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

use super::{Keys, equal, keyed::random};

const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const KEY: usize = 32;
/// The most that a stored hash may ask for: 64 MiB.
const MAX_MEMORY: u32 = 65_536;
const MAX_PASSES: u32 = 16;
/// Hashes that may wait for their turn.
const QUEUE: usize = 40;
/// How long Basic credentials that were right are believed without hashing again.
const REMEMBER: Duration = Duration::from_secs(300);
const MAX_REMEMBERED: usize = 1024;

/// Too many hashes wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Makes and checks hashes.
pub struct Passwords {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
    keys: Keys,
    known: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Passwords {
    /// Remembers what was right under `keys`.
    pub fn new(keys: Keys) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            keys,
            known: Mutex::default(),
        }
    }

    /// A new hash, as a PHC string.
    pub async fn hash(&self, password: &str) -> Result<String, Busy> {
        let password = password.to_string();
        self.run(move || {
            let salt = random::<16>();
            let key = derive(password.as_bytes(), &salt, MEMORY, PASSES, LANES, KEY)?;
            let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
            Some(format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${}${}", encode(&salt), encode(&key)))
        })
        .await
        .map(Option::unwrap_or_default)
    }

    /// Whether the password is the one of a hash. `None` as the hash: of nobody, which takes as long and is never right.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Busy> {
        let (password, hash) = (password.to_string(), hash.map(String::from));
        self.run(move || match hash.as_deref() {
            Some(hash) => matches(password.as_bytes(), hash),
            None => {
                let _ = derive(password.as_bytes(), b"nobody's salt...", MEMORY, PASSES, LANES, KEY);
                false
            }
        })
        .await
    }

    /// The same, remembered for a while: for credentials that come with every request.
    pub async fn verify_often(&self, password: &str, hash: Option<&str>) -> Result<bool, Busy> {
        let key = self.keys.bytes(&["basic", hash.unwrap_or_default(), password]);
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if hash.is_some() && lock().get(&key).is_some_and(|t| t.elapsed() < REMEMBER) {
            return Ok(true);
        }
        let good = self.verify(password, hash).await?;
        if good {
            let mut known = lock();
            if known.len() >= MAX_REMEMBERED {
                known.retain(|_, t| t.elapsed() < REMEMBER);
            }
            if known.len() < MAX_REMEMBERED {
                known.insert(key, Instant::now());
            }
        }
        Ok(good)
    }

    /// Whether these would be known without hashing.
    pub fn remembers(&self, password: &str, hash: &str) -> bool {
        let key = self.keys.bytes(&["basic", hash, password]);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).is_some_and(|t| t.elapsed() < REMEMBER)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let waiting = Waiting::enter(&self.waiting)?;
        let turn = self.turn.acquire_arc().await;
        let done = smol::unblock(move || {
            let done = work();
            drop(turn);
            done
        })
        .await;
        drop(waiting);
        Ok(done)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, Busy> {
        if count.fetch_add(1, Relaxed) >= QUEUE {
            count.fetch_sub(1, Relaxed);
            return Err(Busy);
        }
        Ok(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn derive(
    password: &[u8],
    salt: &[u8],
    memory: u32,
    passes: u32,
    lanes: u32,
    length: usize,
) -> Option<Vec<u8>> {
    let params = Params::new(memory, passes, lanes, Some(length)).ok()?;
    let mut key = vec![0; length];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut key)
        .ok()?;
    Some(key)
}

/// Any parameters within reason, as hashes of other times and servers have them.
fn matches(password: &[u8], phc: &str) -> bool {
    fn parse(phc: &str) -> Option<(u32, u32, u32, Vec<u8>, &str)> {
        let mut parts = phc.strip_prefix("$argon2id$v=19$")?.split('$');
        let (params, salt, key) = (parts.next()?, parts.next()?, parts.next()?);
        let mut numbers =
            params.split(',').zip(["m=", "t=", "p="]).map(|(p, name)| p.strip_prefix(name)?.parse().ok());
        let mut number = || numbers.next()?;
        let (memory, passes, lanes) = (number()?, number()?, number()?);
        let fits = memory <= MAX_MEMORY && passes <= MAX_PASSES && lanes <= 16 && parts.next().is_none();
        fits.then_some((memory, passes, lanes, BASE64_STANDARD_NO_PAD.decode(salt).ok()?, key))
    }
    let Some((memory, passes, lanes, salt, key)) = parse(phc) else { return false };
    let length = BASE64_STANDARD_NO_PAD.decode(key).map_or(0, |k| k.len());
    if length < 16 {
        return false;
    }
    derive(password, &salt, memory, passes, lanes, length)
        .is_some_and(|made| equal(&BASE64_STANDARD_NO_PAD.encode(made), key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_hash_is_the_references_and_fits_its_password_alone() {
        smol::block_on(async {
            let passwords = Passwords::new(Keys::new("k"));
            let hash = passwords.hash("Opspassw0rd").await.unwrap();
            assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
            assert_eq!(passwords.verify("Opspassw0rd", Some(&hash)).await, Ok(true));
            assert_eq!(passwords.verify("opspassw0rd", Some(&hash)).await, Ok(false));
            assert_eq!(passwords.verify("Opspassw0rd", None).await, Ok(false));
            assert!(!passwords.remembers("Opspassw0rd", &hash));
            assert_eq!(passwords.verify_often("Opspassw0rd", Some(&hash)).await, Ok(true));
            assert!(passwords.remembers("Opspassw0rd", &hash) && !passwords.remembers("x", &hash));
            assert_ne!(passwords.hash("Opspassw0rd").await.unwrap(), hash);
        });
    }

    #[test]
    fn what_is_no_hash_is_no_password() {
        for phc in [
            "",
            "$argon2id$v=19$m=19456,t=2,p=1$$",
            "$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHRzYWx0$a2V5a2V5a2V5a2V5a2V5a2V5",
            "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$a2V5a2V5a2V5a2V5a2V5a2V5",
            "$argon2id$v=19$m=19456,t=2$c2FsdHNhbHRzYWx0$a2V5a2V5a2V5a2V5a2V5a2V5",
        ] {
            assert!(!matches(b"", phc), "{phc}");
        }
    }

    #[test]
    fn more_logins_than_the_queue_holds_are_told_to_come_again() {
        let count = AtomicUsize::new(0);
        let all: Vec<_> = (0..QUEUE).map(|_| Waiting::enter(&count).unwrap()).collect();
        assert!(Waiting::enter(&count).is_err());
        drop(all);
        assert!(Waiting::enter(&count).is_ok());
    }
}
