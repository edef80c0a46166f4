//! `ground-control serve`

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use satellite_core::net::Executor;

use super::{Data, Failure, Result, signals::stop_signal};
use crate::server;

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    data: Data,
    /// Address to listen on; port 0 takes a free one. May be given more than once [default: 127.0.0.1:9090] [env: LISTEN, PORT]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Write the address to this file once requests are answered
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Log every request
    #[arg(long)]
    pub(super) access_log: bool,
    /// Form of log lines
    #[arg(long, value_enum, default_value = "text", value_name = "FORM")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Serve {
    pub(super) fn json_logs(&self) -> bool {
        matches!(self.log_format, LogFormat::Json)
    }

    pub(super) fn run(&self) -> Result<()> {
        let settings = self.data.settings(self.listen.clone())?;
        let threads = settings.threads;
        let executor: Executor = Arc::new(smol::Executor::new());
        server::block_on(&executor, threads, async {
            let (ready, news) = Box::pin(server::prepare(settings, &executor)).await?;
            if let Some(password) = &news.admin_password {
                println!("first start: user admin, password {} (shown this once)", password.expose());
            }
            for url in &news.urls {
                println!("listening on {url}");
            }
            if let (Some(path), Some(url)) = (&self.ready_file, news.urls.first()) {
                fs::write(path, format!("{url}\n"))
                    .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))?;
            }
            Box::pin(ready.run(async {
                stop_signal().await;
                log::info!("stopping: no new connections, running answers may end");
            }))
            .await;
            Ok(())
        })
    }
}
