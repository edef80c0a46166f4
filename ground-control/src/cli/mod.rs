//! The command line. A file per command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};

use crate::settings::{Environment, Flags, SettingError, Settings};

mod backup;
mod client;
mod fleet;
mod log_format;
mod migrate;
mod serve;
mod signals;
mod user;

/// The fleet server of satellites: which images each holds, with which rights, and how it fares.
///
/// `serve` runs it; `migrate`, `user`, `backup` and `restore` work on its database; all others call a running server.
#[derive(Parser)]
#[command(name = "ground-control", version, max_term_width = 110, after_help = HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Sub,
}

const HELP: &str = "\
The environment variables of Harbor Satellite's ground control are understood, also from a .env file; README.md lists them.

Exit codes: 0 done; 1 failed; 2 wrong command line; 3 not found; 4 refused.";

#[derive(Subcommand)]
enum Sub {
    /// Run the server
    Serve(serve::Serve),
    /// Bring the database's tables up to date, and say of which version they are
    Migrate(migrate::Migrate),
    /// Manage users in the database, without a running server: the way back in after a lost password
    User(user::User),
    /// Copy the SQLite database into a new file, also while the server runs
    Backup(backup::Backup),
    /// Put a copy in the database's place; the server must be stopped
    Restore(backup::Restore),
    /// Print the description of the API (OpenAPI 3.1)
    Openapi,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Fleet(fleet::Fleet),
}

/// Where the server's data is.
#[derive(ClapArgs)]
struct Data {
    /// Directory of the embedded database and registry; made if it does not exist [env: DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// postgres://USER:PASSWORD@HOST/DATABASE, or sqlite:PATH; default: a file in the data directory [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Data {
    fn settings(&self, listen: Vec<SocketAddr>) -> Result<Settings, SettingError> {
        let flags =
            Flags { data_dir: self.data_dir.clone(), database_url: self.database_url.clone(), listen };
        Settings::new(&flags, &Environment::of_process())
    }
}

/// How a command ends that does not do what it should.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    fn new(message: impl std::fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }
}

impl From<SettingError> for Failure {
    fn from(e: SettingError) -> Self {
        Self::usage(e)
    }
}

impl From<crate::server::Error> for Failure {
    fn from(e: crate::server::Error) -> Self {
        Self::new(e)
    }
}

impl From<crate::db::Error> for Failure {
    fn from(e: crate::db::Error) -> Self {
        Self::new(e)
    }
}

/// Sends log lines to standard error, as the command and `RUST_LOG` ask for.
pub fn logger(args: &Args) {
    let Sub::Serve(serve) = &args.command else { return log_format::init("warn", false) };
    let access = if serve.access_log { "info" } else { "warn" };
    log_format::init(
        &format!("info,access={access},sqlx=warn,sled=warn,polling=warn,async_io=warn"),
        serve.json_logs(),
    );
}

/// Does what the command line says.
pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Sub::Serve(serve) => serve.run(),
        Sub::Migrate(migrate) => migrate.run(),
        Sub::User(user) => user.run(),
        Sub::Backup(backup) => backup.run(),
        Sub::Restore(restore) => restore.run(),
        Sub::Openapi => {
            println!("{}", crate::router::openapi());
            Ok(())
        }
        Sub::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "ground-control", &mut std::io::stdout());
            Ok(())
        }
        Sub::Fleet(fleet) => fleet.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ground-control: {}", failure.message);
            failure.code.into()
        }
    }
}

/// A password from standard input, or made up if that is asked for.
fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(std::io::stdin(), 64 << 10), &mut text)
        .map_err(|e| Failure::new(format!("cannot read the password: {e}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
