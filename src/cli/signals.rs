//! Ctrl-C and SIGTERM: once to end softly, twice to end at once.

use tokio::signal::unix::{SignalKind, signal};

use crate::net::shutdown::Shutdown;

/// Begins the shutdown at the first signal and forces it at the second.
pub(super) async fn listen(shutdown: Shutdown) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("Signals cannot be listened to; the process ends only by being killed.");
        return;
    };
    for stage in 0..2 {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if stage == 0 {
            shutdown.begin();
        } else {
            shutdown.force();
        }
    }
}
