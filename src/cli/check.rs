//! `consentry check`: everything that is wrong with a configuration, at once.

use std::path::PathBuf;

use super::exit::Failure;
use super::out;
use serde_json::{Value, json};

use crate::config::{self, Fault, Report};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let report = config::check(&arguments.config, |name| std::env::var(name).ok());
    if json {
        out::say_json(&as_json(&report));
    }
    if report.is_usable() {
        if !json {
            out::say(&report.to_string());
        }
        return Ok(());
    }
    Err(Failure::Config(report.to_string()))
}

fn as_json(report: &Report) -> Value {
    let one = |fault: &Fault| {
        json!({
            "path": fault.path.to_string(),
            "sentence": fault.sentence,
            "line": fault.place.map(|place| place.line),
            "column": fault.place.map(|place| place.column),
        })
    };
    let faults: Vec<_> = report.faults().into_iter().flatten().map(one).collect();
    let warnings: Vec<_> = report.warnings().iter().map(|warning| one(&warning.0)).collect();
    json!({ "usable": report.is_usable(), "faults": faults, "warnings": warnings })
}
