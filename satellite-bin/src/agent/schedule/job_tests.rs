#![allow(clippy::unwrap_used)]
use std::{cell::RefCell, rc::Rc};

use jiff::civil::time;
use smol::LocalExecutor;

use super::{super::testing::FakeTicks, *};
use crate::agent::settings::Window;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

type Outcome = Box<dyn FnMut(usize) -> Result<(), Trouble>>;

/// A job on clocks that the test turns, and the moments of its runs.
struct World {
    ticks: Arc<FakeTicks>,
    executor: LocalExecutor<'static>,
    handle: JobHandle,
    runs: Rc<RefCell<Vec<Timestamp>>>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(start: &str, schedule: &str, options: Options, takes: Duration, mut outcome: Outcome) -> Self {
        let ticks = FakeTicks::at(start.parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock::open(dir.path(), ticks.clone()));
        let job = Job::new("job", schedule.parse().unwrap(), options, Arc::clone(&clock));
        let (handle, executor, runs) = (job.handle(), LocalExecutor::new(), Rc::new(RefCell::default()));
        let seen: Rc<RefCell<Vec<Timestamp>>> = Rc::clone(&runs);
        executor
            .spawn(job.run(async move || {
                seen.borrow_mut().push(clock.now());
                if !takes.is_zero() {
                    clock.sleep(takes).await;
                }
                let number = seen.borrow().len();
                outcome(number)
            }))
            .detach();
        Self { ticks, executor, handle, runs, _dir: dir }
    }

    fn plain(schedule: &str) -> Self {
        Self::new("2026-11-25T12:00:00Z", schedule, Options::default(), Duration::ZERO, Box::new(|_| Ok(())))
    }

    fn pass(&self, time: Duration) {
        self.ticks.run(&self.executor, time);
    }

    /// Seconds from one run to the next.
    fn gaps(&self) -> Vec<i64> {
        self.runs.borrow().windows(2).map(|w| w[1].duration_since(w[0]).as_secs()).collect()
    }

    fn count(&self) -> usize {
        self.runs.borrow().len()
    }
}

fn failing() -> Trouble {
    Trouble::new(Cause::CENTER_FAILED, "it failed")
}

#[test]
fn a_day_of_heartbeats_is_one_at_once_and_one_each_30_seconds() {
    let world = World::plain("@every 30s");
    world.pass(24 * HOUR - SECOND);
    assert_eq!(world.count(), 2880);
    assert!(world.gaps().iter().all(|gap| *gap == 30));
    let status = world.handle.status();
    assert_eq!((status.runs, status.failures, status.running), (2880, 0, false));
    assert_eq!(status.next_due.unwrap().to_string(), "2026-11-26T12:00:00Z");
}

#[test]
fn runs_that_take_longer_than_the_period_neither_overlap_nor_pile_up() {
    let ok = Box::new(|_| Ok(()));
    let world = World::new("2026-11-25T12:00:00Z", "@every 10s", Options::default(), 25 * SECOND, ok);
    world.pass(110 * SECOND);
    assert!(world.handle.status().running && world.handle.status().next_due.is_none());
    assert_eq!(world.handle.status().last_duration, Some(10 * SECOND));
    assert_eq!(world.gaps(), [25, 25, 25, 25]);
    assert!(world.handle.status().failures == 0);
}

#[test]
fn several_calls_during_a_run_are_one_run_more() {
    let ok = Box::new(|_| Ok(()));
    let world = World::new("2026-11-25T12:00:00Z", "@every 1h", Options::default(), 5 * SECOND, ok);
    world.pass(2 * SECOND);
    (0..3).for_each(|_| world.handle.now());
    world.pass(20 * SECOND);
    assert_eq!(world.gaps(), [5]);
    (0..3).for_each(|_| world.handle.now());
    world.pass(20 * SECOND);
    assert_eq!(world.gaps(), [5, 17]);
    // The period counts from the last run.
    world.pass(HOUR);
    assert_eq!(world.gaps(), [5, 17, 3600]);
}

