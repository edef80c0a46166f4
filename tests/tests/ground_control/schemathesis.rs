//! The server against its own OpenAPI document, by schemathesis: requests made from the document, right and wrong ones.

use crate::worlds::{World, postgres, sqlite};
use satellite_tests::ground_control::{PASSWORD, binary};
use satellite_tests::process::run;
use satellite_tests::{has, skip};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const VERSION: &str = "4.32.5";

/// The program, in an environment of its own beside what cargo builds; installed at its first use.
fn program() -> Option<PathBuf> {
    let target = binary().ancestors().nth(2).expect("a target directory");
    let place = target.join(format!("schemathesis-{VERSION}"));
    let program = place.join("bin/schemathesis");
    if program.is_file() {
        return Some(program);
    }
    if !has("python3") {
        skip("schemathesis", "python3 is missing; tests/install gets it");
        return None;
    }
    // Made aside and then renamed, so that a half-made one is never taken for it. What is in it finds itself by
    // Python's `-m`, not by the paths that are written into its scripts.
    let new = tempfile::Builder::new().prefix("schemathesis-").tempdir_in(target).expect("a directory");
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(new.path()), Duration::from_secs(120));
    if made.code != Some(0) {
        skip("schemathesis", &format!("no virtual environment: {}", made.stderr.trim()));
        return None;
    }
    let mut pip = Command::new(new.path().join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    let got = run(pip.arg(format!("schemathesis=={VERSION}")), Duration::from_secs(300));
    if got.code != Some(0) {
        skip("schemathesis", &format!("cannot be had: {}", got.stderr.lines().last().unwrap_or_default()));
        return None;
    }
    match std::fs::rename(new.path(), &place) {
        Ok(()) => {}
        // Another test program was quicker.
        Err(_) if program.is_file() => {}
        Err(error) => panic!("{}: {error}", place.display()),
    }
    Some(program)
}

fn examine(world: &World) {
    let Some(program) = program() else { return };
    let admin = world.server.admin();
    admin.config("c1");
    admin.group("g1", &[("library/web", "v1", "")]);
    admin.register("sat1", &["g1"], "c1");
    let reports = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(program.with_file_name("python3"));
    command.args(["-m", "schemathesis.cli", "run"]).arg(format!("{}/openapi.json", world.server.url()));
    command.args(["--auth", &format!("admin:{PASSWORD}"), "--phases", "examples,coverage,fuzzing"]);
    command.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    command.args(["--checks", "response_schema_conformance,response_headers_conformance"]);
    // Answers 503 by design where no SPIRE server is configured, as here.
    command.args(["--exclude-path-regex", "^/api/(spire/agents|satellites/register)$"]);
    command.args(["--max-examples", "15", "--seed", "7", "--generation-database", "none", "--no-color"]);
    command.args(["--request-timeout", "10", "--warnings", "off", "--continue-on-failure"]);
    let done = run(command.current_dir(reports.path()), Duration::from_secs(240));
    let tail: String = done
        .stdout
        .lines()
        .rev()
        .take(150)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(done.code, Some(0), "{}:\n{tail}\n{}", world.name, done.stderr);
    assert!(done.stdout.contains("passed"), "{tail}");
    admin.read("/api/satellites");
}

#[test]
fn requests_made_from_the_openapi_document_are_answered_as_it_says() {
    // The same code answers on both; the database that can refuse more is the one.
    let world = postgres(|setup| setup).unwrap_or_else(|| sqlite(|setup| setup));
    examine(&world);
}
