//! Commands that call a running server.

mod calls;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, Result, client::Server};
use calls::{audit, configs, groups, images, login, outbox, satellites};

#[derive(Subcommand)]
pub(super) enum Fleet {
    /// Begin a session: prints a token for GROUND_CONTROL_TOKEN
    Login(Plain),
    /// Satellites: list, show, register, labels, tokens, suspend, revoke
    Satellites(With<Satellites>),
    /// Groups: list, show, apply, delete, members, labels that choose them
    Groups(With<Groups>),
    /// Configurations: list, show, create, patch, delete, assign
    Configs(With<Configs>),
    /// Which satellites hold or lack an image
    Images(With<Images>),
    /// What the registry has not got yet, and why
    Outbox(With<Outbox>),
    /// Who did what
    Audit(With<Audit>),
}

#[derive(Args)]
pub(super) struct Plain {
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(super) struct With<T: Subcommand> {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    what: Option<T>,
}

#[derive(Subcommand)]
pub(super) enum Satellites {
    /// List them
    List {
        /// Labels, as site=berlin,env!=test
        #[arg(long, short = 'l')]
        selector: Option<String>,
        /// Only of this group
        #[arg(long)]
        group: Option<String>,
        /// pending, online, stale, offline, suspended or revoked
        #[arg(long)]
        state: Option<String>,
        /// Part of the name
        #[arg(long)]
        q: Option<String>,
        /// Only those that run other digests than they should
        #[arg(long)]
        drifted: bool,
        /// Only those with this error: disk.blocked, or disk
        #[arg(long)]
        cause: Option<String>,
    },
    /// What one should run and runs, holds and lacks
    Show { name: String },
    /// Register one; prints its one-time token
    Register {
        name: String,
        /// Its configuration
        #[arg(long)]
        config: String,
        /// Its groups
        #[arg(long = "group")]
        groups: Vec<String>,
        /// Labels, as site=berlin
        #[arg(long = "label")]
        labels: Vec<String>,
    },
    /// Issue a new one-time token
    Token { name: String },
    /// Set labels (site=berlin) or remove them (site-)
    Label {
        name: String,
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// Refuse its heartbeats, and let it pull no images
    Suspend { name: String },
    /// End that
    Resume { name: String },
    /// Delete its robot account and tokens; a new token brings it back
    Revoke { name: String },
    /// Ask it to fetch a new secret
    Rotate { name: String },
    /// What it holds
    Images { name: String },
    /// What changed
    History { name: String },
    /// What it says of its replications
    Events { name: String },
    /// Remove it
    Delete { name: String },
}

#[derive(Subcommand)]
pub(super) enum Groups {
    /// List them
    List,
    /// What one wants
    Show { name: String },
    /// Make one, or replace what it wants, from JSON: {"group":…,"artifacts":[…]}; - is standard input
    Apply { file: PathBuf },
    /// Its satellites
    Members { name: String },
    /// Put a satellite into it
    Add { name: String, satellite: String },
    /// Take a satellite out
    Remove { name: String, satellite: String },
    /// Let labels choose its satellites; without a selector none do
    Select { name: String, selector: Option<String> },
    /// Remove it
    Delete { name: String },
}

#[derive(Subcommand)]
pub(super) enum Configs {
    /// List them
    List,
    /// Print one
    Show { name: String },
    /// Make one from JSON: {"app_config":…}; - is standard input
    Create { name: String, file: PathBuf },
    /// Change one by a JSON merge patch; - is standard input
    Patch { name: String, file: PathBuf },
    /// Give a satellite its configuration
    Assign { name: String, satellite: String },
    /// Remove one
    Delete { name: String },
}

#[derive(Subcommand)]
pub(super) enum Images {
    /// Satellites that lack it
    Lacking {
        reference: String,
        /// Only satellites whose groups want it
        #[arg(long)]
        wanted: bool,
    },
    /// Satellites that hold it
    Holding { reference: String },
}

#[derive(Subcommand)]
pub(super) enum Outbox {
    /// List what waits
    List {
        /// pending, failing, done or all
        #[arg(long, default_value = "pending")]
        state: String,
    },
    /// Try it now
    Retry {
        /// Look after what is in line, too
        #[arg(long)]
        all: bool,
    },
}

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Events, newest first
    List {
        #[arg(long)]
        actor: Option<String>,
        #[arg(long)]
        resource: Option<String>,
        #[arg(long = "type")]
        event_type: Option<String>,
        /// From this time on, RFC 3339
        #[arg(long)]
        since: Option<String>,
    },
}

impl Fleet {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Login(Plain { server }) => login(&server),
            Self::Satellites(With { server, what }) => {
                let list = Satellites::List {
                    selector: None,
                    group: None,
                    state: None,
                    q: None,
                    drifted: false,
                    cause: None,
                };
                let what = what.unwrap_or(list);
                server.call(async |api| satellites(api, server.json, what).await)
            }
            Self::Groups(With { server, what }) => {
                server.call(async |api| groups(api, server.json, what.unwrap_or(Groups::List)).await)
            }
            Self::Configs(With { server, what }) => {
                server.call(async |api| configs(api, server.json, what.unwrap_or(Configs::List)).await)
            }
            Self::Images(With { server, what }) => {
                let what = what
                    .ok_or_else(|| Failure::usage("images lacking REFERENCE, or images holding REFERENCE"))?;
                server.call(async |api| images(api, server.json, what).await)
            }
            Self::Outbox(With { server, what }) => {
                let what = what.unwrap_or(Outbox::List { state: "pending".into() });
                server.call(async |api| outbox(api, server.json, what).await)
            }
            Self::Audit(With { server, what }) => {
                let list = Audit::List { actor: None, resource: None, event_type: None, since: None };
                server.call(async |api| audit(api, server.json, what.unwrap_or(list)).await)
            }
        }
    }
}
