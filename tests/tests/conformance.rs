//! Somebody else's suite: the OCI Distribution conformance program, with every optional part on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use satellite_tests::dir::Dir;
use satellite_tests::process::run;
use satellite_tests::satellite::Store;
use satellite_tests::skip;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The one version this is written for; `tests/install` gets it.
const VERSION: &str = "v0.0.0-20260831232431-97274622c111";

/// What 1.1 leaves off by default, and what we therefore switch on.
const OPTIONAL: [&str; 6] = [
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
    "OCI_DATA_SPARSE",
    "OCI_DATA_SHA512",
];

fn program() -> Option<PathBuf> {
    let go = |args: &[&str]| {
        let said = run(Command::new("go").args(args), Duration::from_secs(60));
        (said.code == Some(0)).then(|| said.stdout.trim().to_owned())
    };
    if !satellite_tests::has("go") {
        skip("OCI conformance", "Go is not here");
        return None;
    }
    let bin = go(&["env", "GOBIN"]).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let bin = bin.or_else(|| Some(Path::new(&go(&["env", "GOPATH"])?).join("bin")))?.join("conformance");
    let known = go(&["version", "-m", &bin.to_string_lossy()]).is_some_and(|said| said.contains(VERSION));
    if !known {
        skip(
            "OCI conformance",
            &format!("{} is not there in version {VERSION}; tests/install gets it", bin.display()),
        );
    }
    known.then_some(bin)
}

/// Name, status and words of each test case of a JUnit report.
fn cases(xml: &str) -> Vec<(&str, &str, &str)> {
    let attribute = |text: &'static str, case: &str| -> Option<(usize, usize)> {
        let start = case.find(text)? + text.len();
        Some((start, start + case[start..].find('"')?))
    };
    xml.split("<testcase ")
        .skip(1)
        .map(|case| {
            let get = |text| attribute(text, case).map_or("", |(from, to)| &case[from..to]);
            let words =
                case.split_once("<system-out>").and_then(|(_, rest)| rest.split_once("</system-out>"));
            (get("name=\""), get("status=\""), words.map_or("", |(words, _)| words))
        })
        .collect()
}

#[test]
fn the_oci_conformance_program_finds_no_fault_with_every_optional_part_switched_on() {
    let Some(program) = program() else { return };
    let dir = Dir::new();
    let server = Store::at(dir.join("s")).serve_with(["--trust-loopback", "--allow-sparse"]);
    let mut command = Command::new(program);
    command.current_dir(dir.path()).env("OCI_REGISTRY", server.host()).env("OCI_TLS", "disabled");
    command.env("OCI_VERSION", "1.1").env("OCI_LOG", "error").env("OCI_RESULTS_DIR", dir.join("results"));
    for name in OPTIONAL {
        command.env(name, "true");
    }
    let finished = run(&mut command, Duration::from_secs(120));
    if let Some(keep) = std::env::var_os("SATELLITE_CONFORMANCE_DIR") {
        run(Command::new("cp").arg("-a").arg(dir.join("results")).arg(keep), Duration::from_secs(20)).ok();
    }
    let xml = std::fs::read_to_string(dir.join("results/junit.xml"))
        .unwrap_or_else(|_| panic!("no report: {finished}"));
    let cases = cases(&xml);
    let count = |status: &str| cases.iter().filter(|case| case.1 == status).count();
    let failed: Vec<String> = cases
        .iter()
        .filter(|(_, status, _)| !matches!(*status, "passed" | "skipped"))
        .map(|(name, status, words)| {
            format!("{status}: {name}: {}", words.chars().take(300).collect::<String>())
        })
        .collect();
    eprintln!(
        "conformance: {} passed, {} skipped, {} failed",
        count("passed"),
        count("skipped"),
        failed.len()
    );
    let first = failed.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} checks failed, the first of them:\n{first}", failed.len());
    assert!(count("passed") > 700, "only {} checks ran; peers have some 830", count("passed"));
    let skipped: Vec<&str> = cases.iter().filter(|case| case.1 == "skipped").map(|case| case.0).collect();
    assert!(skipped.is_empty(), "skipped: {skipped:#?}");
    assert_eq!(finished.code, Some(0), "{finished}");
}
