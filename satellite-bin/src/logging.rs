//! Log lines on standard error.

use std::io::Write;

use log::{Level, LevelFilter};

/// Who else logs, and how much of it is wanted. sled's own debug lines are about its insides.
const OTHERS: &str = "sled=warn,polling=warn,async_io=warn";

/// Lines of `level` and above, or what `RUST_LOG` says. Under systemd each has its priority (`sd-daemon(3)`), and no time,
/// which the journal knows.
pub(crate) fn init(level: &str, access: bool, targets: bool) {
    let access = if access { "info" } else { "warn" };
    let env = env_logger::Env::default().filter_or("RUST_LOG", format!("{level},access={access},{OTHERS}"));
    let mut builder = env_logger::Builder::from_env(env);
    builder.format_target(targets);
    if std::env::var_os("JOURNAL_STREAM").is_some_and(|s| !s.is_empty()) {
        builder.format(move |out, record| {
            let priority = priority(record.level());
            // A line break would end the line's priority.
            let text = record.args().to_string().replace('\n', " | ");
            match targets {
                true => writeln!(out, "<{priority}>[{}] {text}", record.target()),
                false => writeln!(out, "<{priority}>{text}"),
            }
        });
    }
    builder.init();
}

/// Another level, unless `RUST_LOG` or `-v` say which.
pub(crate) fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
