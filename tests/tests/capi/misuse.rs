//! A program that does all that must not be done, as it is and under valgrind.

use std::{process::Command, time::Duration};

use satellite_tests::{dir::Dir, process::run, skip};

use crate::library::{Library, Link, command, links, missing, missing_here};

const SOURCE: &str = "tests/tests/capi/misuse.c";
const BOUND: Duration = Duration::from_secs(240);

/// valgrind, which makes 99 the exit code of a program with an error or a leak.
///
/// A leak is what nothing points to. "Possibly lost" is what only an address in its middle points to, as Rust's counted
/// references and a thread's own memory do: at the exit the index's threads and the one that waits for sockets still run.
pub(crate) fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
    command.args(["--errors-for-leak-kinds=definite,indirect", "--show-leak-kinds=definite,indirect"]);
    command
}

#[test]
fn misuse_is_an_error_code_and_no_crash() {
    if let Some(program) = missing() {
        return skip("capi", &format!("{program} is missing"));
    }
    for &link in links() {
        let dir = Dir::new();
        let program = Library::get().compile(SOURCE, link, dir.path());
        let said = run(command(program).arg(dir.join("store")), BOUND);
        assert_eq!(said.stderr, "", "{link:?}: the library has no output of its own");
        assert_eq!(said.ok(), "0 wrong\n");
    }
}

#[test]
fn misuse_leaks_nothing_and_touches_no_memory_of_others() {
    if let Some(why) = missing_here("valgrind") {
        return skip("capi under valgrind", &why);
    }
    let dir = Dir::new();
    let program = Library::get().compile(SOURCE, Link::Shared, dir.path());
    let said = run(valgrind().arg(program).arg(dir.join("store")), BOUND);
    assert_eq!(said.stderr, "");
    assert_eq!(said.ok(), "0 wrong\n");
}
