//! A flight's rounds with the store: ask, and do what it says.
//!
//! BEGIN answers with one of few things: the token is fresh after all, somebody else is on it, something has to be waited
//! for, or this process may refresh (`refresh`). A flight goes round until it has an outcome or its
//! patience is over; news from the store wakes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::cache::Held;
use super::flight::{Cockpit, Outcome};
use super::refresh::{MISCONFIGURED, Refresh, UNREADABLE};
use super::timing::{jittered, min_ttl};
use super::{ClientGrant, Core, TokenError, VaultError, refused_by, storeless};
use crate::oauth::TokenEndpoint;
use crate::store::{Begin, BeginOutcome, FailTo, Snapshot, Store, StoreError, Waiting};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{AttemptId, GrantId, ProviderId, TokenKey, Version};

/// What a flight is for.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) key: TokenKey,
    pub(super) provider: ProviderId,
    pub(super) client: Option<Arc<ClientGrant>>,
    pub(super) urgency: Urgency,
    /// The version that the bank's API refused.
    pub(super) rejected: Option<Version>,
    /// How long it is worth waiting for another holder of the lease.
    pub(super) patience: Duration,
}

/// Whether somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A request has no token.
    Waiting,
    /// The token at hand still serves.
    Quiet,
}

/// What one round of asking the store led to.
pub(super) enum Round {
    /// The flight is over, with this to tell.
    Land(Outcome),
    /// Ask again, after so long or when the store tells of a change.
    Again(Duration),
    /// Ask again once the provider has room for one more token request.
    Queue(Arc<Semaphore>),
}

/// Flies `errand` and tells those who wait through `cockpit`.
pub(super) async fn fly<S: Store, E: TokenEndpoint, C: Clock>(
    core: Arc<Core<S, E, C>>,
    errand: Errand,
    cockpit: Cockpit,
) {
    let started = Instant::now();
    let mut pause = FIRST_POLL;
    let mut permit = None;
    if let Some(error) = does_not_open(&core, &errand).await {
        tracing::error!(key = ?errand.key, %error, "A stored refresh token cannot be opened. The record is left as it is.");
        return cockpit.announce(Err(TokenError::Unreadable { why: error.to_string() }));
    }
    loop {
        match ask_once(&core, &errand, &cockpit, permit.take()).await {
            Round::Land(outcome) => return cockpit.announce(outcome),
            Round::Again(at_most) => {
                if started.elapsed() >= errand.patience {
                    return cockpit.announce(Err(TokenError::WaitTimeout));
                }
                // News from the store is a hint that may get lost, so the wait also ends by itself, sooner at first.
                let _ = timeout(at_most.min(jittered(pause)), cockpit.nudged()).await;
                pause = (pause * 2).min(LAST_POLL);
            }
            Round::Queue(permits) => {
                let left = errand.patience.saturating_sub(started.elapsed());
                match timeout(left, permits.acquire_owned()).await {
                    Ok(Ok(room)) => permit = Some(room),
                    Ok(Err(_)) | Err(_) => return cockpit.announce(Err(TokenError::Overloaded)),
                }
            }
        }
    }
}

/// Why the refresh token that this flight would spend cannot be had. A lease would leave its marks in a record that belongs
/// to somebody else's key, so that is found out before one is asked for. What is held was opened here already.
async fn does_not_open<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
) -> Option<VaultError> {
    if errand.client.is_some() || core.cache.get(&errand.key).is_some() {
        return None;
    }
    // A store that does not answer says so to BEGIN, too.
    let snapshot = core.store.read(&errand.key).await.ok().flatten()?;
    let is_spent = snapshot.provider == errand.provider && snapshot.remaining < wanted(errand, None);
    let sealed = snapshot.refresh.as_ref().filter(|_| is_spent)?;
    core.vault.open_refresh(&errand.key, &snapshot, snapshot.version, sealed).err()
}

pub(super) const FIRST_POLL: Duration = Duration::from_millis(25);
const LAST_POLL: Duration = Duration::from_millis(250);

