//! What `consentry check` shows.

use std::fmt;
use std::path::{Path, PathBuf};

use super::fault::{Faults, Warning};
use super::{Config, StoreKind};

/// What came of checking a file. Its `Display` is for people: one fault or warning a line, and a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    path: PathBuf,
    result: Result<Summary, Faults>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Summary {
    warnings: Vec<Warning>,
    providers: usize,
    apis: usize,
    store: &'static str,
}

/// Reads the file at `path` as [`Config::load`] does, secrets included, and says what it found. Nothing is connected to.
pub fn check(path: &Path, env: impl Fn(&str) -> Option<String>) -> Report {
    let result = Config::load(path, env).map(|(config, warnings)| Summary {
        warnings,
        providers: config.registrations.len(),
        apis: config.proxy.apis.len(),
        store: match config.store.kind {
            StoreKind::Redis(_) => "redis",
            StoreKind::Embedded { .. } => "embedded",
        },
    });
    Report { path: path.to_owned(), result }
}

impl Report {
    /// Whether the program would start with this file.
    pub const fn is_usable(&self) -> bool {
        self.result.is_ok()
    }

    /// The faults; none if the file is usable.
    pub const fn faults(&self) -> Option<&Faults> {
        match &self.result {
            Ok(_) => None,
            Err(faults) => Some(faults),
        }
    }

    /// The warnings; none are looked for in a file with faults.
    pub fn warnings(&self) -> &[Warning] {
        self.result.as_ref().map(|summary| summary.warnings.as_slice()).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.result {
            Err(faults) => write!(f, "{faults} in {path}"),
            Ok(summary) => {
                for warning in &summary.warnings {
                    writeln!(f, "warning: {warning}")?;
                }
                let Summary { providers, apis, store, .. } = summary;
                write!(f, "{path} is fine: providers: {providers}, apis: {apis}, store: {store}")
            }
        }
    }
}
