//! `ground-control backup` and `restore`: the SQLite database as one file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Data, Failure, Result};
use crate::{
    db::{Db, Dialect},
    server,
    settings::Settings,
};

/// How every SQLite file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

#[derive(Args)]
pub(super) struct Backup {
    #[command(flatten)]
    data: Data,
    /// The new file
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Args)]
pub(super) struct Restore {
    #[command(flatten)]
    data: Data,
    /// A file that `backup` wrote
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Replace a database that is there; it is kept beside as `.before-restore`
    #[arg(long)]
    force: bool,
}

fn only_sqlite() -> Failure {
    Failure::usage("this is for SQLite; for PostgreSQL use pg_dump and pg_restore")
}

impl Backup {
    pub(super) fn run(&self) -> Result<()> {
        let settings = self.data.settings(Vec::new())?;
        if self.to.exists() {
            return Err(Failure::usage(format!("{} is there already", self.to.display())));
        }
        smol::block_on(async {
            let db = server::open(&settings).await?;
            if db.dialect() != Dialect::Sqlite {
                return Err(only_sqlite());
            }
            // Under another name first, so that a file of that name is a whole one.
            let partial = PathBuf::from(format!("{}.partial", self.to.display()));
            let _ = std::fs::remove_file(&partial);
            db.copy_to(&partial).await?;
            db.close().await;
            let put = || {
                let file = std::fs::File::open(&partial)?;
                rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
                file.sync_all()?;
                std::fs::rename(&partial, &self.to)?;
                sync_dir(&self.to)
            };
            put().map_err(|e| Failure::new(format!("{}: {e}", self.to.display())))?;
            println!("{}", self.to.display());
            Ok(())
        })
    }
}

impl Restore {
    pub(super) fn run(&self) -> Result<()> {
        let settings = self.data.settings(Vec::new())?;
        let target = database_file(&settings)?;
        check(&self.from)?;
        if target.exists() {
            if !self.force {
                let text = format!("{} is there: stop the server, and use --force", target.display());
                return Err(Failure::usage(text));
            }
            idle(&target)?;
        }
        let put = || {
            if let Some(dir) = target.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let partial = PathBuf::from(format!("{}.partial", target.display()));
            std::fs::copy(&self.from, &partial)?;
            let file = std::fs::File::open(&partial)?;
            rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
            file.sync_all()?;
            if target.exists() {
                std::fs::rename(&target, PathBuf::from(format!("{}.before-restore", target.display())))?;
            }
            // What the old database had not yet taken over from its log must not be played into the new one.
            for log in ["wal", "shm"] {
                match std::fs::remove_file(PathBuf::from(format!("{}-{log}", target.display()))) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            std::fs::rename(&partial, &target)?;
            sync_dir(&target)
        };
        put().map_err(|e| Failure::new(format!("{}: {e}", target.display())))?;
        smol::block_on(async {
            let db = Db::connect(&Db::sqlite_url(&target), 2, std::time::Duration::ZERO).await?;
            let report = db.migrate().await?;
            db.close().await;
            println!("{}: tables of version {}", target.display(), report.to);
            Ok(())
        })
    }
}

/// What the default URL, or `sqlite:PATH`, names.
fn database_file(settings: &Settings) -> Result<PathBuf> {
    if settings.database_is_default {
        return Ok(settings.data_dir.join("ground-control.db"));
    }
    let url = settings.database_url.expose();
    let path = url.strip_prefix("sqlite:").ok_or_else(only_sqlite)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Ok(path.split('?').next().unwrap_or_default().into())
}

fn check(path: &Path) -> Result<()> {
    use std::io::Read;
    let mut head = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    if head == MAGIC {
        Ok(())
    } else {
        Err(Failure::new(format!("{} is no SQLite database", path.display())))
    }
}

/// Nobody writes to it now: a transaction can be begun that excludes all others.
fn idle(path: &Path) -> Result<()> {
    smol::block_on(async {
        let db = Db::connect(&Db::sqlite_url(path), 1, std::time::Duration::ZERO).await;
        let quiet = match db {
            Ok(db) => {
                let quiet = db.is_alone().await;
                db.close().await;
                quiet
            }
            // A damaged one may be replaced.
            Err(_) => true,
        };
        if quiet {
            Ok(())
        } else {
            Err(Failure::new(format!("{} is in use: stop the server first", path.display())))
        }
    })
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(dir)?.sync_all()
}
