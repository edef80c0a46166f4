//! Files of others: read within bounds, written whole or not at all.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use super::Error;

/// Largest file that is read.
const MAX: u64 = 1 << 20;

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let problem = |text: &str| Error::Unparsable { file: path.display().to_string(), problem: text.into() };
    if bytes.len() as u64 > MAX {
        return Err(problem("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| problem("it is not UTF-8"))
}

/// Puts a text in the place of a file, or removes it. Mode and owner of what is there stay; a link is followed.
pub(super) fn write(path: &Path, text: Option<&str>) -> Result<(), Error> {
    replace(path, text, 0o644)
}

/// The same, for a new file that nobody else may read.
pub(super) fn write_private(path: &Path, text: Option<&str>) -> Result<(), Error> {
    replace(path, text, 0o600)
}

fn replace(path: &Path, text: Option<&str>, mode: u32) -> Result<(), Error> {
    let path: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let Some(text) = text else {
        return match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(e)),
            _ => sync(dir),
        };
    };
    fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    let there = fs::metadata(&path).ok();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // In the same directory, for the rename; with a name that no runtime takes for a file of its own.
    let temporary = dir.join(format!(".{name}.satellite-{}~", std::process::id()));
    let written = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mode = there.as_ref().map_or(mode, |t| t.mode() & 0o7777);
        if let Some(there) = &there {
            fchown(&file, Some(there.uid()), Some(there.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(Error::io("write", &path))?;
    sync(dir)
}

fn sync(dir: &Path) -> Result<(), Error> {
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("write", dir))
}

/// The directories that have to be made for a file, the innermost first.
pub(super) fn missing_dirs(path: &Path) -> Vec<PathBuf> {
    path.ancestors().skip(1).take_while(|dir| !dir.exists()).map(Into::into).collect()
}
