//! `ground-control migrate`

use clap::Args;

use super::{Data, Result};
use crate::server;

#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    data: Data,
    /// Only say of which version the tables are
    #[arg(long)]
    check: bool,
}

impl Migrate {
    pub(super) fn run(&self) -> Result<()> {
        let settings = self.data.settings(Vec::new())?;
        smol::block_on(async {
            let db = server::open(&settings).await?;
            if self.check {
                let (there, needed) = db.version().await?;
                println!("tables are of version {there}, this program's is {needed}");
            } else {
                let report = db.migrate().await?;
                println!("tables were of version {}, and are of version {}", report.from, report.to);
            }
            db.close().await;
            Ok(())
        })
    }
}
