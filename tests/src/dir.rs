//! Temporary directories whose paths are short enough for what keeps sockets in them.

use std::path::Path;

/// A directory that is removed at the end of its test.
#[derive(Debug)]
pub struct Dir(tempfile::TempDir);

impl Dir {
    /// Makes `/tmp/st…`, some 15 bytes long: a socket's path has 107 at most, and runtimes nest deep.
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("st").tempdir_in("/tmp").expect("a directory in /tmp"))
    }

    /// The directory's own path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its path, now somebody else's to remove.
    pub fn keep(self) -> std::path::PathBuf {
        self.0.keep()
    }

    /// The path of something in it, which need not exist.
    pub fn join(&self, name: impl AsRef<Path>) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}
