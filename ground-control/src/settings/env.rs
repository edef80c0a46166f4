//! Environment variables, with a `.env` file under them.

use std::{collections::HashMap, path::Path, str::FromStr, time::Duration};

use satellite_core::remote::Secret;

use super::{SettingError, duration};

/// Most bytes taken of a `.env` file or of a file that holds a secret.
const MAX_FILE: u64 = 1 << 20;

/// Variables by name.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl std::fmt::Debug for Environment {
    /// Names alone: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Exactly these.
    pub fn new(variables: HashMap<String, String>) -> Self {
        Self(variables)
    }

    /// The process's, over those of `.env` in the working directory if there is one.
    pub fn of_process() -> Self {
        let mut all = read(Path::new(".env")).map(|text| parse(&text)).unwrap_or_default();
        all.extend(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        );
        Self(all)
    }

    /// Its value, unless that is empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|v| !v.is_empty()).cloned()
    }

    /// A secret: `NAME`, or what the file `NAME_FILE` holds, without line ends at its end.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, SettingError> {
        if let Some(value) = self.get(name) {
            return Ok(Some(Secret::new(value)));
        }
        let file = format!("{name}_FILE");
        let Some(path) = self.get(&file) else { return Ok(None) };
        let text = read(Path::new(&path)).map_err(|e| SettingError::new(file, format!("{path}: {e}")))?;
        Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
    }

    /// A number.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, SettingError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| SettingError::new(name, format!("{text:?} is no number of that kind"))),
        }
    }

    /// A duration as Go writes one, more than nothing.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, SettingError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => duration::parse(&text).ok_or_else(|| {
                SettingError::new(name, format!("{text:?} is no duration: expected 90s, 5m, 24h, 7d"))
            }),
        }
    }

    /// True or false, as Go reads it.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, SettingError> {
        match self.get(name).as_deref() {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(text) => Err(SettingError::new(name, format!("{text:?} is neither true nor false"))),
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(std::fs::File::open(path)?, MAX_FILE), &mut text)?;
    Ok(text)
}

/// `NAME=VALUE` lines; `#` begins a comment, `export` may stand before, quotes may stand around the value.
pub(super) fn parse(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
        let value = quoted('"')
            .or_else(|| quoted('\''))
            .unwrap_or_else(|| value.split_once(" #").map_or(value, |(before, _)| before.trim_end()));
        found.insert(name.trim().to_string(), value.to_string());
    }
    found
}
