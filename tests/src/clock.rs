//! Programs whose clock a test moves, by Debian's libfaketime.

use std::path::PathBuf;
use std::process::Command;

use crate::dir::Dir;
use crate::ground_control::Setup;
use crate::skip;

/// The clock of whatever was started with it.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    dir: Dir,
}

impl Clock {
    /// The right time, for now; `None`, said loudly, without the library.
    pub fn new() -> Option<Self> {
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
    pub fn set(&self, offset: &str) {
        // At once or not at all: programs read it at every look at the clock.
        let (new, place) = (self.dir.join("new"), self.file());
        std::fs::write(&new, offset).and_then(|()| std::fs::rename(&new, &place)).expect("the clock's file");
    }

    /// A server with this clock.
    pub fn wrap(&self, setup: Setup) -> Setup {
        self.environment().into_iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// A command with this clock.
    pub fn command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment())
    }

    fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.dir.join("clock")
    }
}