async fn ask_once<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
    permit: Option<OwnedSemaphorePermit>,
) -> Round {
    let Some(provider) = core.providers.get(&errand.provider) else { return Round::Land(Err(TokenError::Unknown)) };
    let attempt = core.next_attempt();
    let held = core.cache.get(&errand.key);
    let begin = Begin {
        attempt: attempt.clone(),
        provider: errand.provider.clone(),
        wanted: wanted(errand, held.as_deref()),
        rejected: errand.rejected,
        rejection_pause: core.timing.rejection_pause,
        lease: core.timing.lease,
        quarantine: core.timing.quarantine,
        hold: provider.behaviour.reuse_grace.is_none(),
        create: errand.client.is_some().then(GrantId::random),
    };
    let epoch = core.link.epoch();
    let asked = core.clock.boot();
    match core.store.begin(&errand.key, &begin).await {
        Err(error) => Round::Land(store_failed(core, errand, &attempt, error).await),
        Ok(BeginOutcome::Unknown) => {
            core.cache.forget(&errand.key);
            Round::Land(Err(TokenError::Unknown))
        }
        Ok(BeginOutcome::Refused(snapshot)) => {
            core.cache.forget(&errand.key);
            Round::Land(refused_by(snapshot.state).map_or(Err(TokenError::WaitTimeout), Err))
        }
        Ok(BeginOutcome::Fresh(snapshot)) => Round::Land(hold(core, cockpit, &errand.key, &snapshot, asked, epoch)),
        Ok(BeginOutcome::Wait(waiting, wait, snapshot)) => waited(errand, waiting, wait, &snapshot),
        Ok(BeginOutcome::Granted(lease, snapshot)) => {
            let refresh = Refresh { core, errand, cockpit, attempt, lease, snapshot, asked };
            // A provider is asked a bounded number of things at once. Whoever has to queue lets go of the lease first.
            let Some(room) = permit.or_else(|| Arc::clone(&provider.permits).try_acquire_owned().ok()) else {
                refresh.report(FailTo::Released, "queued").await;
                return Round::Queue(Arc::clone(&provider.permits));
            };
            refresh.run(&provider.endpoint, room).await
        }
    }
}

/// How much life makes a new token unnecessary.
fn wanted(errand: &Errand, held: Option<&Held>) -> Duration {
    match (errand.urgency, held) {
        (Urgency::Quiet, Some(held)) => held.soft_window,
        // Of a token that is not known yet, the least that any token is served with.
        (Urgency::Waiting, Some(held)) => min_ttl(held.life),
        (_, None) => Duration::from_millis(1),
    }
}

fn waited(errand: &Errand, waiting: Waiting, wait: Duration, snapshot: &Snapshot) -> Round {
    if errand.urgency == Urgency::Quiet {
        return Round::Land(Ok(()));
    }
    match waiting {
        Waiting::Busy => Round::Again(wait.max(Duration::from_millis(1))),
        Waiting::Quarantine | Waiting::Hold => Round::Land(Err(TokenError::Uncertain { retry_after: wait })),
        Waiting::Backoff => {
            let why = snapshot.why.clone().unwrap_or_else(|| "unknown".to_owned());
            Round::Land(Err(if MISCONFIGURED.contains(&why.as_str()) {
                TokenError::Misconfigured { why }
            } else if why == UNREADABLE {
                TokenError::Unreadable { why: "the refresh token does not open with the keys at hand".to_owned() }
            } else {
                TokenError::EndpointUnavailable { why, retry_after: wait }
            }))
        }
    }
}

/// Puts a snapshot's token into the cache. What moved on while the snapshot was on its way is marked as overtaken.
pub(super) fn hold<S: Store, E: TokenEndpoint, C: Clock>(
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
pub(super) fn hold_unseen<S: Store, E: TokenEndpoint, C: Clock>(
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

async fn store_failed<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    attempt: &AttemptId,
    error: StoreError,
) -> Outcome {
    core.count_store_error("begin");
    match error {
        StoreError::Unreadable(why) => {
            tracing::error!(key = ?errand.key, error = why, "A stored record cannot be read. It is left as it is.");
            Err(TokenError::Unreadable { why })
        }
        StoreError::Unavailable(_) | StoreError::Refused(_) => {
            tracing::warn!(key = ?errand.key, %error, "The token store did not answer.");
            core.link.store_is_away(core.clock.boot(), core.timing.store_pause);
            match &errand.client {
                // A client token can be had twice without harm, so a store that is away need not stop it.
                Some(client) => storeless::client_token(core, errand, client, attempt).await,
                None => Err(TokenError::StoreUnavailable),
            }
        }
    }
}
