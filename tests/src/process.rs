//! Processes under guard: a daemon ends with its owner, a command ends by itself or at its bound.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running process. Dropping it kills it, and shows its log if the test is failing.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with both outputs appended to the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for a line of its log that `pick` makes something of; panics if it ends before or says nothing.
    pub fn wait_log<T>(&mut self, bound: Duration, pick: impl Fn(&str) -> Option<T>) -> T {
        let found = wait::within(bound, || {
            let ended = self.ended();
            match self.log().lines().find_map(&pick) {
                Some(value) => Some(Ok(value)),
                None => ended.map(Err),
            }
        });
        match found {
            Some(Ok(value)) => value,
            Some(Err(status)) => panic!("{} ended while starting ({status}):\n{}", self.name, self.log()),
            None => panic!("{} did not start in {bound:?}:\n{}", self.name, self.log()),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, signal);
    }

    /// Asks it to end, and gives how it did; kills it and panics when it does not in time.
    pub fn terminate(mut self, bound: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(bound)
    }

    /// Waits for its end; kills it and panics when it does not come in time.
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        match wait::within(bound, || self.ended()) {
            Some(status) => status,
            None => panic!("{} ({}) still runs after {bound:?}", self.name, self.pid()),
        }
    }

    /// Kills it at once, as a power cut would, and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of {}'s log ---\n{}\n---", self.name, tail(&self.log(), 30));
        }
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command as it was typed.
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Panics with both outputs unless it succeeded; gives its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout
    }

    /// Panics with both outputs unless it ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Panics with both outputs unless all `words` are in its complaint (case does not matter).
    #[track_caller]
    pub fn complains(self, words: &[&str]) -> Self {
        let text = self.stderr.to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "{word:?} is missing in what was said by {self}");
        }
        self
    }

    /// Panics if it ended by a panic of ours, or said nothing while it failed.
    #[track_caller]
    pub fn decent(self) -> Self {
        assert!(!self.stderr.contains("panicked at"), "a panic in {self}");
        assert!(self.code == Some(0) || !self.stderr.trim().is_empty(), "a failure without a word in {self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr, took } = self;
        write!(
            out,
            "`{command}` ({code:?} after {took:.1?})\nstdout: {}\nstderr: {}",
            stdout.trim(),
            stderr.trim()
        )
    }
}

/// Runs a command to its end, killing it at `bound` (then there is no exit code).
///
/// Output goes through files, so that a grandchild that keeps a pipe open cannot make us wait for it.
pub fn run(command: &mut Command, bound: Duration) -> Finished {
    run_with(command, Stdio::null(), bound)
}

/// As [`run`], with something on its standard input.
pub fn run_with(command: &mut Command, stdin: Stdio, bound: Duration) -> Finished {
    let typed = typed(command);
    let (out, err) = (temporary(), temporary());
    let start = Instant::now();
    let mut child = command
        .stdin(stdin)
        .stdout(out.reopen().expect("a second handle"))
        .stderr(err.reopen().expect("a second handle"))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {typed}: {error}"));
    let status = wait::within(bound, || child.try_wait().expect("the state of a child"));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned()
    };
    let mut stderr = read(&err);
    if status.is_none() {
        stderr.push_str(&format!("\n(killed: it did not end in {bound:?})"));
    }
    Finished {
        command: typed,
        code: status.and_then(|s| s.code()),
        stdout: read(&out),
        stderr,
        took: start.elapsed(),
    }
}

/// A file with `text`, opened for reading: a command's standard input.
pub fn stdin(text: &str) -> Stdio {
    let file = temporary();
    std::fs::write(file.path(), text).expect("a file for standard input");
    Stdio::from(file.reopen().expect("a second handle"))
}

fn temporary() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().expect("a temporary file")
}

fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The last lines, each cut to a readable length.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<String> = text.lines().map(|line| line.chars().take(300).collect()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
