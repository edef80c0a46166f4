//! Samples, medians, ratios, and the design's budgets they are held against.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use crate::{many::Idle, measure::Spent};

/// All samples of a run, by what was done and who did it.
pub(crate) struct Results {
    gib: f64,
    samples: BTreeMap<(String, String), Vec<Spent>>,
    many: Vec<(usize, Value)>,
    /// Numbers of one kind each: requests a second, KiB.
    rates: BTreeMap<(String, String), Vec<f64>>,
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl Results {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            gib: size as f64 / f64::from(1 << 30),
            samples: BTreeMap::new(),
            many: Vec::new(),
            rates: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, what: &str, who: &str, spent: Spent) {
        self.samples.entry((what.into(), who.into())).or_default().push(spent);
    }

    pub(crate) fn many(&mut self, blobs: usize, idle: &Idle) {
        let [rest, touched] = idle.memory;
        let value = json!({"blobs": blobs, "idle_kib": rest, "after_all_manifests_kib": touched,
                           "start_ms": idle.start, "threads": idle.threads});
        self.many.push((blobs, value));
    }

    pub(crate) fn rate(&mut self, what: &str, who: &str, value: f64) {
        self.rates.entry((what.into(), who.into())).or_default().push(value);
    }

    fn rate_of(&self, what: &str, who: &str) -> f64 {
        median(self.rates.get(&(what.into(), who.into())).cloned().unwrap_or_default())
    }

    /// Median seconds of CPU per GiB.
    fn cpu(&self, what: &str, who: &str) -> f64 {
        let samples = self.samples.get(&(what.into(), who.into()));
        median(samples.into_iter().flatten().map(|s| s.cpu / self.gib).collect())
    }

    /// What hashing, receiving and writing the bytes cost on this machine, done by programs that do nothing else.
    fn floor(&self) -> f64 {
        self.cpu("hash", "openssl") + self.cpu("replicate", "plain receive and write")
    }

    fn worst(&self, what: &str, who: &str, of: impl Fn(&Spent) -> f64) -> f64 {
        let samples = self.samples.get(&(what.into(), who.into()));
        samples.into_iter().flatten().map(of).fold(f64::NAN, f64::max)
    }

    /// What is measured against the budgets: name, value, limit.
    fn budgets(&self) -> Vec<(String, f64, f64)> {
        let ratio = |what: &str, to: &str, peer: &str| self.cpu(what, "satellite") / self.cpu(to, peer);
        let peak = |what: &str| self.worst(what, "satellite", |s| s.peak as f64 / 1024.0);
        let written = |what: &str| {
            self.worst(what, "satellite", |s| s.written as f64) / (self.gib * f64::from(1 << 30))
        };
        let mut list = Vec::new();
        for clients in crate::CLIENTS {
            let what = format!("pull, {clients} clients");
            list.push((format!("CPU of a pull by {clients} / nginx"), ratio(&what, &what, "nginx"), 1.1));
        }
        for clients in crate::CLIENTS {
            let what = format!("pull by TLS, {clients} clients");
            list.push((
                format!("CPU of a pull by {clients} over TLS / nginx"),
                ratio(&what, &what, "nginx"),
                1.0,
            ));
        }
        for connections in crate::CONNECTIONS {
            let what = format!("manifests/s, {connections} connections");
            let ratio = self.rate_of(&what, "nginx") / self.rate_of(&what, "satellite");
            list.push((
                format!("nginx' requests for a manifest / ours, {connections} connections"),
                ratio,
                1.0,
            ));
        }
        list.extend([
            ("CPU of a push / openssl".into(), ratio("push", "hash", "openssl"), 1.75),
            ("CPU of a replication / openssl".into(), ratio("replicate", "hash", "openssl"), 1.75),
            (
                "CPU of a push / (openssl + plain receive and write)".into(),
                self.cpu("push", "satellite") / self.floor(),
                1.15,
            ),
            (
                "CPU of a replication / (openssl + plain receive and write)".into(),
                self.cpu("replicate", "satellite") / self.floor(),
                1.15,
            ),
            ("peak MiB of 64 pulls of the whole".into(), peak("pull of the whole, 64 clients"), 16.0),
            ("peak MiB of a push".into(), peak("push"), 16.0),
            ("peak MiB of a replication".into(), peak("replicate"), 16.0),
            ("peak MiB of a replication of 8 at once".into(), peak("replicate 8 at once"), 16.0),
            (
                "peak MiB with 10,000 connections".into(),
                self.rate_of("KiB with 10,000 connections", "satellite") / 1024.0,
                16.0,
            ),
            ("bytes written / received, push".into(), written("push"), 1.02),
            ("bytes written / received, replication".into(), written("replicate"), 1.02),
        ]);
        for (blobs, many) in &self.many {
            let number = |key: &str| many[key].as_f64().unwrap_or(f64::NAN);
            if *blobs <= 10_000 {
                list.push((format!("idle MiB, {blobs} blobs"), number("idle_kib") / 1024.0, 8.0));
            }
            list.push((
                format!("ms to the first answer, {blobs} blobs"),
                number("start_ms"),
                if *blobs > 10_000 { 300.0 } else { 50.0 },
            ));
        }
        list
    }

    /// The tables that people read.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| work | who | CPU-s per GiB | wall s | peak MiB | written / bytes |\n|---|---|---|---|---|---|\n",
        );
        for ((what, who), samples) in &self.samples {
            let of = |f: &dyn Fn(&Spent) -> f64| median(samples.iter().map(f).collect());
            let (cpu, wall) = (of(&|s| s.cpu / self.gib), of(&|s| s.wall));
            if cpu.is_nan() {
                // Of a peer whose process is not known.
                let _ = writeln!(text, "| {what} | {who} | - | {wall:.2} | - | - |");
                continue;
            }
            let _ = writeln!(
                text,
                "| {what} | {who} | {cpu:.2} | {wall:.2} | {:.1} | {:.3} |",
                of(&|s| s.peak as f64 / 1024.0),
                of(&|s| s.written as f64) / (self.gib * f64::from(1 << 30)),
            );
        }
        text.push_str("\n| rate | who | median |\n|---|---|---|\n");
        for (what, who) in self.rates.keys() {
            let _ = writeln!(text, "| {what} | {who} | {:.0} |", self.rate_of(what, who));
        }
        text.push_str("\n| budget | measured | limit | |\n|---|---|---|---|\n");
        for (name, value, limit) in self.budgets() {
            let verdict = if value <= limit {
                "met"
            } else if value.is_nan() {
                "not measured"
            } else {
                "missed"
            };
            let _ = writeln!(text, "| {name} | {value:.2} | {limit:.2} | {verdict} |");
        }
        text
    }

    /// All samples.
    pub(crate) fn json(&self) -> Value {
        let sample =
            |s: &Spent| json!({"cpu_s": s.cpu, "wall_s": s.wall, "peak_kib": s.peak, "written": s.written});
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|((what, who), all)| json!({"work": what, "who": who, "samples": all.iter().map(sample).collect::<Vec<_>>()}))
            .collect();
        let budgets: Vec<Value> = self
            .budgets()
            .into_iter()
            .map(|(name, value, limit)| json!({"budget": name, "measured": value, "limit": limit, "met": value <= limit}))
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({"gib": self.gib, "cores": cores, "samples": samples, "many": self.many.iter().map(|m| &m.1).collect::<Vec<_>>(),
               "rates": self.rates.iter().map(|((what, who), all)| json!({"what": what, "who": who, "samples": all})).collect::<Vec<_>>(), "budgets": budgets})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }
}
