//! `consentry consent`: start a consent, list all, look at one, ask why it is as it is, bring in one whose tokens are already held, have
//! a refused refresh token tried again, and revoke one.
//!
//! All go through the running process' admin listener. Where none runs, the store itself is opened; with the embedded
//! store that is possible only then. A consent is started only where a process runs that the customer can come to.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Subcommand;
use http::header::IF_MATCH;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::call::Call;
use super::ending::{REVOKE_HELP, info_through, revoke_in};
use super::exit::Failure;
use super::list::{Filters, LIST_HELP, print_list};
use super::run::load;
use super::running::{as_table, ask_running, open};
use super::{out, runtime};
use crate::config::Config;
use crate::consent::{ImportRequest, Received, RevokeRequest, StartRequest, Which, history, import, revive, show};
use crate::words::clock::SystemClock;
use crate::words::ids::{ConsentId, Version};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a consent, or a new one for an id that has one, and print where to send the customer's browser.
    Start {
        /// The provider, as the configuration names it.
        provider: String,
        /// The consent's id; without it a new one is made up.
        #[arg(long)]
        id: Option<String>,
        /// What to ask for; without it, the provider's default scope.
        #[arg(long)]
        scope: Option<String>,
        /// Where the browser goes in the end: one of `callback.return_urls`.
        #[arg(long, value_name = "URL")]
        return_url: Option<String>,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// List the consents that are stored. Never a token.
    #[command(after_help = LIST_HELP)]
    List {
        #[command(flatten)]
        filters: Filters,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Store a token set that you hold.
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The consent's id: 1 to 128 of A-Z a-z 0-9 . _ ~ : -
        id: String,
        /// The JSON file; - for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Replace exactly this: {grant}.{generation}, as `consent show` prints it.
        #[arg(long, value_name = "VERSION")]
        replace: Option<String>,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Show what is stored about a consent. Never a token.
    Show {
        /// The consent's id.
        id: String,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Tell in plain words what has happened to a consent, what comes next, and what a person should do.
    Why {
        /// The consent's id.
        id: String,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask the bank how a consent stands there, through the running process.
    Info {
        /// The consent's id.
        id: String,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// End a consent: at the bank, where it has a way, and then here.
    #[command(after_help = REVOKE_HELP)]
    Revoke {
        /// The consent's id.
        id: String,
        /// Revoke only exactly this: {grant}.{generation}, as `consent show` prints it.
        #[arg(long, value_name = "VERSION")]
        if_match: Option<String>,
        /// End it here and leave the bank out of it.
        #[arg(long)]
        only_here: bool,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Have the refresh token of a suspended consent tried again.
    #[command(after_help = REVIVE_HELP)]
    Revive {
        /// The consent's id.
        id: String,
        /// Revive only exactly this: {grant}.{generation}, as `consent show` prints it.
        #[arg(long, value_name = "VERSION")]
        if_match: Option<String>,
        /// The refresh token of the grant that the last import replaced, instead of the refused one.
        #[arg(long, requires = "if_match")]
        replaced: bool,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(arguments: Arguments, json: bool) -> Result<(), Failure> {
    let view = match arguments.action {
        Action::Start { provider, id, scope, return_url, config } => {
            let body = json!({ "provider": provider, "consent_id": id, "scope": scope, "return_url": return_url });
            let body = body.to_string();
            // Looked at here first, so that a fault is named without a round trip.
            StartRequest::parse(body.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))?;
            let (config, _) = load(&config)?;
            let view = runtime()?.block_on(start_through(&config, body))?;
            if !json {
                out::say(view["start_url"].as_str().unwrap_or_default());
                return Ok(());
            }
            view
        }
        Action::List { filters, config } => {
            let (config, _) = load(&config)?;
            return runtime()?.block_on(print_list(config, &filters, json));
        }
        Action::Import { id, file, replace, config } => {
            let id = consent_id(&id)?;
            let replace = version("--replace", replace.as_deref())?;
            let body = read(&file)?;
            // Looked at here first, so that a fault is named without a round trip.
            ImportRequest::parse(&body, Received::now(&SystemClock))
                .map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
            let (config, _) = load(&config)?;
            runtime()?.block_on(import_into(config, &id, &body, replace))?
        }
        Action::Show { id, config } => {
            let id = consent_id(&id)?;
            let (config, _) = load(&config)?;
            runtime()?.block_on(show_from(config, &id))?
        }
        Action::Why { id, config } => {
            let id = consent_id(&id)?;
            let (config, _) = load(&config)?;
            let view = runtime()?.block_on(history_from(config, &id))?;
            if !json {
                out::say(&as_story(&view));
                return Ok(());
            }
            view
        }
        Action::Info { id, config } => {
            let id = consent_id(&id)?;
            let (config, _) = load(&config)?;
            runtime()?.block_on(info_through(&config, &id))?
        }
        Action::Revoke { id, if_match, only_here, config } => {
            let id = consent_id(&id)?;
            let expected = version("--if-match", if_match.as_deref())?;
            let (config, _) = load(&config)?;
            runtime()?.block_on(revoke_in(config, &id, RevokeRequest { expected, only_here }))?
        }
        Action::Revive { id, if_match, replaced, config } => {
            let id = consent_id(&id)?;
            let expected = version("--if-match", if_match.as_deref())?;
            let (config, _) = load(&config)?;
            runtime()?.block_on(revive_in(config, &id, expected, replaced))?
        }
    };
    if json {
        out::say_json(&view);
    } else {
        out::say(&as_table(&view));
    }
    Ok(())
}

async fn start_through(config: &Config, body: String) -> Result<Value, Failure> {
    let call = Call::new(Method::POST, "/v1/consents").json(Bytes::from(body));
    ask_running(config, call).await?.ok_or_else(|| {
        Failure::Unavailable("no process runs with this configuration, so no customer could come back".to_owned())
    })
}

async fn import_into(config: Config, id: &ConsentId, body: &[u8], replace: Option<Version>) -> Result<Value, Failure> {
    let path = format!("/v1/consents/{}/tokens", id.as_str());
    let mut call = Call::new(Method::PUT, &path).json(Bytes::copy_from_slice(body));
    if let Some(version) = replace {
        call.headers.insert(IF_MATCH, tag(version)?);
    }
    if let Some(view) = ask_running(&config, call).await? {
        return Ok(view);
    }
    let request = ImportRequest::parse(body, Received::now(&SystemClock)).map_err(|e| Failure::Other(e.to_string()))?;
    let imported = import(&open(config)?, &SystemClock, id, request, replace).await;
    let imported = imported.map_err(|error| Failure::Other(error.to_string()))?;
    serde_json::to_value(&imported.view).map_err(|error| Failure::Other(error.to_string()))
}

async fn show_from(config: Config, id: &ConsentId) -> Result<Value, Failure> {
    let path = format!("/v1/consents/{}", id.as_str());
    if let Some(view) = ask_running(&config, Call::new(Method::GET, &path)).await? {
        return Ok(view);
    }
    let view = show(&open(config)?, &SystemClock, id).await.map_err(|error| Failure::Other(error.to_string()))?;
    serde_json::to_value(&view).map_err(|error| Failure::Other(error.to_string()))
}

async fn history_from(config: Config, id: &ConsentId) -> Result<Value, Failure> {
    let path = format!("/v1/consents/{}/history", id.as_str());
    if let Some(view) = ask_running(&config, Call::new(Method::GET, &path)).await? {
        return Ok(view);
    }
    let view = history(&open(config)?, &SystemClock, id).await.map_err(|error| Failure::Other(error.to_string()))?;
    serde_json::to_value(&view).map_err(|error| Failure::Other(error.to_string()))
}

async fn revive_in(config: Config, id: &ConsentId, expected: Option<Version>, old: bool) -> Result<Value, Failure> {
    let path = format!("/v1/consents/{}/revive", id.as_str());
    let mut call = Call::new(Method::POST, &path).json(Bytes::from(json!({ "replaced": old }).to_string()));
    if let Some(version) = expected {
        call.headers.insert(IF_MATCH, tag(version)?);
    }
    if let Some(view) = ask_running(&config, call).await? {
        return Ok(view);
    }
    let which = match (old, expected) {
        (false, expected) => Which::Refused { expected },
        (true, Some(expected)) => Which::Replaced { expected },
        (true, None) => return Err(Failure::Usage("--replaced needs --if-match".to_owned())),
    };
    let tokens = open(config)?;
    let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    revive(&tokens, id, which).await.map_err(|error| other(&error))?;
    let view = show(&tokens, &SystemClock, id).await.map_err(|error| other(&error))?;
    serde_json::to_value(&view).map_err(|error| other(&error))
}

pub(super) fn tag(version: Version) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(&format!("\"{version}\"")).map_err(|error| Failure::Other(error.to_string()))
}

fn version(flag: &str, text: Option<&str>) -> Result<Option<Version>, Failure> {
    let malformed = |text| Failure::Usage(format!("{flag} {text}: it is not {{grant}}.{{generation}}"));
    text.map(|text| Version::parse(text).ok_or_else(|| malformed(text))).transpose()
}

pub(super) fn consent_id(text: &str) -> Result<ConsentId, Failure> {
    ConsentId::parse(text).map_err(|error| Failure::Usage(format!("the consent id {text:?} is refused: {error}")))
}

const IMPORT_HELP: &str = "The JSON has the members provider, access_token, refresh_token (if there is one), expires_in \
(seconds) or expires_at (RFC 3339) and, where known, scope, bank_consent_id and consent_expires_at. The refresh token is \
not spent.";

/// An import has some kilobytes.
const MOST_BYTES: u64 = 64 * 1024;

fn read(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut body = Zeroizing::new(Vec::new());
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut body)
    } else {
        File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut body))
    };
    let read = read.map_err(|error| Failure::Other(format!("{} cannot be read: {error}", path.display())))?;
    if u64::try_from(read).is_ok_and(|read| read > MOST_BYTES) {
        return Err(Failure::Other(format!("{} is larger than 64 KiB", path.display())));
    }
    Ok(body)
}

/// What has happened, as a person reads it.
fn as_story(view: &Value) -> String {
    let text = |name: &str| view[name].as_str().unwrap_or_default();
    let mut lines = vec![
        format!("{} at {}: {}", text("consent_id"), text("provider"), text("state")),
        String::new(),
        text("summary").to_owned(),
        format!("Who acts: {}.", text("who_acts")),
        format!("What to do: {}", text("do")),
    ];
    if let Some(missing) = view["events_missing"].as_str() {
        lines.extend([String::new(), format!("Its history cannot be read: {missing}")]);
    }
    let events = view["events"].as_array().into_iter().flatten();
    let mut told = events.map(|event| {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        format!("{:24}  {}", text("at"), text("text"))
    });
    if let Some(first) = told.next() {
        lines.extend([String::new(), "What happened, the oldest first:".to_owned(), first]);
        lines.extend(told);
    }
    lines.join("\n")
}

const REVIVE_HELP: &str = "Only where the bank says that the consent is alive: a bank that had good reason to refuse the \
refresh token refuses it again, and a bank that takes a second presentation of a refresh token for a theft may end what \
is left of the grant, the access token that still works included. Nothing is sent at once; the next call tries it. A \
refresh token that was spent here, or that may have been, is never revived, except the one that was refused.";
