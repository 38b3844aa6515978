//! Another configuration for a process that runs: after a SIGHUP, or when a file has changed.
//!
//! The log says what is different and whether it is in use. A configuration that cannot be used changes nothing; what
//! it says is wrong with it is what `check` says.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::run::chain;
use crate::app::Replaceable;
use crate::config::{Files, Reloaded};
use crate::words::metrics::{KindLabels, Metrics};
use crate::words::pace::paced;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Reloads for as long as it is polled.
pub(super) async fn watch(mut files: Files, running: Replaceable, metrics: Metrics) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("SIGHUP cannot be listened to; the configuration is not reloaded.");
        return;
    };
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = sleep(paced(LOOK)) => false,
        };
        let looking = spawn_blocking(move || {
            let reloaded = (asked || files.have_changed()).then(|| files.reload(|name| std::env::var(name).ok()));
            (files, reloaded)
        });
        let Ok((seen, reloaded)) = looking.await else { return };
        files = seen;
        let Some(reloaded) = reloaded else { continue };
        let (kind, stale) = match reloaded {
            Ok(reloaded) => take_over(reloaded, &mut files, &running).await,
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(%fault, "The configuration is not reloaded, the old one goes on.");
                }
                REFUSED
            }
        };
        metrics.reloads.get_or_create(&KindLabels { kind }).inc();
        metrics.config_stale.set(i64::from(stale));
    }
}

/// What a reload came to, and whether the files say something that is not in use.
type Came = (&'static str, bool);
const REFUSED: Came = ("refused", true);

async fn take_over(reloaded: Reloaded, files: &mut Files, running: &Replaceable) -> Came {
    let Reloaded { config, warnings, changes, waits, files: read } = reloaded;
    if let Err(error) = running.replace(config.proxy, config.renewals).await {
        tracing::error!(error = chain(&error), "The configuration is not reloaded, the old one goes on.");
        return REFUSED;
    }
    files.take_over(read);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    for change in &changes {
        if change.is_taken_over() {
            tracing::info!(%change, "Another configuration is in use.");
        } else {
            tracing::warn!(%change, "This takes effect at the next start.");
        }
    }
    if changes.is_empty() {
        tracing::info!("The configuration was read again, and says what it said before.");
    }
    (if waits { "in_part" } else { "taken_over" }, waits)
}
