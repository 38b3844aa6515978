//! A subject: the program that is tried, as a small YAML file says how to start it, how to call through it and how to give
//! it a consent. Texts in it have places, such as `{port}`, that are filled in for each instance.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

/// What is to be known of a program so that it can be tried from outside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// Its name, for the table.
    pub(crate) name: String,
    /// The command and its arguments.
    pub(crate) start: Vec<String>,
    /// What is set in its environment.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// Files that are written into the directory of an instance before it is started, with their text.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Answers with 2xx as soon as calls are taken. Without it, a port that accepts connections is enough.
    pub(crate) ready: Option<String>,
    /// How an app calls.
    pub(crate) call: Call,
    /// Gives it a consent with a token set.
    pub(crate) seed: Act,
    /// Has a refresh token tried again that the bank refused by mistake.
    pub(crate) revive: Option<Act>,
    /// Whether several instances can work on one store.
    #[serde(default)]
    pub(crate) shares_store: bool,
    /// Whether its store is the Redis that is started for it. Else it keeps its files in its directory.
    #[serde(default)]
    pub(crate) uses_redis: bool,
    /// What differs at a bank that takes a spent refresh token once more for a minute. Without it such a bank is not tried.
    pub(crate) grace: Option<Grace>,
    /// For how long a process is stopped that is to lose what it holds.
    #[serde(default = "usual_stop")]
    stopped_seconds: u64,
    /// How long the slow bank thinks.
    #[serde(default = "usual_slowness")]
    slow_seconds: u64,
    /// How long it may take to serve again once a fault is over.
    #[serde(default = "usual_healing")]
    heals_within_seconds: u64,
    /// Whether the bank speaks TLS, with a certificate of `{ca_file}`.
    #[serde(default)]
    pub(crate) bank_tls: bool,
}

/// A call through the program to the bank.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Where; it has to arrive at the bank's API as `{api}/consents/{consent}`.
    pub(crate) url: String,
    /// The request header that names the consent.
    pub(crate) header: String,
}

/// Something that is done to the program: a request, or a command that ends with 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Act {
    /// A request that is answered with 2xx.
    Request(HttpRequest),
    /// A command and its arguments, run in the instance's directory.
    Command {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: String,
}

/// What differs at a bank with a grace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Grace {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
}

fn usual_stop() -> u64 {
    6
}

fn usual_slowness() -> u64 {
    6
}

fn usual_healing() -> u64 {
    90
}

impl Subject {
    /// Reads a file; the error is for a person.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of such a file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let subject: Self = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        if subject.start.is_empty() {
            return Err("start: a command is needed".to_owned());
        }
        if subject.shares_store && !subject.uses_redis {
            return Err(
                "shares_store: instances share the Redis that is started for them, so uses_redis has to be true"
                    .to_owned(),
            );
        }
        Ok(subject)
    }

    /// At a bank that takes a spent refresh token once more.
    pub(crate) fn tolerant(&self) -> Option<Self> {
        let grace = self.grace.clone()?;
        let mut subject = self.clone();
        subject.files.extend(grace.files);
        subject.environment.extend(grace.environment);
        Some(subject)
    }

    pub(crate) fn stopped(&self) -> Duration {
        Duration::from_secs(self.stopped_seconds)
    }

    pub(crate) fn slow(&self) -> Duration {
        Duration::from_secs(self.slow_seconds)
    }

    pub(crate) fn heals_within(&self) -> Duration {
        Duration::from_secs(self.heals_within_seconds)
    }
}

/// Fills in the places of a text: `{name}` where `value` knows the name; anything else in braces stays as it is.
pub(crate) fn filled(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        let name = inside.find('}').map(|close| &inside[..close]);
        let known = name.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        done.push_str(&rest[..open]);
        if let Some((name, value)) = known.and_then(|name| Some((name, value(name)?))) {
            done.push_str(&value);
            rest = &inside[name.len() + 1..];
        } else {
            done.push('{');
            rest = inside;
        }
    }
    done + rest
}
