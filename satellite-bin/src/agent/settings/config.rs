//! The configuration that runs: from its file, from Ground Control, from whoever edits the file.
//!
//! Another one takes its place whole or not at all, and durably: the one before is written to `prev_config.json`, then
//! the new one to `config.json`, then it runs. A process that is killed in between runs the one or the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use event_listener::{Event, EventListener};
use satellite_core::fleet::Ztr;
use serde_json::{Map, Value};

use super::{
    effective::Settings,
    flags::Flags,
    overlay::Source,
    resolve::{Problem, Resolved, check},
    seal::{self, Machine},
    trial::{Record, Verdict},
};
use crate::agent::{
    cause::{Cause, Trouble},
    identity::{Vault, put},
};

const FILE: &str = "config.json";
const PREVIOUS: &str = "prev_config.json";
/// Where the record stands in the file; the reference passes it over.
const RECORD: &str = "agent";
/// Largest file.
const MAX: u64 = 4 << 20;

/// What would hold, or all that is wrong.
pub type Checked = Result<Resolved, Vec<Problem>>;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It runs already, or differs in nothing.
    Nothing,
    /// It runs now, on trial.
    Swapped,
}

/// The configuration. Clones are the same one.
#[derive(Clone)]
pub struct Config(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    flags: Flags,
    machine: Machine,
    changed: Event,
    state: Mutex<State>,
}

struct State {
    document: Value,
    origin: Source,
    settings: Arc<Settings>,
    record: Record,
    since: Instant,
    /// Of the file as it was last read or written.
    stamp: Option<(SystemTime, u64)>,
}

impl Config {
    /// Reads the file, and writes it back as it is kept. One that became wrong is passed over for the one before. Blocks.
    ///
    /// # Errors
    /// [`Cause::CONFIG_REFUSED`] with the first field that is wrong; [`Cause::CONFIG_FOREIGN`], [`Cause::CONFIG_FILE`].
    pub fn open(flags: Flags) -> Result<(Self, Vec<String>), Trouble> {
        let dir = flags.config_dir();
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        make_private(&dir)?;
        let machine = Machine::here(&dir)?;
        let document = match read(&dir.join(FILE), &machine) {
            Ok(document) => document,
            // The account in it is lost; what is in the store is not.
            Err(trouble) if matches!(trouble.cause, Cause::CONFIG_FOREIGN | Cause::CONFIG_UNREADABLE) => {
                aside(&dir, &trouble);
                read(&dir.join(PREVIOUS), &machine).ok().flatten()
            }
            Err(trouble) => return Err(trouble),
        };
        let mut document = document.unwrap_or_else(|| Value::Object(Map::new()));
        let mut record = record_of(&document);
        let mut origin = origin_of(&record);
        let resolved = match check(&document, origin, &flags) {
            Ok(resolved) => resolved,
            Err(problems) => {
                let trouble = refused("config.json", &problems);
                let before = read(&dir.join(PREVIOUS), &machine).ok().flatten();
                let before = before.filter(|_| origin == Source::Remote);
                let good = before.and_then(|d| check(&d, Source::Remote, &flags).ok().map(|r| (d, r)));
                let Some((previous, resolved)) = good else { return Err(trouble) };
                log::error!("{trouble}; the configuration before it runs");
                record.refuse(&record.digest.clone(), &trouble.message);
                document = with_account(previous, &document);
                origin = Source::Remote;
                record.digest = record_of(&document).digest;
                resolved
            }
        };
        let Resolved { settings, warnings, .. } = resolved;
        let state = State {
            document,
            origin,
            settings: Arc::new(settings),
            record,
            since: Instant::now(),
            stamp: None,
        };
        let inner = Inner { dir, flags, machine, changed: Event::new(), state: Mutex::new(state) };
        let config = Self(Arc::new(inner));
        config.save(&mut config.state())?;
        Ok((config, warnings))
    }

