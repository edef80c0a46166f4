//! `satellite runtimes`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    exit::{Code, Failure, Result},
    output,
    runtimes::{Error, Host, Kind, Mirror, Outcome, Wish},
};

#[derive(Args)]
pub(super) struct Runtimes {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Which runtimes are here, and which of them go to the satellite
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Show what `apply` would change, as a diff; changes nothing
    Plan {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Point runtimes at the satellite; they fall back to the registry when it is down. Done twice, nothing changes
    Apply {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Take back what `apply` did: files become what they were, byte for byte, but for what was changed in them since
    Revert {
        #[command(flatten)]
        place: Place,
        /// Only these runtimes; without any: all
        #[arg(value_name = "RUNTIME")]
        runtimes: Vec<Kind>,
        /// Restore files even where lines of ours were changed since, and lose those changes
        #[arg(long)]
        force: bool,
    },
}

/// Where the runtimes' files are, and ours.
#[derive(Args)]
struct Place {
    /// Where the host's root is, for a satellite in a container that has the host's /etc and /run
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
    /// Where it is kept what the files were before; the same for `apply` and `revert`
    #[arg(
        long,
        env = "SATELLITE_RUNTIMES_STATE",
        default_value = "/var/lib/satellite/runtimes",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Place {
    fn host(&self) -> Host {
        Host { root: self.root.clone(), state: self.state_dir.clone() }
    }
}

/// Which runtimes go to the satellite for which registries.
#[derive(Args)]
struct Wanted {
    /// Which registries of a runtime: containerd:docker.io,quay.io or docker:true. May be given more than once; what was
    /// applied before and is not named goes
    #[arg(long, required = true, value_name = "RUNTIME:REGISTRY[,REGISTRY…]")]
    mirrors: Vec<String>,
    /// Where the satellite is, as the runtimes reach it
    #[arg(long, default_value = "http://127.0.0.1:8585", value_name = "URL")]
    mirror: Mirror,
    /// The authority that vouches for the satellite (PEM)
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Never go to the registry itself, where the runtime can be told so (Podman, CRI-O)
    #[arg(long)]
    offline: bool,
    /// Turn containerd's older registry.mirrors into hosts.toml files
    #[arg(long)]
    convert_legacy: bool,
}

impl Wanted {
    fn wish(&self) -> Result<Wish> {
        let usage = |e: &dyn std::fmt::Display| Failure::new(Code::Usage, e);
        let mut mirror = self.mirror.clone();
        mirror.ca = self.ca_file.as_ref().map(std::path::absolute).transpose().map_err(|e| usage(&e))?;
        let mut wish = Wish::new(mirror);
        wish.offline = self.offline;
        wish.convert_legacy = self.convert_legacy;
        for text in &self.mirrors {
            wish.add(text).map_err(|e| usage(&e))?;
        }
        Ok(wish)
    }
}

fn failed(error: &Error) -> Failure {
    Failure::new(Code::Failed, error)
}

impl Runtimes {
    pub(super) fn run(&self) -> Result<()> {
        match &self.action {
            Action::Status { place } => status(place),
            Action::Plan { place, wanted } => plan(place, &wanted.wish()?),
            Action::Apply { place, wanted } => {
                let outcome = place.host().apply(&wanted.wish()?, None).map_err(|e| failed(&e))?;
                show(place, &outcome)
            }
            Action::Revert { place, runtimes, force } => {
                let kinds = (!runtimes.is_empty()).then_some(&runtimes[..]);
                let outcome = place.host().revert(kinds, *force).map_err(|e| failed(&e))?;
                show(place, &outcome)
            }
        }
    }
}

fn status(place: &Place) -> Result<()> {
    let host = place.host();
    let mut applied = host.applied().map_err(|e| failed(&e))?;
    let mut found = host.detect();
    for kind in applied.keys().filter(|k| found.iter().all(|f| f.kind != **k)).copied().collect::<Vec<_>>() {
        found.push(host.look(kind));
    }
    let all: Vec<Value> = found
        .iter()
        .map(|f| {
            let files = applied.remove(&f.kind).unwrap_or_default();
            json!({
                "runtime": f.kind, "version": f.version, "socket": f.socket, "config": f.config, "store": f.store,
                "applied": !files.is_empty(), "intact": files.values().all(|same| *same), "files": files,
            })
        })
        .collect();
    if place.json {
        output::json(&json!({ "runtimes": all }));
        return Ok(());
    }
    if all.is_empty() {
        output::line("no container runtime found");
    }
    for (found, value) in found.iter().zip(&all) {
        let files: Vec<_> = value["files"].as_object().into_iter().flatten().collect();
        let state =
            if files.is_empty() { "not pointed at the satellite" } else { "pointed at the satellite" };
        let version = found.version.as_deref().unwrap_or("-");
        output::line(&format!("{:<10} {version:<16} {state}", found.kind));
        for (file, same) in files {
            let changed = if *same == Value::Bool(true) { "" } else { "  (changed since)" };
            output::line(&format!("             {file}{changed}"));
        }
    }
    Ok(())
}

fn plan(place: &Place, wish: &Wish) -> Result<()> {
    let plan = place.host().plan(wish).map_err(|e| failed(&e))?;
    if place.json {
        let changes: Vec<_> = plan
            .changes
            .iter()
            .map(|c| json!({"runtime": c.kind, "path": c.path, "diff": c.diff()}))
            .collect();
        let refused = refused(&plan.refused);
        output::json(&json!({
            "changes": changes, "reloads": plan.reloads, "notes": plan.notes, "refused": refused,
        }));
    } else {
        for change in &plan.changes {
            output::line(change.diff().trim_end());
        }
        for (kind, reload) in &plan.reloads {
            output::line(&format!("# {kind}: then {reload}"));
        }
        for note in &plan.notes {
            output::line(&format!("# {note}"));
        }
        if plan.changes.is_empty() && plan.refused.is_empty() {
            output::line("# nothing to change");
        }
    }
    refusals(&plan.refused)
}

fn show(place: &Place, outcome: &Outcome) -> Result<()> {
    if place.json {
        output::json(&json!({
            "files": outcome.files, "runtimes": outcome.runtimes, "notes": outcome.notes,
            "refused": refused(&outcome.refused),
        }));
        return refusals(&outcome.refused);
    }
    for file in &outcome.files {
        output::line(&format!("changed {file}"));
    }
    for done in &outcome.runtimes {
        let what = if done.done { "" } else { "to do: " };
        output::line(&format!("{}: {what}{}", done.kind, done.said));
    }
    for note in &outcome.notes {
        output::line(note);
    }
    if outcome.files.is_empty() && outcome.refused.is_empty() {
        output::line("nothing to change");
    }
    refusals(&outcome.refused)
}

fn refused(list: &[(Kind, Error)]) -> Vec<Value> {
    list.iter().map(|(kind, e)| json!({"runtime": kind, "error": e.to_string()})).collect()
}

/// Runtimes that were left alone make the command fail, after the others are done.
fn refusals(list: &[(Kind, Error)]) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let text: Vec<_> = list.iter().map(|(kind, e)| format!("{kind}: {e}")).collect();
    Err(Failure::new(Code::Failed, text.join("\n")))
}
