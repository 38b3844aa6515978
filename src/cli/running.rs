//! Asking the process that runs with a configuration, or standing in for it where none runs.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::Value;
use zeroize::Zeroizing;

use super::call::{Answer, Call, CallError};
use super::exit::Failure;
use super::run::failed;
use crate::app::{self, AppTokens};
use crate::config::Config;
use crate::telemetry::registry;

/// Asks the process that runs with this configuration; `None` if none does.
pub(super) async fn ask_running(config: &Config, call: Call<'_>) -> Result<Option<Value>, Failure> {
    match call_running(config, call).await? {
        Some(answer) if answer.status.is_success() => Ok(Some(answer.json())),
        Some(answer) => Err(refused(&answer)),
        None => Ok(None),
    }
}

/// The same, for whoever looks at the status.
pub(super) async fn call_running(config: &Config, mut call: Call<'_>) -> Result<Option<Answer>, Failure> {
    let Some(admin) = &config.admin else { return Ok(None) };
    if let Some(key) = &admin.key {
        let line = Zeroizing::new(format!("Bearer {}", key.expose()));
        let mut value = HeaderValue::from_str(&line)
            .map_err(|_| Failure::Config("admin.key: it holds a character that a header cannot carry".to_owned()))?;
        value.set_sensitive(true);
        call.headers.insert(AUTHORIZATION, value);
    }
    match call.send(&admin.bind).await {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::NotRunning(_)) => Ok(None),
        Err(error @ CallError::Failed(..)) => Err(Failure::Unavailable(error.to_string())),
    }
}

/// What the process says instead of doing it.
pub(super) fn refused(answer: &Answer) -> Failure {
    let told = answer.json();
    let detail = told["detail"].as_str().or_else(|| told["title"].as_str());
    Failure::Other(format!("{} ({})", detail.unwrap_or("refused"), answer.status.as_u16()))
}

/// The parts of a process that does not run, to work on the store itself.
pub(super) fn open(config: Config) -> Result<AppTokens, Failure> {
    let (_, metrics) = registry();
    app::tokens(config.store, config.tokens, config.registrations, config.replica, None, metrics)
        .map_err(|error| failed(&error))
}

/// One member a line, those that say nothing left out.
pub(super) fn as_table(view: &Value) -> String {
    let members = view.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let width = view.as_object().into_iter().flatten().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name:width$}  {text}")
    };
    members.map(line).collect::<Vec<_>>().join("\n")
}
