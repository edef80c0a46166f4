//! The header says what the code is.

use std::{fs, path::Path};

/// In the order of the header.
const FILES: [&str; 9] =
    ["version", "codes", "handles", "logging", "store", "blobs", "images", "cancel", "replicate"];

#[test]
fn the_header_is_what_cbindgen_makes_of_the_code() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in FILES.iter().chain(&["serve"]) {
        builder = builder.with_src(here.join(format!("src/{file}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = here.join("include/satellite.h");
    if std::env::var_os("SATELLITE_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let line = there.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        there == made,
        "include/satellite.h is stale from line {}: SATELLITE_BLESS=1 cargo test -p satellite-capi header",
        line.unwrap_or_default() + 1
    );
}

#[test]
fn every_function_that_is_exported_is_in_the_header_and_says_which_threads_may_call_it() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = fs::read_to_string(here.join("include/satellite.h")).unwrap();
    let mut count = 0;
    for file in fs::read_dir(here.join("src")).unwrap() {
        let path = file.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let code = fs::read_to_string(&path).unwrap();
        for (before, rest) in code.match_indices("pub extern \"C\" fn ").map(|(at, _)| code.split_at(at)) {
            let name = rest.trim_start_matches("pub extern \"C\" fn ").split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
            let comment = before.rsplit("\n\n").next().unwrap();
            assert!(comment.contains("Threads: any"), "{name} does not say which threads may call it");
            assert!(comment.contains("#[unsafe(no_mangle)]"), "{name} is not exported");
            count += 1;
        }
    }
    assert_eq!(count, 26, "functions");
}
