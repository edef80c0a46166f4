//! Command lines that make no sense: exit code 2 and a word about it, before anything is done.

use satellite_tests::dir::Dir;
use satellite_tests::process::run;
use satellite_tests::satellite::{BOUND, Store, command};

#[test]
fn references_and_values_that_are_none_are_usage_errors() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let long = format!("127.0.0.1:1/{}:v1", "a".repeat(300));
    let references = [
        "",
        " ",
        "127.0.0.1:1/UPPER/x:v1",
        "127.0.0.1:1/a b",
        "127.0.0.1:1/x:ta g",
        "127.0.0.1:1/x@sha256:zz",
        "127.0.0.1:1/x@md5:00",
        "127.0.0.1:1/../etc/passwd",
        "127.0.0.1:1/x:",
        "127.0.0.1:1/x@",
        "127.0.0.1:1//x",
        "127.0.0.1:99999/x:v1",
        "http://127.0.0.1:1/x:v1",
        "/x",
        "x/",
        "caf\u{e9}",
        &long,
    ];
    for reference in references {
        store.run("pull", ["--plain-http", "--", reference]).exits(2).decent();
        assert!(!store.dir().exists(), "{reference:?} made a store");
    }
    let good = "127.0.0.1:1/x:v1";
    for flags in [
        ["--platform", "linux"],
        ["--platform", "linux/amd64/v1/v2"],
        ["--platform", ""],
        ["--limit-rate", "fast"],
        ["--limit-rate", "-1MiB"],
        ["--limit-rate", "0"],
        ["--concurrency", "0"],
        ["--concurrency", "many"],
        ["--no-such-flag", "x"],
    ] {
        store.run("pull", [flags[0], flags[1], good]).exits(2).decent();
    }
    store.run("pull", [] as [&str; 0]).exits(2).decent();
    store.run("gc", ["--grace", "soon"]).exits(2).decent();
    for listen in ["nonsense", "127.0.0.1", "127.0.0.1:99999", ":::"] {
        store.run("serve", ["--listen", listen]).exits(2).decent();
    }
    assert!(!store.dir().exists(), "a command that made no sense made a store");
}

#[test]
fn unknown_commands_and_none_are_usage_errors_and_help_is_none() {
    for arguments in
        [vec![], vec!["no-such-command"], vec!["push"], vec!["inspect"], vec!["completions", "no-such-shell"]]
    {
        run(&mut command(&arguments), BOUND).exits(2).decent();
    }
    for arguments in [["--help", ""], ["--version", ""], ["pull", "--help"], ["serve", "--help"]] {
        let words = arguments.iter().filter(|word| !word.is_empty());
        assert!(!run(&mut command(words), BOUND).ok().is_empty());
    }
}

#[test]
fn files_that_are_named_and_are_not_there_are_named_in_the_complaint() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let listen = ["--listen", "127.0.0.1:0"];
    for flags in [
        vec!["--htpasswd", "/nonexistent/users"],
        vec!["--tls-cert", "/nonexistent/crt", "--tls-key", "/nonexistent/key"],
    ] {
        let said = store.run("serve", listen.iter().chain(&flags)).decent().complains(&["/nonexistent/"]);
        assert!(matches!(said.code, Some(1 | 2)), "{said}");
    }
    store.run("serve", ["--listen", "127.0.0.1:0", "--tls-cert", "/etc/hostname"]).exits(2).decent();
    for (flag, path) in [("--ca-file", "/nonexistent/ca"), ("--from-file", "/nonexistent/list")] {
        let said = store.run("pull", [flag, path, "127.0.0.1:1/x:v1"]).decent().complains(&[path]);
        assert!(matches!(said.code, Some(1 | 2)), "{said}");
    }
    // Password files with lines that are none: refused when read, not when somebody logs in.
    std::fs::write(dir.join("users"), "no colon here\n").unwrap();
    let users = dir.join("users");
    let said =
        store.run("serve", ["--listen", "127.0.0.1:0", "--htpasswd", users.to_str().unwrap()]).decent();
    assert!(matches!(said.code, Some(1 | 2)), "{said}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = Dir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = Store::at(dir.join("s")).run("serve", ["--listen", &address]).decent().complains(&[&address]);
    assert!(matches!(said.code, Some(1)), "{said}");
}