    /// What the file says, without a change of anything: what would hold, and every secret that is known. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn peek(flags: &Flags) -> Result<(Checked, Vec<String>), Trouble> {
        let dir = flags.config_dir();
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        let machine = Machine::here(&dir)?;
        let document = read(&dir.join(FILE), &machine)?.unwrap_or_else(|| Value::Object(Map::new()));
        let mut found = Vec::new();
        secrets(&document, &mut found);
        found.extend(
            flags.token().into_iter().chain(&flags.registry_password).map(|s| s.expose().to_string()),
        );
        Ok((check(&document, origin_of(&record_of(&document)), flags), found))
    }

    /// What holds now.
    pub fn settings(&self) -> Arc<Settings> {
        self.state().settings.clone()
    }

    /// What this start was told.
    pub fn flags(&self) -> &Flags {
        &self.0.flags
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Digest of the published configuration that runs; empty: none.
    pub fn running_digest(&self) -> String {
        self.state().record.digest.clone()
    }

    /// Whether what runs has still to prove itself.
    pub fn is_on_trial(&self) -> bool {
        self.state().record.trial.is_some()
    }

    /// Ready when another one runs.
    pub fn changed(&self) -> EventListener {
        self.0.changed.listen()
    }

    /// What Ground Control published. Its account part is not taken. Blocks.
    ///
    /// # Errors
    /// [`Cause::CONFIG_REFUSED`] names the field; the one that runs stays, and this one is not tried again.
    pub fn offer(&self, json: &[u8], digest: &str) -> Result<Change, Trouble> {
        let mut state = self.state();
        if state.record.digest == digest {
            return Ok(Change::Nothing);
        }
        if let Some(why) = state.record.is_refused(digest) {
            let message = format!("{digest} is not tried again: {why}");
            return Err(Trouble::new(Cause::CONFIG_REFUSED, message).slowly());
        }
        let resolved = parse(json, digest).and_then(|offered| {
            let document = merged(&offered, &state.document);
            match check(&document, Source::Remote, &self.0.flags) {
                Ok(resolved) => Ok((document, resolved)),
                Err(problems) => Err(refused(digest, &problems)),
            }
        });
        let (document, resolved) = match resolved {
            Ok(good) => good,
            Err(trouble) => {
                state.record.refuse(digest, &trouble.message);
                self.save(&mut state)?;
                return Err(trouble.slowly());
            }
        };
        for warning in &resolved.warnings {
            log::warn!("configuration: {warning}");
        }
        let differences = resolved.settings.differences(&state.settings);
        if differences.is_empty() {
            state.record.digest = digest.into();
            state.document = document;
            self.save(&mut state)?;
            return Ok(Change::Nothing);
        }
        self.keep_previous(&state)?;
        let before = state.document.clone();
        state.document = document;
        state.record.begin(digest);
        if let Err(trouble) = self.save(&mut state) {
            state.document = before;
            state.record.trial = None;
            return Err(trouble);
        }
        self.run(&mut state, resolved.settings, Source::Remote);
        drop(state);
        log::info!("another configuration runs, on trial: {}", differences.join(", "));
        self.0.changed.notify(usize::MAX);
        Ok(Change::Swapped)
    }

    /// Ground Control answered a heartbeat, or could not be reached; what could not be refused here may be taken back. Blocks.
    ///
    /// # Errors
    /// [`Cause::CONFIG_ROLLED_BACK`]
    pub fn heard(&self, good: bool) -> Result<(), Trouble> {
        let mut state = self.state();
        let since = state.since.elapsed();
        match state.record.heard(good, since) {
            Verdict::Nothing => Ok(()),
            Verdict::Confirmed => {
                log::info!("the configuration has proved itself");
                self.save(&mut state)
            }
            Verdict::Acquitted => self.save(&mut state),
            Verdict::Condemned => {
                self.save(&mut state)?;
                let message =
                    "under the last configuration Ground Control could not be reached: the one before runs";
                Err(Trouble::new(Cause::CONFIG_ROLLED_BACK, message))
            }
            Verdict::RollBack => self.roll_back(state),
        }
    }

    fn roll_back(&self, mut state: MutexGuard<'_, State>) -> Result<(), Trouble> {
        let bad = state.record.digest.clone();
        let previous = read(&self.0.dir.join(PREVIOUS), &self.0.machine).ok().flatten();
        let previous = previous.unwrap_or_else(|| Value::Object(Map::new()));
        let document = with_account(previous, &state.document);
        let mut record = record_of(&document);
        (record.trial, record.suspect) = (None, Some(bad));
        record.refused.clone_from(&state.record.refused);
        let Ok(resolved) = check(&document, Source::Remote, &self.0.flags) else {
            // There is nothing better: it stays.
            state.record.trial = None;
            return self.save(&mut state);
        };
        (state.document, state.record) = (document, record);
        self.save(&mut state)?;
        self.run(&mut state, resolved.settings, Source::Remote);
        drop(state);
        self.0.changed.notify(usize::MAX);
        let message =
            "Ground Control cannot be reached under the last configuration: the one before was put back";
        Err(Trouble::new(Cause::CONFIG_ROLLED_BACK, message))
    }

    /// Looks whether somebody edited the file. Blocks.
    ///
    /// # Errors
    /// [`Cause::CONFIG_REFUSED`] names the field; the one that runs stays, and so does the file.
    pub fn look(&self) -> Result<Change, Trouble> {
        let path = self.0.dir.join(FILE);
        let mut state = self.state();
        let now = stamp(&path);
        if now.is_none() || now == state.stamp {
            return Ok(Change::Nothing);
        }
        let Some(document) = read(&path, &self.0.machine)? else { return Ok(Change::Nothing) };
        let document = with_account(document, &state.document);
        let resolved = check(&document, Source::File, &self.0.flags)
            .map_err(|problems| refused(&path.display().to_string(), &problems))?;
        self.keep_previous(&state)?;
        state.document = document;
        let differences = resolved.settings.differences(&state.settings);
        self.save(&mut state)?;
        if differences.is_empty() {
            return Ok(Change::Nothing);
        }
        self.run(&mut state, resolved.settings, Source::File);
        drop(state);
        log::info!("{} was edited: {}", path.display(), differences.join(", "));
        self.0.changed.notify(usize::MAX);
        Ok(Change::Swapped)
    }

    #[expect(clippy::unused_self, reason = "reads as what it does")]
    fn run(&self, state: &mut State, settings: Settings, origin: Source) {
        (state.settings, state.origin, state.since) = (Arc::new(settings), origin, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_previous(&self, state: &State) -> Result<(), Trouble> {
        let path = self.0.dir.join(PREVIOUS);
        let mut document = state.document.clone();
        set_record(&mut document, &state.record);
        write(&path, &document, &self.0.machine, state.settings.encrypt)
    }

    /// Durable when it returns.
    fn save(&self, state: &mut State) -> Result<(), Trouble> {
        let path = self.0.dir.join(FILE);
        set_record(&mut state.document, &state.record);
        write(&path, &state.document, &self.0.machine, state.settings.encrypt)?;
        state.stamp = stamp(&path);
        Ok(())
    }
}

impl Vault for Config {
    fn load(&self) -> Option<Ztr> {
        let account: Ztr = serde_json::from_value(self.state().document.get("state_config")?.clone()).ok()?;
        account.is_whole().then_some(account)
    }

    fn store(&self, account: &Ztr) -> Result<(), Trouble> {
        let value = serde_json::to_value(account).map_err(|e| Trouble::new(Cause::CONFIG_FILE, e))?;
        let mut state = self.state();
        if let Value::Object(map) = &mut state.document {
            map.insert("state_config".into(), value);
        }
        self.save(&mut state)
    }
}

fn parse(json: &[u8], digest: &str) -> Result<Value, Trouble> {
    let bad = |e: &dyn std::fmt::Display| Trouble::new(Cause::CONFIG_REFUSED, format!("{digest}: {e}"));
    let value: Value = serde_json::from_slice(json).map_err(|e| bad(&e))?;
    if value.is_object() { Ok(value) } else { Err(bad(&"it is no JSON object")) }
}

/// The offered one, with the account that is ours; parts that it has not are as they are.
fn merged(offered: &Value, ours: &Value) -> Value {
    let mut map = ours.as_object().cloned().unwrap_or_default();
    for (name, value) in offered.as_object().into_iter().flatten() {
        if name != "state_config" && name != RECORD && !value.is_null() {
            map.insert(name.clone(), value.clone());
        }
    }
    Value::Object(map)
}

/// A document with the account of another: what changes by hand is everything else.
fn with_account(mut document: Value, account: &Value) -> Value {
    if let (Value::Object(map), Some(account)) = (&mut document, account.get("state_config")) {
        map.insert("state_config".into(), account.clone());
    }
    document
}

fn record_of(document: &Value) -> Record {
    document.get(RECORD).and_then(|r| serde_json::from_value(r.clone()).ok()).unwrap_or_default()
}

fn set_record(document: &mut Value, record: &Record) {
    if let (Value::Object(map), Ok(value)) = (document, serde_json::to_value(record)) {
        map.insert(RECORD.into(), value);
    }
}

fn origin_of(record: &Record) -> Source {
    if record.digest.is_empty() { Source::File } else { Source::Remote }
}

fn refused(what: &str, problems: &[Problem]) -> Trouble {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let more = problems.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Trouble::new(Cause::CONFIG_REFUSED, format!("{what}: {first}{more}"))
}

fn secrets(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_str().filter(|_| name.contains("password") || name.contains("token")) {
                    Some(secret) => found.push(secret.into()),
                    None => secrets(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets(item, found)),
        _ => {}
    }
}

fn make_private(dir: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Trouble::new(Cause::CONFIG_FILE, format!("{} cannot be made: {e}", dir.display())))
}

fn read(path: &Path, machine: &Machine) -> Result<Option<Value>, Trouble> {
    let failed = |e: io::Error| Trouble::new(Cause::CONFIG_FILE, format!("{}: {e}", path.display()));
    let bytes = match fs::metadata(path)
        .and_then(|m| if m.len() > MAX { Err(io::Error::other("too large")) } else { fs::read(path) })
    {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let named = |t: Trouble| Trouble::new(t.cause, format!("{}: {}", path.display(), t.message));
    let plain = seal::open(machine, &bytes).map_err(named)?;
    let unreadable = |e: &dyn std::fmt::Display| {
        Trouble::new(Cause::CONFIG_UNREADABLE, format!("{}: {e}", path.display()))
    };
    let value: Value = serde_json::from_slice(&plain).map_err(|e| unreadable(&e))?;
    if value.is_object() { Ok(Some(value)) } else { Err(unreadable(&"it is no JSON object")) }
}

fn write(path: &Path, document: &Value, machine: &Machine, encrypt: bool) -> Result<(), Trouble> {
    let failed =
        |e: &dyn std::fmt::Display| Trouble::new(Cause::CONFIG_FILE, format!("{}: {e}", path.display()));
    let bytes = if encrypt {
        seal::seal(machine, &serde_json::to_vec(document).map_err(|e| failed(&e))?)?
    } else {
        serde_json::to_vec_pretty(document).map_err(|e| failed(&e))?
    };
    put(path, &bytes).map_err(|e| failed(&e))
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Keeps what cannot be read.
fn aside(dir: &Path, trouble: &Trouble) {
    let to = dir.join("config.json.unreadable");
    log::error!("{trouble}; it is kept as {}", to.display());
    if let Err(e) = fs::rename(dir.join(FILE), &to) {
        log::error!("{} cannot be renamed: {e}", dir.join(FILE).display());
    }
}

/// How often the file is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use satellite_core::fleet::ZtrAuth;
    use serde_json::json;

    use super::*;

    fn flags(dir: &Path) -> Flags {
        Flags {
            ground_control_url: Some("http://127.0.0.1:9".into()),
            config_dir: Some(dir.into()),
            ..Flags::default()
        }
    }

    fn open(dir: &Path) -> Config {
        Config::open(flags(dir)).unwrap().0
    }

    fn account() -> Ztr {
        let auth =
            ZtrAuth { url: "http://h".into(), username: "robot$s".into(), password: "hush-hush".into() };
        Ztr { state: "http://h/satellite/satellite-state/s/state:latest".into(), auth }
    }

    fn level(config: &Config) -> String {
        config.settings().log_level.to_string()
    }

    fn offered(level: &str) -> Vec<u8> {
        json!({"app_config": {"log_level": level}, "state_config": {"auth": {"username": "evil"}}})
            .to_string()
            .into()
    }

    #[test]
    fn the_account_is_encrypted_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).store(&account()).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).unwrap().contains("hush"));
        let again = open(dir.path());
        assert_eq!(again.load(), Some(account()));
        let (resolved, secrets) = Config::peek(&flags(dir.path())).unwrap();
        assert!(resolved.is_ok() && secrets.contains(&"hush-hush".to_string()));
        // A file that came from elsewhere is kept, and the satellite starts.
        fs::write(&path, r#"{"version":2,"salt":"AAAA","data":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#)
            .unwrap();
        fs::remove_file(dir.path().join(PREVIOUS)).ok();
        assert_eq!(open(dir.path()).load(), None);
        assert!(dir.path().join("config.json.unreadable").exists());
    }

    #[test]
    fn an_offer_runs_on_trial_and_is_confirmed_or_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(dir.path());
        config.store(&account()).unwrap();
        assert_eq!(config.offer(&offered("debug"), "d1").unwrap(), Change::Swapped);
        assert_eq!((level(&config), config.running_digest()), ("DEBUG".into(), "d1".into()));
        // Killed on trial: it is on trial still, and the account is ours.
        let config = open(dir.path());
        assert!(config.is_on_trial() && config.load() == Some(account()));
        config.heard(true).unwrap();
        assert!(!config.is_on_trial());
        assert_eq!(config.offer(&offered("debug"), "d1").unwrap(), Change::Nothing);

        config.offer(&offered("error"), "d2").unwrap();
        assert!(config.heard(false).is_ok() && config.heard(false).is_ok());
        assert_eq!(config.heard(false).unwrap_err().cause, Cause::CONFIG_ROLLED_BACK);
        assert_eq!((level(&config), config.running_digest()), ("DEBUG".into(), "d1".into()));
        // It was not the link: it is not tried again.
        assert_eq!(config.heard(true).unwrap_err().cause, Cause::CONFIG_ROLLED_BACK);
        assert_eq!(open(dir.path()).offer(&offered("error"), "d2").unwrap_err().cause, Cause::CONFIG_REFUSED);
    }

    #[test]
    fn a_cut_link_condemns_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(dir.path());
        config.offer(&offered("debug"), "d1").unwrap();
        for _ in 0..3 {
            let _ = config.heard(false);
        }
        assert_eq!(level(&config), "INFO");
        config.heard(false).unwrap();
        config.heard(true).unwrap();
        assert_eq!(config.offer(&offered("debug"), "d1").unwrap(), Change::Swapped);
    }

    #[test]
    fn a_wrong_offer_changes_nothing_and_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(dir.path());
        let wrong = json!({"app_config": {"satellite": {"limit_rat": "1MB"}}}).to_string();
        let trouble = config.offer(wrong.as_bytes(), "d1").unwrap_err();
        assert!(trouble.message.contains("app_config.satellite.limit_rat"), "{trouble}");
        assert_eq!((level(&config), config.running_digest().as_str()), ("INFO".into(), ""));
        assert!(config.offer(wrong.as_bytes(), "d1").unwrap_err().message.contains("not tried again"));
        assert!(config.offer(b"<html>", "d3").is_err() && config.offer(b"[]", "d4").is_err());
    }

    #[test]
    fn edits_are_noticed_and_wrong_ones_leave_file_and_settings_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = open(dir.path());
        config.store(&account()).unwrap();
        assert_eq!(config.look().unwrap(), Change::Nothing);
        let path = dir.path().join(FILE);
        fs::write(&path, r#"{"app_config":{"log_level":"warn"}}"#).unwrap();
        assert_eq!(config.look().unwrap(), Change::Swapped);
        assert_eq!((level(&config), config.load()), ("WARN".into(), Some(account())));
        fs::write(&path, "{ half").unwrap();
        assert_eq!(config.look().unwrap_err().cause, Cause::CONFIG_UNREADABLE);
        assert_eq!((level(&config), fs::read_to_string(&path).unwrap()), ("WARN".into(), "{ half".into()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_offers_never_panic_and_lose_no_account(text in "[\\x20-\\x7e]{0,120}", deep in 0_usize..200) {
            let dir = tempfile::tempdir().unwrap();
            let config = open(dir.path());
            config.store(&account()).unwrap();
            let nested = format!("{{\"app_config\":{}{}{}}}", "[".repeat(deep), text, "]".repeat(deep));
            for json in [text.as_bytes(), nested.as_bytes()] {
                let before = config.settings();
                if config.offer(json, &format!("{json:?}")).is_err() {
                    prop_assert_eq!(&before, &config.settings());
                }
                prop_assert_eq!(config.load(), Some(account()));
            }
        }
    }
}
