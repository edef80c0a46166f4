//! `satellite config`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    agent::settings::{Config as Running, Flags, Problem, Resolved, Source, check},
    exit::{Code, Failure, Result},
    output,
};

#[derive(Args)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print every setting that holds, and where it comes from; secrets are ***
    Show {
        #[command(flatten)]
        flags: Box<Flags>,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration before it is published or put here; changes nothing
    Check {
        /// A file as Ground Control or config.json has it; - is standard input
        file: PathBuf,
        #[command(flatten)]
        flags: Box<Flags>,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    pub(super) fn run(self) -> Result<()> {
        match self.what {
            What::Show { flags, json } => {
                let (resolved, _) = Running::peek(&flags).map_err(|e| Failure::new(Code::Usage, e))?;
                show(resolved, json)
            }
            What::Check { file, flags, json } => {
                let failed =
                    |e: &dyn std::fmt::Display| Failure::new(Code::Usage, format!("{}: {e}", file.display()));
                let text = if file.as_os_str() == "-" {
                    std::io::read_to_string(std::io::stdin())
                } else {
                    std::fs::read_to_string(&file)
                };
                let document =
                    serde_json::from_str(&text.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
                // A configuration goes to many satellites: where Ground Control is says each of them.
                let mut flags = *flags;
                flags.ground_control_url.get_or_insert_with(|| "https://localhost/".into());
                show(check(&document, Source::File, &flags), json)
            }
        }
    }
}

fn show(resolved: std::result::Result<Resolved, Vec<Problem>>, json: bool) -> Result<()> {
    match resolved {
        Ok(resolved) if json => {
            output::json(&json!({"settings": resolved.shown, "warnings": resolved.warnings}));
            Ok(())
        }
        Ok(resolved) => {
            for shown in &resolved.shown {
                output::line(&format!("{:<8} {} = {}", shown.source, shown.field, shown.value));
            }
            for warning in &resolved.warnings {
                output::error(&format!("satellite: {warning}"));
            }
            Ok(())
        }
        Err(problems) => {
            if json {
                output::json(&json!({"problems": problems}));
            }
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Failure::new(Code::Usage, lines.join("\n")))
        }
    }
}
