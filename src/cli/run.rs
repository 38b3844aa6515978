//! `consentry run`: the proxy, until it is told to end.

use std::path::{Path, PathBuf};

use super::exit::Failure;
use super::{notify, reload, runtime, signals};
use crate::admin::Writes;
use crate::app::{App, StartError};
use crate::config::{Config, Faults, Files, LogFormat, LogSettings, Warning};
use crate::net::descriptors;
use crate::net::shutdown::Shutdown;
use crate::proxy::settings::Limits;
use crate::telemetry::logs::LineFormat;
use crate::telemetry::{hardening, logs, panic};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = Files::load(&arguments.config, |name| std::env::var(name).ok());
    let (files, mut config, warnings) = loaded.map_err(|faults| unusable(&arguments.config, &faults))?;
    prepare(&config.log)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    bound_connections(&mut config.proxy.limits);
    runtime()?.block_on(async {
        let shutdown = Shutdown::new();
        let app = App::start(config, Writes::Guarded, shutdown.clone()).await.map_err(|error| failed(&error))?;
        let at = app.addresses();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %arguments.config.display(),
            proxy = %at.proxy,
            health = %at.health,
            admin = at.admin.map(|bind| bind.to_string()),
            callback = at.callback.map(|bind| bind.to_string()),
            "Listening."
        );
        tokio::spawn(notify::tell(app.readiness(), shutdown.clone()));
        tokio::spawn(signals::listen(shutdown));
        tokio::spawn(reload::watch(files, app.replaceable(), app.metrics()));
        app.run().await;
        Ok(())
    })
}

/// Takes no more connections of apps than the process may open.
fn bound_connections(limits: &mut Limits) {
    let limit = descriptors::raise_limit();
    let possible = descriptors::connections(limits.max_connections, limit);
    if possible < limits.max_connections {
        tracing::warn!(
            open_files = limit,
            wanted = limits.max_connections,
            taken = possible,
            "The limit of open files (ulimit -n) is too low for proxy.limits.max_connections."
        );
        limits.max_connections = possible;
    }
}

/// What a process that serves does before anything else: its log, and what keeps secrets out of crashes.
pub(super) fn prepare(log: &LogSettings) -> Result<(), Failure> {
    let format = match log.format {
        LogFormat::Auto => LineFormat::Auto,
        LogFormat::Json => LineFormat::Json,
        LogFormat::Text => LineFormat::Text,
    };
    logs::init(format, &log.level, |name| std::env::var(name).ok()).map_err(|error| Failure::Config(chain(&error)))?;
    panic::install_hook();
    for refused in hardening::apply() {
        tracing::warn!(%refused, "This process could not be kept from dumping its memory.");
    }
    Ok(())
}

/// An error with its causes, as far as it does not tell of them itself.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = inner.source();
    }
    text
}

/// Reads the configuration, or says everything that is wrong with it.
pub(super) fn load(path: &Path) -> Result<(Config, Vec<Warning>), Failure> {
    let loaded = Config::load(path, |name| std::env::var(name).ok());
    loaded.map_err(|faults| unusable(path, &faults))
}

fn unusable(path: &Path, faults: &Faults) -> Failure {
    Failure::Config(format!("{} in {}", faults.to_string().trim_end(), path.display()))
}

/// The exit code for a program that did not start.
pub(super) fn failed(error: &StartError) -> Failure {
    if error.is_unavailable() { Failure::Unavailable(chain(error)) } else { Failure::Config(chain(error)) }
}
