//! The command line. A file per command.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use satellite_core::remote::DockerConfig;

use crate::{
    agent::{
        run::last_store,
        settings::{Config, Flags, Resolved},
    },
    control::{Command, Upstream, client},
    exit::{Code, Failure, Result},
    human,
    progress::{self, Show},
};

mod config;
mod fsck;
mod gc;
mod images;
mod inspect;
mod pull;
mod pull_through;
mod push;
mod rm;
mod run;
mod runtimes;
mod scrub;
mod serve;
mod status;
mod support;

/// Keeps container images at the edge: replicates them over bad links, and serves them as an OCI registry.
#[derive(Parser)]
#[command(name = "satellite", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
    /// Say more on standard error; twice, thrice: much more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong command line; 3 image not found; 4 refused by the registry; 5 store locked, \
damaged or full; 6 registry or network failed; 7 content is not what its digest says; 130 interrupted.

Every command works beside a running `satellite serve` on the same data directory, and without one.";

#[derive(Subcommand)]
enum Sub {
    /// Run unattended, as Ground Control says
    Run(Box<run::Run>),
    /// How the agent on this machine is
    Status(status::Status),
    /// Have the agent do a job at once
    Now(status::Now),
    /// Show what holds of the configuration, or check one
    Config(config::Config),
    /// Write a support bundle, without secrets
    SupportBundle(support::SupportBundle),
    /// Serve the store as an OCI registry
    Serve(Box<serve::Serve>),
    /// Fetch images into the store; what is there is not fetched again, what was cut goes on
    #[command(alias = "copy")]
    Pull(pull::Pull),
    /// Push an image of the store to a registry
    Push(push::Push),
    /// List the images in the store
    Images(images::Images),
    /// Describe an image of the store
    Inspect(inspect::Inspect),
    /// Remove images from the store; their bytes go with the next `gc`
    Rm(rm::Rm),
    /// Delete what no image needs
    Gc(gc::Gc),
    /// Check every byte and record of the store
    Fsck(fsck::Fsck),
    /// Point the container runtimes of this machine at the satellite, and take it back
    Runtimes(runtimes::Runtimes),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where the store is.
#[derive(ClapArgs)]
struct DataDir {
    /// The store's directory; made if it does not exist
    #[arg(long, env = "SATELLITE_DATA_DIR", default_value_os_t = default_data_dir(), value_name = "DIR")]
    data_dir: PathBuf,
}

/// Where a running agent is found.
#[derive(ClapArgs)]
struct AgentDir {
    /// Its configuration's directory
    #[arg(long, env = "CONFIG_DIR", value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Its store's directory [default: the one that it used last]
    #[arg(long, env = "REGISTRY_DATA_DIR", value_name = "DIR")]
    registry_data_dir: Option<PathBuf>,
}

impl AgentDir {
    fn config_dir(&self) -> PathBuf {
        Flags { config_dir: self.config_dir.clone(), ..Flags::default() }.config_dir()
    }

    /// The store's directory: the one that was named, else where the agent said that it has it, else as its configuration
    /// says.
    fn store(&self) -> PathBuf {
        if let Some(dir) = self.registry_data_dir.clone().or_else(|| last_store(&self.config_dir())) {
            return dir;
        }
        let flags = Flags {
            config_dir: self.config_dir.clone(),
            // Only where the store is matters here.
            ground_control_url: Some("https://localhost/".into()),
            ..Flags::default()
        };
        match Config::peek(&flags) {
            Ok((Ok(Resolved { settings, .. }), _)) => settings.store_dir(&self.config_dir()),
            _ => self.config_dir().join("zot"),
        }
    }
}

/// Asks the agent; nobody answers in its place.
fn ask_agent<T: serde::de::DeserializeOwned>(dir: &AgentDir, command: &Command) -> Result<T> {
    let store = dir.store();
    let value = client::running(&store, command)?.ok_or_else(|| {
        let message =
            format!("no agent runs on {}: start `satellite run`, or name its --config-dir", store.display());
        Failure::new(Code::NotFound, message)
    })?;
    understood(value)
}

fn understood<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Failure::new(Code::Failed, format!("the answer is not understood: {e}")))
}

