//! A file that is set aside when it is full; the old ones are compressed, and removed by number and age.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

pub(super) struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
    backups: u32,
    days: u32,
    compress: bool,
}

impl Rotated {
    /// 0 backups or days: all are kept.
    pub(super) fn open(path: &Path, most: u64, backups: u32, days: u32, compress: bool) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(named)?;
        }
        let file = append(path).map_err(named)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.into(), file, size, most, backups, days, compress })
    }

    pub(super) fn write(&mut self, line: &str, at: Timestamp) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.size > 0 && self.size + length > self.most {
            self.turn(at)?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += length;
        Ok(())
    }

    fn turn(&mut self, at: Timestamp) -> io::Result<()> {
        let (stem, end) = self.parts();
        let old = |n: u32| {
            let more = if n == 0 { String::new() } else { format!("-{n}") };
            let time = format!("{at:.3}").replace(':', "-");
            self.path.with_file_name(format!("{stem}{time}{more}{end}"))
        };
        let packed = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".gz");
            PathBuf::from(name)
        };
        let mut n = 0;
        while n < 1000 && (old(n).exists() || packed(&old(n)).exists()) {
            n += 1;
        }
        let aside = old(n);
        fs::rename(&self.path, &aside)?;
        (self.file, self.size) = (append(&self.path)?, 0);
        // What cannot be compressed or removed stays, and is tried at the next turn by number and age.
        if self.compress
            && let Err(e) = pack(&aside, &packed(&aside))
        {
            log::warn!("{}: {e}", aside.display());
        }
        self.prune();
        Ok(())
    }

    /// What an old file's name begins and ends with: `audit-` and `.log`.
    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let end = self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        (format!("{}-", text(self.path.file_stem())), end)
    }

    fn prune(&self) {
        let (stem, end) = self.parts();
        let dir = self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut old: Vec<(String, PathBuf)> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .filter(|(name, _)| {
                let time = name
                    .strip_prefix(&stem)
                    .and_then(|n| n.strip_suffix(".gz").unwrap_or(n).strip_suffix(&end));
                time.is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit()))
            })
            .collect();
        old.sort_unstable();
        let keep = if self.backups == 0 { usize::MAX } else { self.backups as usize };
        let many = old.len().saturating_sub(keep);
        let age = Duration::from_secs(u64::from(self.days) * 86_400);
        for (n, (_, path)) in old.into_iter().enumerate() {
            let written = fs::metadata(&path).and_then(|m| m.modified()).ok();
            let since = written.and_then(|w| SystemTime::now().duration_since(w).ok());
            if n < many || (self.days > 0 && since.is_some_and(|s| s > age)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn pack(from: &Path, to: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut gzip = GzEncoder::new(file, Compression::new(6));
    io::copy(&mut File::open(from)?, &mut gzip)?;
    gzip.finish()?.sync_all()?;
    fs::remove_file(from)
}
