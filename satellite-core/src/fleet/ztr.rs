//! Zero-touch registration: what a one-time token is exchanged for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::null_is_default;

/// The answer of `GET /satellites/ztr/TOKEN`. Its `Debug` shows no password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ztr {
    /// Where the satellite's state is: `http://harbor/satellite/satellite-state/NAME/state:latest`.
    #[serde(deserialize_with = "null_is_default")]
    pub state: String,
    /// Who it is there, and at Ground Control.
    pub auth: ZtrAuth,
}

/// A satellite's account.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZtrAuth {
    /// The registry: scheme, host and port.
    #[serde(deserialize_with = "null_is_default")]
    pub url: String,
    /// The robot's login: `robot$NAME`.
    #[serde(deserialize_with = "null_is_default")]
    pub username: String,
    /// Its secret.
    #[serde(deserialize_with = "null_is_default")]
    pub password: String,
}

impl Ztr {
    /// Whether nothing is missing: satellites take an empty value for a failure.
    pub fn is_whole(&self) -> bool {
        ![&self.state, &self.auth.url, &self.auth.username, &self.auth.password].iter().any(|v| v.is_empty())
    }
}

impl fmt::Debug for ZtrAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZtrAuth")
            .field("url", &self.url)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
