//! `state.json`.

use std::{fs, io, path::Path};

use super::desired::Known;
use crate::agent::{
    cause::{Cause, Trouble},
    identity::put,
};

const FILE: &str = "state.json";
/// Larger ones are not ours.
const MAX: u64 = 64 << 20;

/// What was last known. A file that cannot be read is set aside: what it named stays in the store, and nothing is removed
/// for its sake.
pub(super) fn load(dir: &Path) -> Known {
    let path = dir.join(FILE);
    let read = || {
        if fs::metadata(&path)?.len() > MAX {
            return Err(io::Error::other("too large"));
        }
        serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)
    };
    match read() {
        Ok(known) => known,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Known::default(),
        Err(e) => {
            let aside = dir.join("state.json.damaged");
            log::error!("{} cannot be read, it is kept as {}: {e}", path.display(), aside.display());
            if let Err(e) = fs::rename(&path, &aside) {
                log::error!("{} cannot be renamed: {e}", path.display());
            }
            Known::default()
        }
    }
}

/// Durable when it returns. Blocks.
pub(super) fn save(dir: &Path, known: &Known) -> Result<(), Trouble> {
    let failed = |e: &dyn std::fmt::Display| {
        Trouble::new(Cause::STATE_FILE, format!("{}: {e}", dir.join(FILE).display()))
    };
    let text = serde_json::to_vec_pretty(known).map_err(|e| failed(&e))?;
    put(&dir.join(FILE), &text).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_comes_back_and_a_damaged_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known { state_digest: "d".into(), ..Known::default() };
        save(dir.path(), &known).unwrap();
        assert_eq!(load(dir.path()), known);
        fs::write(dir.path().join(FILE), b"{ cut").unwrap();
        assert_eq!(load(dir.path()), Known::default());
        assert_eq!(fs::read(dir.path().join("state.json.damaged")).unwrap(), b"{ cut");
        // As the reference writes it.
        let text = r#"{"config_digest":"c","groups":[{"url":"u","entities":[{"name":"app","repository":"edge/app","tag":"v1","digest":"sha256:x"}]}]}"#;
        fs::write(dir.path().join(FILE), text).unwrap();
        assert_eq!(load(dir.path()).groups[0].entities[0].repository.as_str(), "edge/app");
    }
}
