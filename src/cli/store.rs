//! `consentry store`: whether the place where tokens are kept is fit for it.
//!
//! A Redis is asked directly, whether or not a process runs. A file is opened, which only one process can; that another
//! one holds it is how it should be.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::exit::Failure;
use super::run::load;
use super::{out, runtime};
use crate::config::StoreKind;
use crate::store::embedded::{EmbeddedError, EmbeddedStore};
use crate::store::redis::doctor::{Finding, Severity};
use crate::store::redis::{RedisSettings, RedisStore};
use crate::store::spill::HighWater;
use crate::words::clock::SystemClock;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what about the store puts consents at risk, and what to do. Ends with 1 if it must not be used like this.
    Doctor {
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(arguments: Arguments, json: bool) -> Result<(), Failure> {
    let Action::Doctor { config } = arguments.action;
    let (config, _) = load(&config)?;
    let (kind, mut findings) = match config.store.kind {
        StoreKind::Redis(settings) => {
            let mut findings = examine(&settings)?;
            findings.extend(config.store.spill.map(|spill| look_for_what_is_known(&spill.directory)));
            ("redis", findings)
        }
        StoreKind::Embedded { path } => ("embedded", look_at(&path)),
    };
    findings.sort_by_key(|finding| finding.severity);
    let usable = !findings.iter().any(|finding| finding.severity == Severity::Refuse);
    if json {
        out::say_json(&as_json(kind, usable, &findings));
    } else {
        out::say(&as_table(&findings));
    }
    if usable {
        return Ok(());
    }
    Err(Failure::Other("the store must not be used like this: see what is marked refuse".to_owned()))
}

fn examine(settings: &RedisSettings) -> Result<Vec<Finding>, Failure> {
    let store = RedisStore::connect(settings).map_err(|error| Failure::Config(format!("store.redis: {error}")))?;
    let examination = runtime()?.block_on(store.examine(&SystemClock));
    let examination = examination.map_err(|error| Failure::Unavailable(error.to_string()))?;
    Ok(examination.findings().to_vec())
}

/// Whether a process that starts with this spill directory would notice an old backup of the store.
fn look_for_what_is_known(directory: &Path) -> Finding {
    let shown = directory.display();
    let (severity, sentence) = match HighWater::read(directory) {
        Some(HighWater { age, .. }) => {
            let until = age.newest_beat;
            (Severity::Fine, format!("{shown} knows the store until {until}, so an old backup of it would be noticed"))
        }
        None => (
            Severity::Warn,
            format!(
                "{shown} knows nothing of the store, so a process that starts there would take an old backup of it for \
                 what it was, and send refresh tokens that were spent since; that is normal before the proxy first runs, \
                 and else the directory has to outlive the process"
            ),
        ),
    };
    Finding { severity, check: "old-backup", sentence }
}

fn look_at(path: &Path) -> Vec<Finding> {
    let finding = |severity, check, sentence: String| Finding { severity, check, sentence };
    let shown = path.display();
    // Opening would create it, and a look should leave nothing behind.
    let file = if path.exists() {
        match EmbeddedStore::open(path, SystemClock) {
            Ok(_) => finding(Severity::Fine, "file", format!("{shown} opens, and no process holds it")),
            Err(EmbeddedError::InUse(_)) => {
                finding(Severity::Fine, "file", format!("{shown} is held by another process"))
            }
            Err(error @ EmbeddedError::Unusable { .. }) => finding(
                Severity::Refuse,
                "file",
                format!(
                    "{error}: no record can be read or written; look at its owner and at the disk, or bring a backup"
                ),
            ),
        }
    } else {
        finding(Severity::Fine, "file", format!("{shown} is not there yet and is made when the proxy first starts"))
    };
    let alone = "a file for one instance: every write is synced before it is acknowledged, so window W7 is closed; what \
                 its disk loses is lost";
    let backup = "an old copy of the file that is put in its place is not noticed: freeze every provider before you do \
                  that, or refresh tokens that were spent since are sent again";
    vec![
        file,
        finding(Severity::Fine, "acknowledged-writes", alone.to_owned()),
        finding(Severity::Warn, "old-backup", backup.to_owned()),
    ]
}

fn as_json(kind: &str, usable: bool, findings: &[Finding]) -> Value {
    let one = |finding: &Finding| json!({ "severity": finding.severity.as_str(), "check": finding.check, "sentence": finding.sentence });
    json!({ "store": kind, "usable": usable, "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

/// A finding a line.
fn as_table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let line = |finding: &Finding| {
        let Finding { severity, check, sentence } = finding;
        format!("{severity:<6}  {check:<width$}  {sentence}")
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}
