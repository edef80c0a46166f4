//! What the fleet does to the server.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use satellite_tests::ground_control::{GroundControl, Robot};

use super::{
    Size,
    crowd::{self, Log, Member},
    results::{Budget, Results},
};
use crate::measure::{Spent, resident};

/// Images in each satellite's report, the same each time.
const IMAGES: usize = 10;
/// Registrations at once: what an operator's script would do.
const OPERATORS: usize = 8;
/// Connections of a closed loop.
const LINES: usize = 64;

const MIB: f64 = 1024.0;

/// A fleet with its accounts.
pub(crate) struct Fleet {
    members: Vec<Member>,
}

/// Registers everybody by the routes, and exchanges the tokens.
pub(crate) fn register(server: &GroundControl, size: &Size, results: &mut Results) -> Fleet {
    let admin = server.admin();
    admin.config("default");
    for group in ["one", "two"] {
        let digest = format!("sha256:{}", "0".repeat(64));
        admin.group(group, &[("library/app0", "v1", &digest), ("library/app1", "v1", &digest)]);
    }
    let next = AtomicUsize::new(0);
    let mut robots: Vec<(usize, Robot)> = Vec::new();
    let begun = Instant::now();
    let spent = Spent::of(server.pid(), || {
        robots = thread::scope(|scope| {
            let operator = || {
                let mut mine = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= size.satellites {
                        return mine;
                    }
                    let token = admin.register(&format!("sat-{n}"), &["one", "two"], "default");
                    mine.push((n, admin.exchange(&token)));
                }
            };
            let all: Vec<_> = (0..OPERATORS).map(|_| scope.spawn(operator)).collect();
            all.into_iter().flat_map(|one| one.join().expect("an operator")).collect()
        });
    });
    let seconds = begun.elapsed().as_secs_f64();
    results.add("registration and token exchange of all", seconds, "s");
    results.add("registrations a second", size.satellites as f64 / seconds, "1/s");
    results.add("CPU of the server for it", spent.cpu, "CPU-s");
    results.held("memory at its peak, registration", spent.peak as f64 / MIB, "MiB", Budget::Most(64.0));
    robots.sort_by_key(|(n, _)| *n);
    let members = robots.iter().map(|(n, robot)| Member::new(&format!("sat-{n}"), robot, IMAGES)).collect();
    Fleet { members }
}

/// Everybody syncs at its interval.
pub(crate) fn steady(server: &GroundControl, fleet: &Fleet, size: &Size, results: &mut Results) {
    let (interval, length) = (Duration::from_secs(size.interval), Duration::from_secs(size.steady));
    // The first round opens the connections and writes each satellite's images once.
    let mut log = crowd::steady(&fleet.members, server.address(), interval, interval);
    assert_eq!(log.refused, 0, "syncs of the first round failed");
    let spent = Spent::of(server.pid(), || {
        log = crowd::steady(&fleet.members, server.address(), interval, length);
    });
    let rate = log.times.len() as f64 / size.steady as f64;
    results.add("steady syncs", rate, "1/s");
    results.held("steady: syncs that failed", log.refused as f64, "", Budget::Most(0.0));
    results.add("steady: CPU of the server", spent.cpu / spent.wall * 100.0, "% of a core");
    results.add("steady: half of the answers within", log.quantile(0.5) * 1000.0, "ms");
    results.add("steady: 99 % of the answers within", log.quantile(0.99) * 1000.0, "ms");
    results.held("steady: memory at its peak", spent.peak as f64 / MIB, "MiB", Budget::Most(64.0));
}

/// The server was away, and everybody comes at once when it is back.
pub(crate) fn herd(server: &mut GroundControl, fleet: &Fleet, results: &mut Results) {
    server.revive();
    let mut log = Log::default();
    let spent = Spent::of(server.pid(), || log = crowd::herd(&fleet.members, server.address()));
    let last = log.at.iter().copied().fold(0.0, f64::max);
    results.add("herd after an outage: everybody served within", last, "s");
    results.add("herd: answers in the best second", log.peak(), "1/s");
    results.add("herd: attempts that failed", log.refused as f64, "");
    results.add("herd: CPU of the server", spent.cpu, "CPU-s");
    results.held("herd: memory at its peak", spent.peak as f64 / MIB, "MiB", Budget::Most(64.0));
    assert_eq!(log.times.len(), fleet.members.len(), "a satellite was not served");
}

/// As many syncs as the server takes.
pub(crate) fn top(server: &GroundControl, fleet: &Fleet, size: &Size, results: &mut Results) {
    let length = Duration::from_secs(size.top);
    let mut log = Log::default();
    let spent = Spent::of(server.pid(), || {
        log = crowd::loops(&fleet.members, &[server.address()], LINES, length);
    });
    assert_eq!(log.refused, 0, "syncs of the closed loop failed");
    let count = log.times.len() as f64;
    results.add("top rate of syncs, 64 connections", count / spent.wall, "1/s");
    results.held("syncs per CPU-second of the server", count / spent.cpu, "1/CPU-s", Budget::Least(4000.0));
    results.held("top rate: memory at its peak", spent.peak as f64 / MIB, "MiB", Budget::Most(64.0));
    results.add("memory afterwards", resident(server.pid()) as f64 / MIB, "MiB");
}

/// The same load on one replica and on two.
pub(crate) fn replicas(servers: [&GroundControl; 2], fleet: &Fleet, size: &Size, results: &mut Results) {
    let length = Duration::from_secs(size.top);
    let rate = |addresses: &[_]| {
        let begun = Instant::now();
        let log = crowd::loops(&fleet.members, addresses, LINES, length);
        assert_eq!(log.refused, 0, "syncs with {} replicas failed", addresses.len());
        log.times.len() as f64 / begun.elapsed().as_secs_f64()
    };
    let [one, two] = servers.map(GroundControl::address);
    // Both in turn, so that neither has the machine at a better moment.
    let (mut alone, mut both) = (0.0, 0.0);
    for _ in 0..2 {
        alone += rate(&[one]) / 2.0;
        both += rate(&[one, two]) / 2.0;
    }
    results.add("one replica", alone, "1/s");
    results.add("two replicas", both, "1/s");
    results.add("two replicas / one", both / alone, "");
}
