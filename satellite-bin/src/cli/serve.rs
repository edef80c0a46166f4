//! `satellite serve`

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use satellite_core::{
    net::{Executor, server::TlsAcceptor},
    registry::{Access, Htpasswd, Names, Rule, Settings},
    store::Options,
};

use super::{DataDir, UpstreamArgs, pull_through::PullThroughArgs, scrub::ScrubArgs};
use crate::{
    exit::{Code, Failure, Result},
    human, output,
    serving::{Ended, Live, Plan, Serving, begin_anew},
};

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    dir: DataDir,
    /// Address to listen on; port 0 takes a free one. May be given more than once
    #[arg(long, default_value = "127.0.0.1:8585", value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Let whoever connects from this machine push and delete without a password
    #[arg(long)]
    trust_loopback: bool,
    /// Who may push and delete: a file of NAME:HASH lines made with `htpasswd -B`; read again when it changes
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Ask for a password for pulls too
    #[arg(long, requires = "htpasswd")]
    private: bool,
    /// Serve HTTPS with this certificate chain (PEM); read again when it changes
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Refuse every push and delete
    #[arg(long)]
    read_only: bool,
    /// Accept manifests whose content is not all here
    #[arg(long)]
    allow_sparse: bool,
    /// Serve what clients ask for as HOST/PREFIX/… from PROJECT/PREFIX/…, where it was replicated: docker.io=dockerhub.
    /// With * in place of the project under the same name. The longest prefix counts; may be given more than once
    #[arg(long, value_name = "HOST[/PREFIX]=PROJECT[/PREFIX]")]
    map: Vec<Rule>,
    /// Most bytes a second from upstream, shared by all pulls that this process does
    #[arg(long, value_parser = human::parse_rate, value_name = "RATE")]
    limit_rate: Option<u64>,
    #[command(flatten)]
    pull_through: PullThroughArgs,
    #[command(flatten)]
    upstream: UpstreamArgs,
    #[command(flatten)]
    scrub: ScrubArgs,
    /// Most bytes of content, of what is on its way included; what was only pulled through makes room, least recently
    /// used first, and what is replicated or pushed is never evicted. Default: all but 32 MiB of the disk
    #[arg(long, value_parser = human::parse_size, value_name = "SIZE")]
    capacity: Option<u64>,
    /// Evict nothing that was asked for within this time: somebody may be pulling it
    #[arg(long, default_value = "30s", value_parser = human::parse_duration, value_name = "TIME")]
    keep_used: Duration,
    /// Collect garbage this often; 0 never
    #[arg(long, default_value = "6h", value_parser = human::parse_duration, value_name = "TIME")]
    gc_interval: Duration,
    /// Leave garbage that is younger than this: somebody may be about to need it
    #[arg(long, default_value = "1h", value_parser = human::parse_duration, value_name = "TIME")]
    gc_grace: Duration,
    /// Write the address to this file once requests are answered
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Log every request
    #[arg(long)]
    pub(super) access_log: bool,
}

impl Serve {
    pub(super) fn run(&self) -> Result<()> {
        // What can fail for the command line's sake fails before the store is touched.
        let usage = |e: &dyn std::fmt::Display| Failure::new(Code::Usage, e);
        let users = self.htpasswd.as_deref().map(Htpasswd::open).transpose().map_err(|e| usage(&e))?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(TlsAcceptor::from_files(certificate, key).map_err(|e| usage(&e))?)
            }
            _ => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let names = Names::new(self.map.iter().cloned()).map_err(|e| usage(&e))?;
        let policy = self.pull_through.policy(&self.upstream)?;
        let upstream = self.upstream.read()?;
        let executor: Executor = Arc::new(smol::Executor::new());
        let pull_through = policy
            .map(|policy| self.pull_through.through(policy, upstream.clone(), &executor))
            .transpose()?;
        let plan = Plan {
            data_dir: self.dir.data_dir.clone(),
            listen: self.listen.clone(),
            tls,
            access: Access { trust_loopback: self.trust_loopback, users, private: self.private },
            settings: Settings {
                read_only: self.read_only,
                sparse: self.allow_sparse,
                ..Settings::default()
            },
            store: Options {
                cap: self.capacity,
                running: self.keep_used,
                grace: self.gc_grace,
                ..Options::default()
            },
            stall: upstream.stall(),
            scrub: self.scrub.options(),
            pull_through,
            live: Live { names, limit_rate: self.limit_rate, gc_interval: self.gc_interval },
        };
        let serving = Serving::bind(plan, &executor)?;
        for address in &serving.addresses {
            output::line(&format!("listening on {scheme}://{address}"));
        }
        if let (Some(path), Some(first)) = (&self.ready_file, serving.addresses.first()) {
            fs::write(path, format!("{scheme}://{first}\n"))
                .map_err(|e| Failure::new(Code::Failed, format!("cannot write {}: {e}", path.display())))?;
        }
        let mender = serving.context.replicator(None, upstream, None)?;
        let ended = serving.run(&mender, std::future::pending());
        drop((serving, mender));
        drop(executor);
        match ended {
            Ended::Stopped => Ok(()),
            // A password that was read from standard input cannot be read again: whoever gave it has to start it.
            Ended::Anew(why) if self.upstream.password_stdin => {
                Err(Failure::new(Code::Store, format!("{why}: start it again")))
            }
            Ended::Anew(why) => {
                log::error!("{why}: starting anew");
                Err(begin_anew())
            }
        }
    }
}
