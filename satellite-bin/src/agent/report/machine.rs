//! The machine: load of its processors, memory and disk in use. Counted as the reference counts (gopsutil).

use std::{fs, path::Path, sync::Mutex};

use crate::agent::settings::Collect;

/// What is measured; 0 where it is not to be, or cannot be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Mean of all processors since the last measurement, 0–100.
    pub cpu_percent: f64,
    /// All but free memory, buffers and caches.
    pub memory_used_bytes: u64,
    /// Of the file system.
    pub storage_used_bytes: u64,
}

/// Measures; remembers the processors' counters from one time to the next.
#[derive(Debug, Default)]
pub struct Machine(Mutex<Option<Cpu>>);

/// Time since start that all processors spent, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpu {
    busy: u64,
    all: u64,
}

impl Machine {
    /// Begins to count.
    pub fn new() -> Self {
        Self(Mutex::new(read("/proc/stat").as_deref().and_then(Cpu::parse)))
    }

    /// Measures what is asked for; `path` is on the file system that counts. Blocks, where that file system does.
    pub fn measure(&self, collect: Collect, path: &Path) -> Measured {
        let mut measured = Measured::default();
        if collect.cpu {
            let now = read("/proc/stat").as_deref().and_then(Cpu::parse);
            let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let (Some(last), Some(now)) = (*last, now) {
                measured.cpu_percent = now.since(last);
            }
            *last = now;
        }
        if collect.memory {
            measured.memory_used_bytes =
                read("/proc/meminfo").as_deref().and_then(memory_used).unwrap_or_default();
        }
        if collect.storage {
            measured.storage_used_bytes = rustix::fs::statvfs(path)
                .map(|s| s.f_blocks.saturating_sub(s.f_bfree).saturating_mul(s.f_frsize))
                .unwrap_or_default();
        }
        measured
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

impl Cpu {
    /// From `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Guests are in user and nice already.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
        let fields: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|f| f.parse().ok()).collect();
        let [.., idle] = *fields.get(..4)? else { return None };
        let all = fields.iter().fold(0u64, |sum, f| sum.saturating_add(*f));
        let waits = idle.saturating_add(fields.get(4).copied().unwrap_or_default());
        Some(Self { busy: all.saturating_sub(waits), all })
    }

    fn since(self, before: Self) -> f64 {
        // A processor that is switched off takes its time with it, and iowait may fall.
        let (busy, all) = (self.busy.saturating_sub(before.busy), self.all.saturating_sub(before.all));
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = if all == 0 { 0.0 } else { busy as f64 * 100.0 / all as f64 };
        (percent.clamp(0.0, 100.0) * 10.0).round() / 10.0
    }
}

/// From `/proc/meminfo`, in bytes.
fn memory_used(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let free = ["MemFree", "Buffers", "Cached", "SReclaimable"].map(|name| field(name).unwrap_or_default());
    let free = free.iter().fold(0u64, |sum, f| sum.saturating_add(*f));
    Some(field("MemTotal")?.saturating_sub(free).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const ALL: Collect = Collect { cpu: true, memory: true, storage: true };

    #[test]
    fn counters_are_read_as_the_reference_reads_them() {
        let before = Cpu::parse("cpu  100 0 50 800 50 0 0 0 20 0\ncpu0 1 2 3 4\n").unwrap();
        let after = Cpu::parse("cpu  150 0 75 1000 75 0 0 0 40 0\n").unwrap();
        assert_eq!(before, Cpu { busy: 150, all: 1000 });
        assert!((after.since(before) - 25.0).abs() < 1e-9);
        assert!((before.since(after)).abs() < 1e-9, "counters that fall are no load");
        assert_eq!(Cpu::parse("cpu 1 2 3"), None);
        let meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 200 kB\nSwapCached: 9 kB\nSReclaimable: 30 kB\n";
        assert_eq!(memory_used(meminfo), Some(620 * 1024));
    }

    #[test]
    fn this_machine_can_be_measured_and_need_not_be() {
        let machine = Machine::new();
        let measured = machine.measure(ALL, Path::new("/"));
        assert!(measured.memory_used_bytes > 1 << 20 && measured.storage_used_bytes > 0);
        assert!((0.0..=100.0).contains(&measured.cpu_percent));
        assert_eq!(machine.measure(Collect::default(), Path::new("/")), Measured::default());
        assert_eq!(machine.measure(ALL, Path::new("/no/such/path")).storage_used_bytes, 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_without_panic(text in "(cpu |MemTotal:)?[0-9 a-z:\n-]{0,80}") {
            let _ = (Cpu::parse(&text), memory_used(&text));
        }
    }
}
