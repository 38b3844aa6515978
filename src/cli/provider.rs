//! `consentry provider`: freeze a provider for all replicas, thaw it, and look at how it stands.
//!
//! All go through the running process' admin listener. Where none runs, the store itself is opened; with the embedded
//! store that is possible only then.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::exit::Failure;
use super::run::load;
use super::running::{as_table, ask_running, open};
use super::{out, runtime};
use crate::config::Config;
use crate::consent::{ProviderView, Suspects, provider, providers};
use crate::words::clock::SystemClock;
use crate::words::ids::ProviderId;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Refresh nothing at a provider, on every replica, until it is thawed. Tokens that live are used as before.
    Freeze {
        /// The provider's name in the configuration.
        name: String,
        /// Why, for whoever looks at it next.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Let a provider be asked again.
    Thaw {
        /// The provider's name in the configuration.
        name: String,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Show whether a provider is frozen, its breaker, and which consents it refused lately.
    Show {
        /// The provider's name in the configuration; all where none is given.
        name: Option<String>,
        /// The configuration file.
        #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(arguments: Arguments, json: bool) -> Result<(), Failure> {
    let view = match arguments.action {
        Action::Freeze { name, why, config } => {
            let (id, (config, _)) = (provider_id(&name)?, load(&config)?);
            runtime()?.block_on(freeze_in(config, &id, why))?
        }
        Action::Thaw { name, config } => {
            let (id, (config, _)) = (provider_id(&name)?, load(&config)?);
            runtime()?.block_on(thaw_in(config, &id))?
        }
        Action::Show { name, config } => {
            let id = name.as_deref().map(provider_id).transpose()?;
            let (config, _) = load(&config)?;
            match id {
                Some(id) => runtime()?.block_on(show_from(config, &id))?,
                None => runtime()?.block_on(show_all_from(config))?,
            }
        }
    };
    if json {
        out::say_json(&view);
    } else {
        let all = view["providers"].as_array().map_or_else(|| vec![&view], |all| all.iter().collect());
        out::say(&all.into_iter().map(as_text).collect::<Vec<_>>().join("\n\n"));
    }
    Ok(())
}

async fn freeze_in(config: Config, id: &ProviderId, why: Option<String>) -> Result<Value, Failure> {
    let path = format!("/v1/providers/{}/freeze", id.as_str());
    let body = why.as_ref().map_or_else(|| json!({}), |why| json!({ "why": why }));
    let call = Call::new(Method::POST, &path).json(Bytes::from(body.to_string()));
    if let Some(view) = ask_running(&config, call).await? {
        return Ok(view);
    }
    let standing = open(config)?.freeze(id, why).await.map_err(|error| other(&error))?;
    as_value(&ProviderView::new(id, standing, &SystemClock, Suspects::Named))
}

async fn thaw_in(config: Config, id: &ProviderId) -> Result<Value, Failure> {
    let path = format!("/v1/providers/{}/thaw", id.as_str());
    let call = Call::new(Method::POST, &path).json(Bytes::from_static(b"{}"));
    if let Some(view) = ask_running(&config, call).await? {
        return Ok(view);
    }
    let standing = open(config)?.thaw(id).await.map_err(|error| other(&error))?;
    as_value(&ProviderView::new(id, standing, &SystemClock, Suspects::Named))
}

async fn show_from(config: Config, id: &ProviderId) -> Result<Value, Failure> {
    let path = format!("/v1/providers/{}", id.as_str());
    if let Some(view) = ask_running(&config, Call::new(Method::GET, &path)).await? {
        return Ok(view);
    }
    let view = provider(&open(config)?, &SystemClock, id, Suspects::Named).await;
    as_value(&view.map_err(|error| other(&error))?)
}

async fn show_all_from(config: Config) -> Result<Value, Failure> {
    if let Some(view) = ask_running(&config, Call::new(Method::GET, "/v1/providers")).await? {
        return Ok(view);
    }
    let views = providers(&open(config)?, &SystemClock, Suspects::Named).await.map_err(|error| other(&error))?;
    Ok(json!({ "providers": as_value(&views)? }))
}

fn provider_id(name: &str) -> Result<ProviderId, Failure> {
    ProviderId::parse(name).ok_or_else(|| Failure::Usage(format!("{name:?} is no name of a provider")))
}

fn as_value(view: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(view).map_err(|error| other(&error))
}

fn other(error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

/// One provider as a person reads it: what is nested is told in its own lines.
fn as_text(view: &Value) -> String {
    let mut flat = serde_json::Map::new();
    for (name, value) in view.as_object().into_iter().flatten() {
        match value {
            Value::Object(members) => {
                flat.extend(members.iter().map(|(member, value)| (format!("{name}.{member}"), value.clone())));
            }
            Value::Null if name == "freeze" => drop(flat.insert(name.clone(), "none".into())),
            _ => drop(flat.insert(name.clone(), value.clone())),
        }
    }
    as_table(&Value::Object(flat))
}
