//! Names of satellites, groups and configurations, and the repositories that hold their states.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::oci::{NameError, Repository};

/// Longest name, in bytes.
const MAX_NAME: usize = 255;
/// Harbor's project for states.
pub(super) const PROJECT: &str = "satellite";

/// The name of a satellite, group or configuration: 1–255 bytes, `^[a-z0-9][a-z0-9._-]*$` (the reference's grammar).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Not such a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: 1-255 lower-case letters, digits, or . _ -, the first a letter or digit")]
pub struct BadName(String);

impl Name {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = text.len() <= MAX_NAME
            && text.bytes().next().is_some_and(alnum)
            && text.bytes().all(|b| alnum(b) || matches!(b, b'.' | b'_' | b'-'));
        if good { Ok(Self(text.into())) } else { Err(BadName(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether Harbor takes it for a robot's name: `^[a-z0-9]+(?:[._-][a-z0-9]+)*$`, 255 bytes at most (measured; 256 is
/// answered with 500). Narrower than [`Name`]: no `a--b`, no `a.`.
pub fn is_robot_name(text: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= MAX_NAME && text.split(['.', '_', '-']).all(part)
}

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// Which groups and which configuration a satellite has.
    Satellite,
    /// Which images a group has.
    Group,
    /// A configuration.
    Config,
}

impl StateKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Satellite, Self::Group, Self::Config];

    fn folder(self) -> &'static str {
        match self {
            Self::Satellite => "satellite-state",
            Self::Group => "group-state",
            Self::Config => "config-state",
        }
    }

    /// Where its state is kept: `satellite/group-state/NAME/state`.
    ///
    /// # Errors
    /// Some names are none for repositories (`a..b`, `a.`, over 217 bytes): no state can be published under them.
    pub fn repository(self, name: &str) -> Result<Repository, NameError> {
        if name.contains('/') {
            return Err(NameError::Repository(name.chars().take(160).collect()));
        }
        format!("{PROJECT}/{}/{name}/state", self.folder()).parse()
    }

    /// Whose state a repository holds, and the name; `None` for other repositories.
    pub fn of_repository(repository: &str) -> Option<(Self, &str)> {
        let rest = repository.strip_prefix(PROJECT)?.strip_prefix('/')?.strip_suffix("/state")?;
        let (folder, name) = rest.split_once('/')?;
        let kind = Self::ALL.into_iter().find(|k| k.folder() == folder)?;
        (!name.is_empty() && !name.contains('/')).then_some((kind, name))
    }

    /// The state's address as satellites are told it: `http://harbor/satellite/group-state/NAME/state:latest`.
    /// `registry` is scheme, host and port, without a slash at its end.
    ///
    /// # Errors
    /// As [`repository`](Self::repository).
    pub fn url(self, registry: &str, name: &str) -> Result<String, NameError> {
        Ok(format!("{registry}/{}:latest", self.repository(name)?))
    }
}
