//! How a stored token comes to be at hand.

use std::sync::Arc;

use crate::oauth::TokenEndpoint;
use crate::store::{Snapshot, Store};
use crate::token::flight::{Cockpit, Outcome};
use crate::token::{Core, TokenError};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::TokenKey;

/// Puts a snapshot's token into the cache. What moved on while the snapshot was on its way is marked as overtaken.
pub(in crate::token) fn hold<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    cockpit: &Cockpit,
    key: &TokenKey,
    snapshot: &Snapshot,
    asked: BootInstant,
    epoch: u64,
) -> Outcome {
    let outcome = hold_unseen(core, key, snapshot, asked, epoch);
    if cockpit.is_overtaken(snapshot.version) {
        core.cache.overtake(key, snapshot.version);
    }
    outcome
}

/// [`hold`] for a snapshot that the store knows nothing of.
pub(in crate::token) fn hold_unseen<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    key: &TokenKey,
    snapshot: &Snapshot,
    asked: BootInstant,
    epoch: u64,
) -> Outcome {
    let held = core.vault.open_snapshot(key, snapshot).and_then(|access| {
        let life_left = snapshot.consent_remaining.map_or(snapshot.remaining, |rest| rest.min(snapshot.remaining));
        core.make_held(snapshot, &access, asked.plus(life_left), snapshot.life, epoch)
    });
    match held {
        Ok(held) => {
            core.cache.put(key, Arc::new(held));
            core.metrics.tokens_cached.set(i64::try_from(core.cache.len()).unwrap_or(i64::MAX));
            Ok(())
        }
        Err(error) => {
            tracing::error!(?key, %error, "A stored token cannot be opened. The record is left as it is.");
            Err(TokenError::Unreadable { why: error.to_string() })
        }
    }
}
