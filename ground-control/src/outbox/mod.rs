//! Changes of central, done for sure.
//!
//! Whoever changes the tables puts, in the same transaction, a row for each object at central that is then out of line:
//! a group's, satellite's or configuration's state, or a robot. A row names the object, not the change: doing it means
//! reading the tables as they are *now* and bringing central in line, so that it may be done any number of times, in any
//! order, after any crash, and many changes cost one. A row is done up to the generation that was read with it; what
//! changed since is done again.
//!
//! After the commit the request does its own rows at once ([`Outbox::run_now`]) and waits a bounded time. What is left,
//! because central is away or the process died, is found by the [`worker`](Outbox::work) of any replica: it takes rows
//! under a lease, so that no two do the same, and a lease whose holder died runs out.
//!
//! | file | does |
//! |---|---|
//! | `steps` | one object in line, over [`Central`] and the tables |
//! | `worker` | leases, times between tries |

mod steps;
mod worker;

use std::{sync::Arc, time::Duration};

use event_listener::Event;
use satellite_core::net::Executor;

use crate::{
    auth::uuid,
    central::{self, Central},
    db::{Conn, Db, Result, outbox},
    metrics::Metrics,
};

pub use worker::delay;

/// Which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// State of a group.
    Group,
    /// State of a satellite.
    Satellite,
    /// State of a configuration.
    Config,
    /// Robot account of a satellite.
    Robot,
}

impl Kind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Satellite => "satellite",
            Self::Config => "config",
            Self::Robot => "robot",
        }
    }

    /// From that.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Group, Self::Satellite, Self::Config, Self::Robot].into_iter().find(|k| k.as_str() == text)
    }
}

/// How one object fared.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// In line.
    Done,
    /// Not yet: central failed in this way, and it is tried again.
    Failed(central::Error),
    /// Not yet: it takes longer, or the database failed.
    Pending,
}

impl Outcome {
    /// What central refused for good, as far as it knows.
    pub fn refusal(&self) -> Option<&central::Error> {
        match self {
            Self::Failed(e) if !e.is_transient() => Some(e),
            _ => None,
        }
    }

    /// In line.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// The outbox of this process. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    central: Arc<dyn Central>,
    robot_days: u32,
    /// A row is somebody's for so long, unless renewed.
    lease: Duration,
    executor: Executor,
    metrics: Arc<Metrics>,
    /// This process among those that share the database.
    owner: String,
    wake: Event,
}

impl Outbox {
    /// Over `db` and `central`; robots live `robot_days`, and what a process that died worked on is taken over after `lease`.
    pub fn new(
        db: Db,
        central: Arc<dyn Central>,
        robot_days: u32,
        lease: Duration,
        executor: Executor,
        metrics: Arc<Metrics>,
    ) -> Self {
        let inner =
            Inner { db, central, robot_days, lease, executor, metrics, owner: uuid(), wake: Event::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The object is out of line once the transaction is committed.
    pub async fn put(&self, c: &mut Conn, kind: Kind, name: &str) -> Result<()> {
        outbox::put(c, kind.as_str(), name, None).await
    }

    /// A robot has to go whose satellite the tables no longer know.
    pub async fn put_gone_robot(&self, c: &mut Conn, name: &str, robot_id: Option<&str>) -> Result<()> {
        outbox::put(c, Kind::Robot.as_str(), name, robot_id).await
    }

    /// There are new rows that nobody waits for.
    pub fn wake(&self) {
        self.inner.wake.notify(usize::MAX);
    }
}
