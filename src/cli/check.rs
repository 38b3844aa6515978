//! `consentry check`: everything that is wrong with a configuration, at once.

use std::path::PathBuf;

use super::exit::Failure;
use super::out;
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let report = config::check(&arguments.config, |name| std::env::var(name).ok());
    if json {
        out::say_json(&report.to_json());
    }
    if report.is_ok() {
        if !json {
            out::say(&report.to_string());
        }
        return Ok(());
    }
    Err(Failure::Config(report.to_string()))
}
