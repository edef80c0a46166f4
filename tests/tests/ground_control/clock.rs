//! A server whose clock a test moves, by Debian's libfaketime.

use satellite_tests::dir::Dir;
use satellite_tests::ground_control::Setup;
use satellite_tests::skip;
use std::path::PathBuf;

/// The clock of the servers that were started with it.
pub(crate) struct Clock {
    library: PathBuf,
    dir: Dir,
}

impl Clock {
    /// The right time, for now; `None`, said loudly, without the library.
    pub(crate) fn new() -> Option<Self> {
        let all = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library =
            all.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
        let Some(library) = library else {
            skip("a clock that moves", "libfaketime is missing; tests/install gets it");
            return None;
        };
        let clock = Self { library, dir: Dir::new() };
        clock.set("+0");
        Some(clock)
    }

    /// Moves it: `+25h`, `-1h`, as `faketime(1)` has it. What counts on and never back stays right.
    pub(crate) fn set(&self, offset: &str) {
        // At once or not at all: the servers read it at every look at the clock.
        let (new, place) = (self.dir.join("new"), self.file());
        std::fs::write(&new, offset).and_then(|()| std::fs::rename(&new, &place)).expect("the clock's file");
    }

    /// A server with this clock.
    pub(crate) fn wrap(&self, setup: Setup) -> Setup {
        setup
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("clock")
    }
}
