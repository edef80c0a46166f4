//! `satellite status` and `satellite now`

use clap::Args;

use super::{AgentDir, ask_agent};
use crate::{agent::run::Status as Report, control::Command, exit::Result, human, output};

/// How the agent on this machine is.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    dir: AgentDir,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Have the agent do a job at once: state, heartbeat, register or runtimes.
#[derive(Args)]
pub(super) struct Now {
    /// Which
    job: String,
    #[command(flatten)]
    dir: AgentDir,
}

impl Now {
    pub(super) fn run(self) -> Result<()> {
        ask_agent(&self.dir, &Command::Now { job: self.job }).map(|_: serde_json::Value| ())
    }
}

impl Status {
    pub(super) fn run(&self) -> Result<()> {
        let report: Report = ask_agent(&self.dir, &Command::Status)?;
        if self.json {
            output::json(&report);
        } else {
            for line in lines(&report) {
                output::line(&line);
            }
        }
        Ok(())
    }
}

fn lines(r: &Report) -> Vec<String> {
    let mut lines = vec![
        format!(
            "satellite {}, {} up, {} of memory",
            r.version,
            time(r.uptime_s),
            human::size(r.memory_bytes)
        ),
        format!("name            {}", r.name.as_deref().unwrap_or("not registered yet")),
        format!(
            "Ground Control  {}, {}",
            r.ground_control.url,
            r.ground_control.answered.as_ref().map_or("no answer yet".into(), |at| format!("answered {at}"))
        ),
        format!(
            "listens on      {}",
            if r.listen.is_empty() { "nothing".into() } else { r.listen.join(", ") }
        ),
        format!(
            "images          {} wanted by {} groups, {} missing, {} to be removed; {} free",
            r.state.wanted,
            r.state.groups,
            r.state.missing,
            r.state.retired,
            human::size(r.free_bytes)
        ),
        format!(
            "configuration   {}{}",
            if r.config.digest.is_empty() { "none published" } else { &r.config.digest },
            if r.config.on_trial { ", on trial" } else { "" }
        ),
    ];
    lines.extend(r.runtimes.iter().map(|said| format!("runtimes        {said}")));
    for job in &r.jobs {
        let next = job.next.as_deref().unwrap_or("no time");
        let how = match &job.cause {
            _ if job.running => "at work".into(),
            Some(cause) => format!("{cause} ({} times), again at {next}", job.failures),
            None => format!("well, again at {next}"),
        };
        lines.push(format!("{:<15} {how}", job.name));
    }
    for trouble in &r.troubles {
        lines.push(format!("! {}: {} (since {})", trouble.cause, trouble.message, trouble.since));
    }
    lines
}

fn time(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, ..) => format!("{d}d{h:02}h"),
    }
}