fn default_data_dir() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
    match home {
        Some(home) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(home).join(".local/share/satellite")
        }
        _ => "/var/lib/satellite".into(),
    }
}

/// How registries are reached; the same for `pull`, `push` and `serve`.
#[derive(ClapArgs)]
struct UpstreamArgs {
    /// Speak plain HTTP to the registry (loopback: always)
    #[arg(long)]
    plain_http: bool,
    /// Trust this certification authority too (PEM); asks for HTTPS on loopback, too
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Give a connection up after this long without a byte, and try another; the whole may take any time
    #[arg(long, default_value = "60s", value_parser = human::parse_duration, value_name = "TIME")]
    stall_timeout: std::time::Duration,
    /// Name at the registry; without it Docker's config.json is asked
    #[arg(long, short, requires = "password_stdin", value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl UpstreamArgs {
    fn read(&self) -> Result<Upstream> {
        let login = match &self.username {
            Some(name) => {
                let mut password = String::new();
                std::io::Read::read_to_string(
                    &mut std::io::Read::take(std::io::stdin(), 64 << 10),
                    &mut password,
                )
                .map_err(|e| Failure::new(Code::Usage, format!("cannot read the password: {e}")))?;
                Some((name.clone(), password.trim_end_matches(['\r', '\n']).to_string()))
            }
            None => None,
        };
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .map_err(|e| Failure::new(Code::Usage, format!("{}: {e}", path.display())))
        };
        Ok(Upstream {
            plain_http: self.plain_http,
            ca_files: self.ca_file.iter().map(absolute).collect::<Result<_>>()?,
            login,
            docker_config: DockerConfig::from_env().files().to_vec(),
            stall_ms: u64::try_from(self.stall_timeout.as_millis()).unwrap_or(u64::MAX).max(1),
        })
    }
}

impl Args {
    /// Warnings, unless `-v` asks for more; servers tell more.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.verbose {
            0 if matches!(self.command, Sub::Serve(_)) => "info",
            // The configuration says what of it is written.
            0 if matches!(self.command, Sub::Run(_)) => "trace",
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        }
    }

    pub(crate) fn wants_access_log(&self) -> bool {
        matches!(&self.command, Sub::Serve(serve) if serve.access_log)
    }
}

/// Does what the command line says.
pub(crate) fn run(args: Args) -> Result<()> {
    let own_level = args.verbose == 0 && std::env::var_os("RUST_LOG").is_none();
    match args.command {
        Sub::Run(run) => run.run(own_level),
        Sub::Status(status) => status.run(),
        Sub::Now(now) => now.run(),
        Sub::Config(config) => config.run(),
        Sub::SupportBundle(bundle) => bundle.run(),
        Sub::Serve(serve) => serve.run(),
        Sub::Pull(pull) => pull.run(),
        Sub::Push(push) => push.run(),
        Sub::Images(images) => images.run(),
        Sub::Inspect(inspect) => inspect.run(),
        Sub::Rm(rm) => rm.run(),
        Sub::Gc(gc) => gc.run(),
        Sub::Fsck(fsck) => fsck.run(),
        Sub::Runtimes(runtimes) => runtimes.run(),
        Sub::Completions { shell } => {
            let mut command = <Args as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "satellite", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A command that answers at once, and its answer as what it should be.
fn ask<T: serde::de::DeserializeOwned>(dir: &DataDir, command: Command) -> Result<T> {
    let value = client::call(
        &dir.data_dir,
        command,
        &progress::sink(&Show::Nothing),
        &(std::sync::Arc::new(|_, _| ()) as _),
    )?;
    understood(value)
}
