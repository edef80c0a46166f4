//! How runtimes learn of their files: each in the one way that does not kill it.

use std::{
    fmt,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{Host, wish::Kind};

/// What a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// Nothing: the files are read at every pull.
    None,
    /// SIGHUP, or the service's reload.
    Reload,
    /// A restart; running containers stay.
    Restart,
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Reload => "reload",
            Self::Restart => "restart",
        })
    }
}

/// systemd's test of whether it runs (`sd_booted`); that there is a `systemctl` proves nothing.
fn systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It has been told, or need not be.
    Done(String),
    /// It cannot be told from here; this is left to be done by hand.
    ByHand(String),
    /// It was told, and failed.
    Failed(String),
}

impl Host {
    /// Makes a runtime read its files.
    pub(super) fn reload(&self, kind: Kind, what: Reload) -> Told {
        let units: &[&str] = match kind {
            Kind::Containerd => &["containerd"],
            Kind::Docker => &["docker"],
            Kind::Crio | Kind::Podman => &["crio"],
            Kind::K3s => &["k3s", "k3s-agent"],
            Kind::Rke2 => &["rke2-server", "rke2-agent"],
        };
        if what == Reload::None {
            return Told::Done("nothing to reload".into());
        }
        if self.is_here() && systemd() {
            let bound = Duration::from_secs(90);
            for unit in units {
                if run(Command::new("systemctl").args(["is-active", "--quiet", unit]), bound).is_err() {
                    continue;
                }
                return match run(Command::new("systemctl").args([&what.to_string(), *unit]), bound) {
                    Ok(_) => Told::Done(format!("{what} of {unit} done")),
                    Err(e) => Told::Failed(format!("`systemctl {what} {unit}` failed: {e}")),
                };
            }
            return Told::Done("not running".into());
        }
        let pid_file = match kind {
            Kind::Docker => "/run/docker.pid",
            Kind::Crio | Kind::Podman => "/run/crio/crio.pid",
            // SIGHUP kills containerd.
            _ => "",
        };
        if what == Reload::Reload && !pid_file.is_empty() {
            let program = if kind == Kind::Docker { "dockerd" } else { "crio" };
            let text = std::fs::read_to_string(self.at(pid_file)).unwrap_or_default();
            let pid = text.trim().parse().ok().and_then(Pid::from_raw);
            let comm = pid.map(|p| std::fs::read_to_string(format!("/proc/{}/comm", p.as_raw_nonzero())));
            return match (pid, comm) {
                (Some(pid), Some(Ok(name))) if name.trim() == program => match kill_process(pid, Signal::HUP)
                {
                    Ok(()) => Told::Done(format!("{program} got SIGHUP")),
                    Err(e) => Told::ByHand(format!("send SIGHUP to {program}: {e}")),
                },
                _ if kind == Kind::Docker => Told::ByHand(format!("send SIGHUP to {program}, if it runs")),
                _ => Told::Done("not running".into()),
            };
        }
        let units = units.join(" or ");
        Told::ByHand(format!("restart {units}; running containers stay"))
    }
}

/// Runs a command within a bound; its output, or what it complained about.
pub(super) fn run(command: &mut Command, bound: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.map(|p| p.take(4 << 20).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|p| Box::new(p) as _));
    let err = reader(child.stderr.take().map(|p| Box::new(p) as _));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < bound => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} did not end within {bound:?}"));
            }
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() {
        return Ok(out);
    }
    let said: String = err.trim().chars().take(1000).collect();
    Err(format!("{name} ({status}): {said}"))
}
