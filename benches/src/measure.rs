//! What a process spent, from /proc.

use std::{fs, path::Path, process::Command, time::Instant};

/// Clock ticks a second in /proc, which Linux has fixed for user space.
const TICKS: f64 = 100.0;

/// What a process spent while something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Seconds of CPU, user and system.
    pub(crate) cpu: f64,
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Peak of resident memory, KiB.
    pub(crate) peak: u64,
    /// Bytes given to the disk.
    pub(crate) written: u64,
}

impl Spent {
    /// What the process `pid`, which goes on afterwards, spends while `job` runs. Of one that is not known (0) only the time.
    pub(crate) fn of(pid: u32, job: impl FnOnce()) -> Self {
        // 5: the peak starts again (proc(5), clear_refs).
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let now = || match pid {
            0 => Now { cpu: f64::NAN, ..Now::default() },
            pid => Now::of(pid).expect("a running process"),
        };
        let (before, begun) = (now(), Instant::now());
        job();
        let after = now();
        Self {
            cpu: after.cpu - before.cpu,
            wall: begun.elapsed().as_secs_f64(),
            peak: after.peak,
            written: after.written.saturating_sub(before.written),
        }
    }

    /// What a command spends from its start to its end.
    pub(crate) fn of_command(command: &mut Command) -> Self {
        let begun = Instant::now();
        let mut child = command.spawn().expect("the command");
        let mut last = Now::default();
        // Its last moments are missed: a few milliseconds of seconds.
        while child.try_wait().expect("its state").is_none() {
            if let Some(now) = Now::of(child.id()) {
                // A process that is just ending has no memory any more.
                last = Now { peak: last.peak.max(now.peak), ..now };
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(child.wait().expect("its end").success(), "{command:?} failed");
        Self { cpu: last.cpu, wall: begun.elapsed().as_secs_f64(), peak: last.peak, written: last.written }
    }
}

#[derive(Clone, Copy, Default)]
struct Now {
    cpu: f64,
    peak: u64,
    written: u64,
}

impl Now {
    fn of(pid: u32) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let stat = read("stat")?;
        // After the name, which may hold anything: state, then fields; 14 and 15 of proc(5) are utime and stime.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let tick = |n: usize| fields.get(n)?.parse::<f64>().ok();
        let field = |text: &str, name: &str| -> Option<u64> {
            text.lines().find_map(|l| l.strip_prefix(name))?.trim().trim_end_matches(" kB").parse().ok()
        };
        Some(Self {
            cpu: (tick(11)? + tick(12)?) / TICKS,
            peak: field(&read("status")?, "VmHWM:").unwrap_or(0),
            written: field(&read("io")?, "write_bytes:").unwrap_or(0),
        })
    }
}

/// The price of SHA-256 alone on this machine.
pub(crate) fn openssl(path: &Path) -> Spent {
    Spent::of_command(
        Command::new("openssl").args(["dgst", "-sha256"]).arg(path).stdout(std::process::Stdio::null()),
    )
}

/// Resident memory now, KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// Of these, what is no file's.
pub(crate) fn anonymous(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

/// The peak of resident memory, KiB.
pub(crate) fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
