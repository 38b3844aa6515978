//! `consentry run`: the proxy, until it is told to end.

use std::path::{Path, PathBuf};

use super::exit::Failure;
use super::{runtime, signals};
use crate::app::{App, StartError};
use crate::config::Config;
use crate::net::shutdown::Shutdown;
use crate::telemetry::{Telemetry, hardening, logs, panic};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    logs::init(&config.log);
    panic::install_hook();
    hardening::apply();
    for warning in &config.1 {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(async {
        let shutdown = Shutdown::new();
        let app = App::start(config.0, Telemetry::new(), shutdown.clone()).await.map_err(failed)?;
        let at = app.addresses();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %arguments.config.display(),
            proxy = %at.proxy,
            health = %at.health,
            admin = at.admin.map(|bind| bind.to_string()),
            "Listening."
        );
        tokio::spawn(signals::listen(shutdown));
        app.run().await;
        Ok(())
    })
}

/// Reads the configuration, or says everything that is wrong with it.
pub(super) fn load(path: &Path) -> Result<(Config, Vec<crate::config::Warning>), Failure> {
    Config::load(path, |name| std::env::var(name).ok()).map_err(|faults| Failure::Config(faults.to_string()))
}

/// The exit code for a program that did not start.
pub(super) fn failed(error: StartError) -> Failure {
    if error.is_unavailable() { Failure::Unavailable(error.to_string()) } else { Failure::Config(error.to_string()) }
}
