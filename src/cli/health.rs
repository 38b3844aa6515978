//! `consentry health` and `consentry wait`: whether the process that runs with a configuration is ready, for probes, for
//! an app that must not start before it, and for people.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};

use super::call::{Call, CallError};
use super::exit::Failure;
use super::run::load;
use super::{out, runtime};
use crate::net::serve::Bind;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=86_400))]
    timeout: u32,
}

/// Says how it stands, and fails unless it is ready.
pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let (config, _) = load(&arguments.config)?;
    let told = runtime()?.block_on(ask(&config.health.bind, "/readyz?verbose", PATIENCE));
    let told = told.map_err(|error| Failure::Unavailable(error.to_string()))?;
    if json {
        out::say_json(&serde_json::json!({ "ready": told.ready, "told": told.text }));
    } else {
        out::say(&told.text);
    }
    if told.ready { Ok(()) } else { Err(Failure::Unavailable("it is not ready".to_owned())) }
}

/// Returns when it is ready.
pub(super) fn wait(arguments: &Wait) -> Result<(), Failure> {
    let (config, _) = load(&arguments.config)?;
    let patience = Duration::from_secs(arguments.timeout.into());
    runtime()?.block_on(until_ready(&config.health.bind, patience))
}

async fn until_ready(bind: &Bind, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let missing = match ask(bind, "/readyz", left.clamp(SHORTEST, PATIENCE)).await {
            Ok(told) if told.ready => return Ok(()),
            Ok(told) => told.text,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(Failure::Unavailable(format!("it was not ready within {} s: {missing}", patience.as_secs())));
        }
        sleep(PAUSE).await;
    }
}

/// What the health listener says.
struct Told {
    ready: bool,
    text: String,
}

async fn ask(bind: &Bind, path: &str, patience: Duration) -> Result<Told, CallError> {
    let answer = Call::new(Method::GET, path).within(patience).send(bind).await?;
    Ok(Told { ready: answer.status.is_success(), text: answer.text().trim_end().to_owned() })
}

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(100);