#[test]
fn failures_wait_longer_each_time_up_to_the_period_and_success_ends_that() {
    let outcome = Box::new(|n| if n < 200 { Err(failing()) } else { Ok(()) });
    let world = World::new("2026-11-25T12:00:00Z", "@every 5m", Options::default(), Duration::ZERO, outcome);
    world.pass(5 * SECOND);
    assert_eq!(world.handle.status().last_trouble.unwrap().cause, Cause::CENTER_FAILED);
    world.pass(48 * HOUR);
    let gaps = world.gaps();
    for (n, gap) in gaps.iter().take(199).enumerate() {
        let limit = (2i64 << n.min(20)).min(300);
        assert!((0..=limit).contains(gap), "after failure {n}: {gap} s, at most {limit} s");
    }
    let mean = gaps[20..199].iter().sum::<i64>() / 179;
    assert!((110..190).contains(&mean), "the waits are no longer spread over the period: {mean} s");
    assert!(gaps[199..].iter().all(|gap| *gap == 300));
    assert_eq!((world.handle.status().failures, world.handle.status().last_trouble), (0, None));
}

#[test]
fn news_waits_for_whoever_asked_for_it_and_not_for_what_seemed_hopeless() {
    for (hopeless, runs) in [(true, 2), (false, 1)] {
        let outcome =
            Box::new(move |_| Err(if hopeless { failing().slowly() } else { failing().after(2 * HOUR) }));
        let world =
            World::new("2026-11-25T12:00:00Z", "@every 10s", Options::default(), Duration::ZERO, outcome);
        world.pass(MINUTE);
        assert_eq!(world.count(), 1);
        world.handle.now();
        world.pass(MINUTE);
        assert_eq!(world.count(), runs, "{hopeless}");
    }
}

#[test]
fn the_other_sides_wish_is_heeded_also_by_calls_but_not_by_people() {
    let outcome = Box::new(|n| if n == 1 { Err(failing().after(10 * MINUTE)) } else { Ok(()) });
    let world = World::new("2026-11-25T12:00:00Z", "@every 30s", Options::default(), Duration::ZERO, outcome);
    world.pass(MINUTE);
    world.handle.now();
    world.pass(8 * MINUTE);
    assert_eq!(world.count(), 1);
    world.pass(2 * MINUTE);
    assert!((600..=630).contains(&world.gaps()[0]), "{:?}", world.gaps());

    let outcome = Box::new(|_| Err(failing().slowly()));
    let world = World::new("2026-11-25T12:00:00Z", "@every 30s", Options::default(), Duration::ZERO, outcome);
    world.pass(MINUTE);
    world.handle.now_anyway();
    world.pass(MINUTE);
    assert_eq!(world.gaps(), [60]);
}

#[test]
fn a_panic_is_a_failure_and_the_job_goes_on() {
    let outcome = Box::new(|n| if n == 1 { panic!("no such thing") } else { Ok(()) });
    let world = World::new("2026-11-25T12:00:00Z", "@every 30s", Options::default(), SECOND, outcome);
    world.pass(SECOND);
    let trouble = world.handle.status().last_trouble.unwrap();
    assert_eq!(trouble.cause, Cause::LIFE_PANICKED);
    assert!(trouble.message.contains("no such thing"));
    world.pass(5 * MINUTE);
    assert!(world.count() > 9 && world.handle.status().failures == 0);
}

#[test]
fn windows_hold_back_and_calls_wait_for_them() {
    let night = Window {
        from: time(22, 0, 0, 0),
        to: time(6, 0, 0, 0),
        zone: Some("UTC".into()),
        ..Window::default()
    };
    let options = Options { windows: Windows::new(&[night]).unwrap(), jitter: Duration::ZERO };
    let ok = Box::new(|_| Ok(()));
    let world = World::new("2026-11-25T12:00:00Z", "@every 1h", options, Duration::ZERO, ok);
    world.handle.now();
    world.pass(9 * HOUR);
    assert_eq!(
        (world.count(), world.handle.status().next_due.unwrap().to_string().as_str()),
        (0, "2026-11-25T22:00:00Z")
    );
    world.pass(24 * HOUR);
    assert_eq!(world.runs.borrow()[0].to_string(), "2026-11-25T22:00:00Z");
    assert_eq!(world.count(), 8, "{:?}", world.runs);
    world.handle.now_anyway();
    world.pass(MINUTE);
    assert_eq!(world.count(), 9);
    world.handle.confine(Windows::default());
    world.pass(2 * HOUR);
    assert_eq!(world.count(), 11);
}

