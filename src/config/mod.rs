//! What the operator wrote, as settings of the parts.
//!
//! [`Config::load`] reads one YAML file in three steps: `tree` finds repeated keys, `shape` fits what is there into
//! the structs of `raw`, key by key, and `parse` makes settings of them. No step stops at its first complaint: they
//! gather in `fault`, and each gets its line and column from `locate`. [`check()`] does the same for `consentry
//! check`, and never gives a configuration out. `reload` reads all of it again when a file has changed, and `difference` tells what is another than
//! before. `renewal` reads certificates again while they are in use, and `secret_renewal` secrets and keys of our clients.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admin::settings::{AdminSettings, HealthSettings};
use crate::callback::settings::CallbackSettings;
use crate::consent::DeskSettings;
use crate::consent::settings::AskSettings;
use crate::oauth::settings::Registration;
use crate::proxy::settings::ProxySettings;
use crate::store::redis::RedisSettings;
use crate::store::seal::Keyring;
use crate::token::settings::TokenSettings;
use crate::words::ids::ProviderId;

mod check;
mod difference;
mod fault;
mod locate;
mod nearest;
mod parse;
mod raw;
mod reload;
pub mod renewal;
mod secret_renewal;
mod shape;
#[cfg(all(test, feature = "sandbox"))]
mod tests;
mod tree;
pub mod value;

pub use check::{Report, check};
pub use difference::Change;
pub use fault::{Fault, Faults, Place, Warning, YamlPath};
pub use reload::{Files, FilesRead, Reloaded};

/// Everything the program is told. Every field is checked and meaningful.
#[derive(Debug)]
pub struct Config {
    /// The listener for apps.
    pub proxy: ProxySettings,
    /// The listener for probes and metrics.
    pub health: HealthSettings,
    /// The listener for administration, where there is one.
    pub admin: Option<AdminSettings>,
    /// The listener for customers' browsers, and how customers are asked, where consents can be started.
    pub callback: Option<(CallbackSettings, AskSettings)>,
    /// Where token sets live.
    pub store: StoreConfig,
    /// The token cache and what is known of each provider.
    pub tokens: TokenSettings,
    /// Our registration at each provider; the same names as in `tokens.providers`.
    pub registrations: BTreeMap<ProviderId, Registration>,
    /// Where banks are asked about consents, for those that offer it.
    pub desks: BTreeMap<ProviderId, DeskSettings>,
    /// How the process ends.
    pub shutdown: ShutdownSettings,
    /// What is logged.
    pub log: LogSettings,
    /// What this process is called among its like, for people; nothing depends on its being unique.
    pub replica: String,
    /// Every file that secrets and certificates were read from. A change of one of them calls for another load.
    pub files: Vec<PathBuf>,
    /// The certificates, secrets and keys of our clients that are read again while they are in use.
    pub renewals: Vec<renewal::Watched>,
}

/// Where token sets live, and how they are sealed.
#[derive(Debug)]
pub struct StoreConfig {
    /// Redis or a file.
    pub kind: StoreKind,
    /// Under what the records are named. Two installations with different prefixes never meet.
    pub key_prefix: String,
    /// The local copy that bridges a store that is away. Always there with Redis.
    pub spill: Option<SpillSettings>,
    /// Seals tokens.
    pub keyring: Keyring,
}

/// Redis or a file.
#[derive(Debug)]
pub enum StoreKind {
    /// A Redis server, shared by any number of replicas.
    Redis(Box<RedisSettings>),
    /// One file, for one process.
    Embedded {
        /// Where it is, or will be made.
        path: PathBuf,
    },
}

/// The spill directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillSettings {
    /// Where it is, or will be made. One process owns it.
    pub directory: PathBuf,
    /// Whether nothing is refreshed while it cannot be written.
    pub required: bool,
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// How long requests and refreshes under way may take to finish.
    pub grace: Duration,
}

impl Default for ShutdownSettings {
    /// Some seconds less than the 30 that Kubernetes gives.
    fn default() -> Self {
        Self { grace: Duration::from_secs(25) }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// A filter of the `tracing` kind: `info`, or `info,consentry::token=debug`.
    pub level: String,
}

impl LogSettings {
    /// The filter unless the operator says otherwise.
    pub const LEVEL: &str = "info";
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A configuration has some kilobytes.
const MOST_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Reads the file at `path` and everything it refers to; `env` gives the environment's variables. Relative paths
    /// begin at the file's folder. Either there is a configuration and perhaps warnings, or all faults at once.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), Faults> {
        let text = read(path)?;
        Self::parse(&text, folder_of(path), &env)
    }

    fn parse(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), Faults> {
        let collector = fault::Collector::default();
        let mut tree = tree::read(text, &collector)?;
        if tree == tree::Node::Null {
            return Err(Faults::of_file("it is empty; config.example.yaml shows what belongs into it", None));
        }
        let raw = shape::shape(&mut tree, &collector);
        let config = parse::parse(&raw, &collector.top(), &parse::Sources::new(folder, env));
        let warnings = collector.finish(text)?;
        let config =
            config.ok_or_else(|| Faults::of_file("it is not understood, and which part is not known", None))?;
        Ok((config, warnings))
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn read(path: &Path) -> Result<String, Faults> {
    let cannot = |error: io::Error| Faults::of_file(format!("it cannot be read: {}", error.kind()), None);
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(Faults::of_file("it is not a file", None));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(cannot)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Faults::of_file("it is larger than 1 MiB, which no configuration is", None));
    }
    let text = String::from_utf8(bytes).map_err(|_| Faults::of_file("it is not text (UTF-8)", None))?;
    // Some editors put a byte order mark first, which the parser would take for a document of its own.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
