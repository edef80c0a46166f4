//! Small file systems in memory, that fill up and that can be made read-only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::run;
use crate::skip;

const BOUND: Duration = Duration::from_secs(20);

/// A file system of its own, unmounted at the end.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// One of `size` at a directory that is made; `None`, and says so, where none can be mounted.
    pub fn new(test: &str, at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = run(mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at), BOUND);
        if mounted.code != Some(0) {
            skip(test, &format!("no file system can be mounted here: {}", mounted.stderr.trim()));
            return None;
        }
        Some(Self(at.into()))
    }

    /// Mounts it anew: `ro`, `size=10m`.
    pub fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0), BOUND).ok();
    }

    /// Fills it up to that many free bytes.
    pub fn fill(&self, free: u64) {
        let _ = std::fs::remove_file(self.0.join("ballast of the test"));
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let size = (stat.f_bavail * stat.f_frsize).saturating_sub(free);
        std::fs::write(self.0.join("ballast of the test"), vec![1; usize::try_from(size).unwrap()]).unwrap();
    }

    /// Takes the ballast out.
    pub fn free(&self) {
        std::fs::remove_file(self.0.join("ballast of the test")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0), BOUND);
    }
}
