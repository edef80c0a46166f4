//! What was in the files before, written down and synced before the first of them changes: whatever is cut off in the middle
//! can be taken back or done again.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Host, files, wish::Kind};

const NAME: &str = "runtimes.json";

/// A file that we changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// What it is without us; `None`: it is not there.
    pub(super) original: Option<String>,
    /// What we wrote; while that is being done, also what we had written before.
    pub(super) written: Vec<String>,
    /// Directories that were made for it, the innermost first.
    #[serde(default)]
    pub(super) dirs: Vec<PathBuf>,
}

impl Entry {
    /// The file without us, as it now is: what the admin changed since stays.
    pub(super) fn without_us(&self, path: &str, now: Option<&str>) -> Result<Option<String>, Error> {
        let Some(now) = now else { return Ok(None) };
        if self.written.iter().any(|w| w == now) || self.original.as_deref() == Some(now) {
            return Ok(self.original.clone());
        }
        let (Some(written), original) = (self.written.first(), self.original.as_deref().unwrap_or_default())
        else {
            return Ok(Some(now.to_string()));
        };
        match diffy::merge(written, now, original) {
            Ok(merged) if self.original.is_none() && merged.trim().is_empty() => Ok(None),
            Ok(merged) => Ok(Some(merged)),
            Err(_) => {
                Err(Error::Changed { file: path.into(), diff: diffy::create_patch(written, now).to_string() })
            }
        }
    }
}

/// The files by their path on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) files: BTreeMap<String, Entry>,
}

impl Host {
    pub(super) fn journal(&self) -> Result<Journal, Error> {
        let path = self.state.join(NAME);
        let Some(text) = files::read(&path)? else { return Ok(Journal::default()) };
        serde_json::from_str(&text)
            .map_err(|e| Error::Unparsable { file: path.display().to_string(), problem: e.to_string() })
    }

    pub(super) fn keep(&self, journal: &Journal) -> Result<(), Error> {
        let path = self.state.join(NAME);
        let text = serde_json::to_string_pretty(journal)
            .map_err(|e| Error::io("write", &path)(std::io::Error::other(e)))?;
        files::write_private(&path, (!journal.files.is_empty()).then_some(text.as_str()))
    }

    /// One at a time: held until it is dropped.
    pub(super) fn lock(&self) -> Result<fs::File, Error> {
        fs::create_dir_all(&self.state).map_err(Error::io("make", &self.state))?;
        let path = self.state.join("runtimes.lock");
        let file = fs::File::create(&path).map_err(Error::io("make", &path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| Error::io("lock", &path)(e.into()))?;
        Ok(file)
    }
}
