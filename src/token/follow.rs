//! Keeps the cache in step with the store's changes.
//!
//! What another replica commits is read again within milliseconds of its commit, so that the next call finds the new
//! token at hand. While changes do not arrive, nothing that is held counts as verified.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::ask::hold;
use super::flight::Cockpit;
use super::memory::Recollection;
use super::{Core, refused_by};
use crate::oauth::TokenEndpoint;
use crate::store::{Change, Store};
use crate::words::clock::Clock;
use crate::words::ids::{ProviderId, TokenKey, Version};

/// How many changes may wait to be looked at. When it is full the store's connection is not read, and a store that
/// gives up on us for that is a lost link, which is safe.
const BACKLOG: usize = 10_000;

pub(super) async fn run<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>) {
    let (sender, mut changes) = mpsc::channel(BACKLOG);
    let hear = async {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Connected => {
                    core.link.connected(core.clock.boot());
                    // Whoever began to listen meanwhile has not been told that nothing was heard.
                    core.news.blind();
                    core.metrics.store_connected.set(1);
                    tracing::info!("Changes arrive from the token store.");
                }
                Change::Lost => {
                    core.link.lost(core.clock.boot());
                    core.news.blind();
                    core.metrics.store_connected.set(0);
                    tracing::warn!("Changes no longer arrive from the token store. Tokens are checked before use.");
                }
                Change::Moved { key, version } => heard(core, key, version),
                Change::Happened(news) => core.news.happened(news),
            }
        }
    };
    tokio::join!(core.store.follow(sender), hear);
}

/// What news of a record leads to.
pub(super) fn heard<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, key: TokenKey, version: Version) {
    core.standings.moved(&key);
    // A flight under way looks after its own token; it is mostly the cause of the news.
    if !core.flights.nudge(&key, version)
        && let Some(provider) = core.cache.moved(&key, version)
    {
        read_again(core, key, &provider);
    }
}

/// Ends a flight. News that came too late for it is not lost with it.
pub(super) fn leave<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, key: TokenKey, cockpit: Cockpit) {
    let held = |version| core.cache.get(&key).is_some_and(|held| held.version == version);
    // News of what is held by now is mostly the flight's own.
    if let Some(version) = cockpit.leave().filter(|version| !held(*version)) {
        heard(core, key, version);
    }
}

/// Replaces what is held, unless a flight for it is under way and will do so itself.
fn read_again<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, key: TokenKey, provider: &ProviderId) {
    let flying = Arc::clone(core);
    let seat = core.flights.board(&key.clone(), provider, |cockpit| async move {
        let (epoch, asked) = (flying.link.epoch(), flying.clock.boot());
        let outcome = match flying.store.read(&key).await {
            Ok(Some(snapshot))
                if let Recollection::Behind(memory, shown) = flying.memories.learn(&key, &snapshot, asked) =>
            {
                // It stays marked as overtaken either way, and the next call asks for itself.
                if let Err(error) = flying.bring_back(&key, &memory, Some(shown)).await {
                    tracing::warn!(?key, %error, "What the store has forgotten could not be put back yet.");
                }
                Ok(())
            }
            Ok(Some(snapshot)) => match refused_by(snapshot.state) {
                None => hold(&flying, &cockpit, &key, &snapshot, asked, epoch),
                Some(refusal) => {
                    flying.cache.forget(&key);
                    Err(refusal)
                }
            },
            Ok(None) => {
                flying.cache.forget(&key);
                Ok(())
            }
            // It stays marked as overtaken, and the next call asks for itself.
            Err(_) => Ok(()),
        };
        cockpit.announce(outcome);
        leave(&flying, key, cockpit);
    });
    drop(seat);
}
