//! Commands that call a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use surf::http::Method;

use super::{
    Failure, Result,
    client::{Api, Server, part},
};

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
                let list =
                    Satellites::List { selector: None, group: None, state: None, q: None, drifted: false };
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

fn login(server: &Server) -> Result<()> {
    let body = json!({"username": server.name(), "password": server.credentials()?});
    let anonymous = server.clone().without_credentials();
    let answer = anonymous.call(async |api| api.ask(Method::Post, "/login", Some(&body)).await)?;
    if server.json {
        println!("{answer}");
    } else {
        println!("{}", text(&answer, "token"));
    }
    Ok(())
}

async fn satellites(api: &Api, json: bool, what: Satellites) -> Result<()> {
    let path = |name: &str, rest: &str| format!("/api/satellites/{}{rest}", part(name));
    match what {
        Satellites::List { selector, group, state, q, drifted } => {
            let rows = api
                .list(
                    "/api/satellites",
                    &[
                        ("view", Some("full".into())),
                        ("selector", selector),
                        ("group", group),
                        ("state", state),
                        ("q", q),
                        ("drifted", drifted.then(|| "true".into())),
                    ],
                )
                .await?;
            let columns: [Column; 5] = [
                ("NAME", |r| text(r, "Name")),
                ("STATE", |r| text(r, "State")),
                ("LAST SEEN", |r| {
                    r.get("LastSeen").filter(|t| t["Valid"] == true).map_or("-".into(), |t| text(t, "Time"))
                }),
                ("INTERVAL", |r| r.get("HeartbeatInterval").map_or(String::new(), |i| text(i, "String"))),
                ("LABELS", |r| labels(r.get("Labels"))),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Satellites::Show { name } => show(api.ask(Method::Get, &path(&name, "/health"), None).await?),
        Satellites::Register { name, config, groups, labels } => {
            let labels = labels.iter().map(|l| pair(l)).collect::<Result<Map<_, _>>>()?;
            let body = json!({"name": name, "groups": groups, "config_name": config, "labels": labels});
            let answer = api.ask(Method::Post, "/api/satellites", Some(&body)).await?;
            line(json, &answer, "token")
        }
        Satellites::Token { name } => {
            line(json, &api.ask(Method::Post, &path(&name, "/token"), None).await?, "token")
        }
        Satellites::Label { name, labels } => {
            let mut patch = Map::new();
            for label in &labels {
                match label.strip_suffix('-').filter(|l| !l.contains('=')) {
                    Some(gone) => patch.insert(gone.into(), Value::Null),
                    None => {
                        let (label, value) = pair(label)?;
                        patch.insert(label, value)
                    }
                };
            }
            show(api.ask(Method::Patch, &path(&name, "/labels"), Some(&Value::Object(patch))).await?)
        }
        Satellites::Suspend { name } => show(api.ask(Method::Post, &path(&name, "/suspend"), None).await?),
        Satellites::Resume { name } => show(api.ask(Method::Post, &path(&name, "/resume"), None).await?),
        Satellites::Revoke { name } => show(api.ask(Method::Post, &path(&name, "/revoke"), None).await?),
        Satellites::Rotate { name } => show(api.ask(Method::Post, &path(&name, "/rotate"), None).await?),
        Satellites::Delete { name } => show(api.ask(Method::Delete, &path(&name, ""), None).await?),
        Satellites::Images { name } => {
            let rows = api.list(&path(&name, "/images"), &[]).await?;
            table(
                json,
                &rows,
                &[
                    ("REFERENCE", |r| text(r, "Reference")),
                    ("BYTES", |r| r["SizeBytes"]["Int64"].to_string()),
                ],
            );
            Ok(())
        }
        Satellites::History { name } => {
            let rows = api.list(&path(&name, "/history"), &[]).await?;
            let columns: [Column; 4] = [
                ("AT", |r| text(r, "CreatedAt")),
                ("ACTIVITY", |r| text(r, "Activity")),
                ("STATE", |r| text(&r["LatestStateDigest"], "String")),
                ("IMAGES", |r| r["ImageCount"]["Int32"].to_string()),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
    }
}

async fn groups(api: &Api, json: bool, what: Groups) -> Result<()> {
    let path = |name: &str, rest: &str| format!("/api/groups/{}{rest}", part(name));
    match what {
        Groups::List => {
            let rows = api.list("/api/groups", &[]).await?;
            let columns: [Column; 4] = [
                ("NAME", |r| text(r, "GroupName")),
                ("PROJECTS", |r| list(&r["Projects"])),
                ("SELECTOR", |r| text(r, "Selector")),
                ("UPDATED", |r| text(r, "UpdatedAt")),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Groups::Show { name } => show(api.ask(Method::Get, &path(&name, "/state"), None).await?),
        Groups::Apply { file } => {
            show(api.ask(Method::Post, "/api/groups/sync", Some(&document(&file)?)).await?)
        }
        Groups::Members { name } => {
            let rows = api.list(&path(&name, "/satellites"), &[]).await?;
            table(json, &rows, &[("NAME", |r| text(r, "Name")), ("CREATED", |r| text(r, "CreatedAt"))]);
            Ok(())
        }
        Groups::Add { name, satellite } => {
            let body = json!({"satellite": satellite, "group": name});
            show(api.ask(Method::Post, "/api/groups/satellite", Some(&body)).await?)
        }
        Groups::Remove { name, satellite } => {
            let body = json!({"satellite": satellite, "group": name});
            show(api.ask(Method::Delete, "/api/groups/satellite", Some(&body)).await?)
        }
        Groups::Select { name, selector } => {
            let body = json!({"selector": selector});
            show(api.ask(Method::Put, &path(&name, "/selector"), Some(&body)).await?)
        }
        Groups::Delete { name } => show(api.ask(Method::Delete, &path(&name, ""), None).await?),
    }
}

async fn configs(api: &Api, json: bool, what: Configs) -> Result<()> {
    let path = |name: &str| format!("/api/configs/{}", part(name));
    match what {
        Configs::List => {
            let rows = api.list("/api/configs", &[]).await?;
            table(json, &rows, &[("NAME", |r| text(r, "ConfigName")), ("UPDATED", |r| text(r, "UpdatedAt"))]);
            Ok(())
        }
        Configs::Show { name } => show(api.ask(Method::Get, &path(&name), None).await?),
        Configs::Create { name, file } => {
            let body = json!({"config_name": name, "config": document(&file)?});
            show(api.ask(Method::Post, "/api/configs", Some(&body)).await?)
        }
        Configs::Patch { name, file } => {
            show(api.ask(Method::Patch, &path(&name), Some(&document(&file)?)).await?)
        }
        Configs::Assign { name, satellite } => {
            let body = json!({"satellite": satellite, "config_name": name});
            show(api.ask(Method::Post, "/api/configs/satellite", Some(&body)).await?)
        }
        Configs::Delete { name } => show(api.ask(Method::Delete, &path(&name), None).await?),
    }
}

async fn images(api: &Api, json: bool, what: Images) -> Result<()> {
    let (route, reference, wanted) = match what {
        Images::Lacking { reference, wanted } => ("lacking", reference, wanted),
        Images::Holding { reference } => ("holding", reference, false),
    };
    let (mut rows, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("reference", &reference).append_pair("limit", "1000");
        if wanted {
            query.append_pair("wanted", "true");
        }
        if let Some(after) = &after {
            query.append_pair("after", after);
        }
        let answer = api.ask(Method::Get, &format!("/api/images/{route}?{}", query.finish()), None).await?;
        rows.extend(answer["satellites"].as_array().cloned().unwrap_or_default());
        after = answer["next"].as_str().map(String::from);
        if after.is_none() {
            break;
        }
    }
    let columns: [Column; 3] = [
        ("NAME", |r| text(r, "name")),
        ("STATE", |r| text(r, "state")),
        ("LAST SEEN", |r| text(r, "last_seen")),
    ];
    table(json, &rows, &columns);
    Ok(())
}

async fn outbox(api: &Api, json: bool, what: Outbox) -> Result<()> {
    match what {
        Outbox::List { state } => {
            let rows = api.list("/api/outbox", &[("state", Some(state))]).await?;
            let columns: [Column; 6] = [
                ("KIND", |r| text(r, "kind")),
                ("NAME", |r| text(r, "name")),
                ("STATE", |r| text(r, "state")),
                ("TRIES", |r| r["attempts"].to_string()),
                ("NEXT", |r| text(r, "due_at")),
                ("ERROR", |r| text(r, "error")),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Outbox::Retry { all } => {
            show(api.ask(Method::Post, &format!("/api/outbox/retry?all={all}"), None).await?)
        }
    }
}

async fn audit(api: &Api, json: bool, what: Audit) -> Result<()> {
    let Audit::List { actor, resource, event_type, since } = what;
    let parameters = [("actor", actor), ("resource", resource), ("event_type", event_type), ("since", since)];
    let rows = api.list("/api/audit", &parameters).await?;
    let columns: [Column; 4] = [
        ("AT", |r| text(r, "timestamp")),
        ("EVENT", |r| text(r, "event_type")),
        ("ACTOR", |r| text(r, "actor")),
        ("RESOURCE", |r| text(r, "resource")),
    ];
    table(json, &rows, &columns);
    Ok(())
}

fn document(path: &std::path::Path) -> Result<Value> {
    let bad = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
    if path.as_os_str() == "-" {
        return serde_json::from_reader(std::io::stdin().lock()).map_err(|e| bad(&e));
    }
    let file = std::fs::File::open(path).map_err(|e| bad(&e))?;
    serde_json::from_reader(std::io::BufReader::new(file)).map_err(|e| bad(&e))
}

fn pair(label: &str) -> Result<(String, Value)> {
    let (name, value) =
        label.split_once('=').ok_or_else(|| Failure::usage(format!("{label:?}: expected NAME=VALUE")))?;
    Ok((name.into(), value.into()))
}

fn text(row: &Value, name: &str) -> String {
    match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn labels(value: Option<&Value>) -> String {
    let map = value.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

#[expect(clippy::needless_pass_by_value, reason = "every caller gives away what was answered")]
fn show(value: Value) -> Result<()> {
    if !value.is_null() {
        println!("{}", serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    Ok(())
}

fn line(json: bool, value: &Value, name: &str) -> Result<()> {
    if json {
        println!("{value}");
    } else {
        println!("{}", text(value, name));
    }
    Ok(())
}

/// A title, and the cell of a row.
type Column = (&'static str, fn(&Value) -> String);

/// Columns as wide as they need to be; with `json` the rows as they came. Control characters of others do not reach the
/// terminal.
fn table(json: bool, rows: &[Value], columns: &[Column]) {
    if json {
        println!("{}", serde_json::to_string(rows).unwrap_or_default());
        return;
    }
    let plain = |text: String| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(title, _)| (*title).to_string()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(_, cell)| plain(cell(row))).collect()));
    let width = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for cells in &lines {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}
