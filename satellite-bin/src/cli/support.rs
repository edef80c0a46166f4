//! `satellite support-bundle`

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use clap::Args;
use serde_json::Value;

use super::{AgentDir, ask_agent};
use crate::{
    agent::{
        cause::Trouble,
        life::{Bundle, Redactor},
        settings::{Checked, Config, Flags, Shown},
    },
    control::Command,
    exit::{Code, Failure, Result},
    output,
    runtimes::Host,
};

/// Lines of the journal.
const LINES: &str = "2000";
/// What of the machine goes in.
const FILES: &[(&str, &str)] = &[
    ("os-release", "/etc/os-release"),
    ("meminfo", "/proc/meminfo"),
    ("loadavg", "/proc/loadavg"),
    ("mounts", "/proc/mounts"),
    ("version", "/proc/version"),
    ("uptime", "/proc/uptime"),
];

/// Write everything about this machine's satellite that helps somebody far away, without its secrets, to a tar.gz.
#[derive(Args)]
pub(super) struct SupportBundle {
    /// The file; it must not exist
    #[arg(short, long, default_value = "satellite-support.tar.gz", value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    dir: AgentDir,
}

impl SupportBundle {
    pub(super) fn run(self) -> Result<()> {
        let failed =
            |e: std::io::Error| Failure::new(Code::Failed, format!("{}: {e}", self.output.display()));
        let flags = Flags { config_dir: self.dir.config_dir.clone(), ..Flags::default() };
        let peeked = Config::peek(&flags);
        let secrets = peeked.as_ref().map(|(_, secrets)| secrets.clone()).unwrap_or_default();
        let out =
            File::options().write(true).create_new(true).mode(0o600).open(&self.output).map_err(failed)?;
        let at = jiff::Timestamp::now().as_second().try_into().unwrap_or(0);
        let mut bundle = Bundle::new(out, Redactor::new(secrets), at);
        for (name, text) in [
            ("status.json", answer(ask_agent(&self.dir, &Command::Status))),
            ("images.json", answer(ask_agent(&self.dir, &Command::Images))),
            ("config.txt", settings(peeked.map(|(resolved, _)| resolved))),
            ("runtimes.txt", runtimes(&self.dir.config_dir().join("runtimes"))),
            ("journal.txt", journal()),
        ] {
            bundle.add(name, &text).map_err(failed)?;
        }
        for (name, path) in FILES {
            bundle.add_file(name, Path::new(path)).map_err(failed)?;
        }
        let out = bundle.finish().map_err(failed)?;
        out.sync_all().map_err(failed)?;
        output::line(&self.output.display().to_string());
        Ok(())
    }
}

fn answer(answer: Result<Value>) -> String {
    match answer {
        Ok(value) => serde_json::to_string_pretty(&value).unwrap_or_default(),
        Err(failure) => format!("{}\n", failure.message),
    }
}

fn settings(checked: std::result::Result<Checked, Trouble>) -> String {
    match checked {
        Ok(Ok(resolved)) => {
            let line = |s: &Shown| format!("{} = {} ({})\n", s.field, s.value, s.source);
            resolved.shown.iter().map(line).collect()
        }
        Ok(Err(problems)) => problems.into_iter().map(|p| format!("{p}\n")).collect(),
        Err(trouble) => format!("{trouble}\n"),
    }
}

fn runtimes(state: &Path) -> String {
    let host = Host { root: "/".into(), state: state.into() };
    let mut text: String = host.detect().iter().map(|found| format!("{found:?}\n")).collect();
    match host.applied() {
        Ok(applied) => text.push_str(&format!("applied: {applied:?}\n")),
        Err(e) => text.push_str(&format!("{e}\n")),
    }
    text
}

fn journal() -> String {
    let mut command = Process::new("journalctl");
    command.args(["--unit", "satellite", "--lines", LINES, "--no-pager", "--output", "short-iso"]);
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(done) => String::from_utf8_lossy(&done.stdout).into_owned(),
        Err(e) => format!("there is no journal here: {e}\n"),
    }
}
