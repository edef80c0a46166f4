//! The two databases that everything here is shown on.

use satellite_tests::dir::Dir;
use satellite_tests::ground_control::{GroundControl, Setup};
use satellite_tests::postgres::{Cluster, Database};

/// A server with what it stands on, which goes when it goes.
pub(crate) struct World {
    /// `SQLite` or `PostgreSQL`, for messages.
    pub(crate) name: &'static str,
    pub(crate) server: GroundControl,
    pub(crate) database: Option<Database>,
    _dir: Dir,
}

/// A server on SQLite.
pub(crate) fn sqlite(change: impl FnOnce(Setup) -> Setup) -> World {
    let dir = Dir::new();
    let setup = change(Setup::new(dir.join("data")));
    World { name: "SQLite", server: setup.start(), database: None, _dir: dir }
}

/// A server on PostgreSQL, where there is one.
pub(crate) fn postgres(change: impl FnOnce(Setup) -> Setup) -> Option<World> {
    let database = Cluster::shared()?.database();
    let dir = Dir::new();
    let setup = change(Setup::new(dir.join("data")).database(&database));
    Some(World { name: "PostgreSQL", server: setup.start(), database: Some(database), _dir: dir })
}

/// Runs a test on SQLite and on PostgreSQL.
pub(crate) fn both(test: impl Fn(&World)) {
    both_with(|setup| setup, test);
}

/// Runs a test on SQLite and on PostgreSQL, with servers that are set up so.
pub(crate) fn both_with(change: impl Fn(Setup) -> Setup, test: impl Fn(&World)) {
    for world in [Some(sqlite(&change)), postgres(&change)].into_iter().flatten() {
        eprintln!("--- {}", world.name);
        test(&world);
    }
}