#[test]
fn cron_lines_run_at_once_and_then_at_their_times_whatever_becomes_of_the_clock() {
    let world = World::plain("0 3 * * * UTC");
    world.pass(48 * HOUR);
    let seen: Vec<_> = world.runs.borrow().iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["2026-11-25T12:00:00Z", "2026-11-26T03:00:00Z", "2026-11-27T03:00:00Z"]);
    // Half an hour back: no second run of what has been, the next comes.
    world.ticks.set("2026-11-27T11:30:00Z".parse().unwrap());
    world.pass(15 * HOUR + 29 * MINUTE);
    assert_eq!(world.count(), 3);
    world.pass(2 * MINUTE);
    assert_eq!(world.count(), 4);
    // Days ahead: what was missed is done once.
    world.ticks.set("2026-12-24T12:00:00Z".parse().unwrap());
    world.pass(2 * MINUTE);
    assert_eq!(world.count(), 5);
    world.pass(2 * HOUR);
    assert_eq!(world.count(), 5);
}

#[test]
fn in_1970_periods_run_as_ever_and_cron_lines_go_on_from_the_last_known_time() {
    let ok = || Box::new(|_: usize| Ok(())) as Outcome;
    let world = World::new("1970-01-01T00:00:00Z", "@every 30s", Options::default(), Duration::ZERO, ok());
    world.pass(5 * MINUTE);
    world.ticks.set("2026-11-25T12:00:00Z".parse().unwrap());
    world.pass(5 * MINUTE - SECOND);
    assert_eq!(world.count(), 20);
    let world = World::new("1970-01-01T00:00:00Z", "0 3 * * * UTC", Options::default(), Duration::ZERO, ok());
    world.pass(24 * HOUR);
    assert_eq!(world.gaps(), [3 * 3600]);
}

#[test]
fn another_schedule_counts_from_the_last_run() {
    let world = World::plain("@every 1h");
    world.pass(10 * MINUTE);
    world.handle.reschedule("@every 15m".parse().unwrap());
    world.pass(6 * MINUTE);
    assert_eq!(world.gaps(), [900]);
    world.handle.reschedule("@every 15m".parse().unwrap());
    world.handle.reschedule("0 0 * * * UTC".parse().unwrap());
    world.pass(24 * HOUR);
    assert_eq!(world.runs.borrow().last().unwrap().to_string(), "2026-11-26T00:00:00Z");
}

#[test]
fn the_first_run_is_spread_where_that_is_asked() {
    let options = || Options { jitter: MINUTE, windows: Windows::default() };
    let ok = || Box::new(|_: usize| Ok(())) as Outcome;
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let world = World::new("2026-11-25T12:00:00Z", "@every 1h", options(), Duration::ZERO, ok());
        world.pass(MINUTE + SECOND);
        assert_eq!(world.count(), 1);
        firsts.insert(world.runs.borrow()[0]);
    }
    assert!(firsts.len() > 5, "{firsts:?}");
}

#[test]
fn jobs_can_be_given_to_any_executor() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Clock::open(dir.path(), Arc::new(super::super::ticks::MachineTicks::new())));
    let job = Job::new("job", "@every 1h".parse().unwrap(), Options::default(), clock);
    let (sender, receiver) = smol::channel::bounded(1);
    let task = smol::spawn(job.run(async move || {
        sender.send(()).await.map_err(|e| Trouble::new(Cause::CENTER_FAILED, e))?;
        Ok(())
    }));
    smol::block_on(receiver.recv()).unwrap();
    drop(task);
}
