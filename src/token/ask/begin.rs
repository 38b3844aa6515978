//! One BEGIN, and what follows from its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Errand, Round, Urgency, hold, wanted};
use crate::oauth::TokenEndpoint;
use crate::store::{Begin, BeginOutcome, FailTo, Grace, Snapshot, Store, StoreError, Waiting};
use crate::token::cache::Held;
use crate::token::flight::{Cockpit, Outcome};
use crate::token::memory::Recollection;
use crate::token::permit::Withheld;
use crate::token::refresh::{MISCONFIGURED, NO_REFRESH_TOKEN, Refresh, UNREADABLE};
use crate::token::timing::min_ttl;
use crate::token::{Core, TokenError, refused_by, storeless};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{AttemptId, GrantId};
use crate::words::said::Said;

/// Asks the store as `attempt`, with a permit that was stood in line for or without.
pub(super) async fn ask_as<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
    attempt: AttemptId,
    permit: &mut Option<AttemptId>,
) -> Round {
    let Some(provider) = core.providers.get(&errand.provider) else { return Round::Land(Err(TokenError::Unknown)) };
    let held = core.cache.get(&errand.key);
    let begin = Begin {
        attempt: attempt.clone(),
        provider: errand.provider.clone(),
        wanted: wanted(errand, held.as_deref()),
        rejected: errand.rejected,
        rejection_pause: core.timing.rejection_pause,
        lease: core.timing.lease,
        quarantine: core.timing.quarantine,
        grace: provider.behaviour.reuse_grace.map(|window| Grace { window, pause: core.timing.grace_pause(window) }),
        create: errand.client.is_some().then(GrantId::random),
    };
    let epoch = core.link.epoch();
    let (asked, started) = (core.clock.boot(), Instant::now());
    let answered = core.store.begin(&errand.key, &begin).await;
    match core.put_back(errand, answered.as_ref().ok(), asked).await {
        Ok(false) => {}
        Ok(true) => return Round::Again(Duration::ZERO),
        Err(error) => return Round::Land(store_failed(core, errand, &attempt, error).await),
    }
    match answered {
        Err(StoreError::Reuniting) if errand.client.is_none() => Round::Shut,
        Err(error) => Round::Land(store_failed(core, errand, &attempt, error).await),
        Ok(BeginOutcome::Unknown) => {
            core.cache.forget_at(&errand.key, &errand.provider);
            Round::Land(Err(TokenError::Unknown))
        }
        Ok(BeginOutcome::Refused(snapshot)) => {
            core.cache.forget(&errand.key);
            Round::Land(refused_by(snapshot.state).map_or(Err(TokenError::WaitTimeout), Err))
        }
        Ok(BeginOutcome::Fresh(snapshot)) if is_about_to_end(&snapshot) => Round::Land(Err(TokenError::Expired)),
        Ok(BeginOutcome::Fresh(snapshot)) => {
            let outcome = hold(core, cockpit, &errand.key, &snapshot, asked, epoch);
            // Whoever asked for another reason has not answered a rejection.
            let refused = held.filter(|held| errand.rejected.is_none() && held.rejected.load(Ordering::Acquire));
            if let Some(refused) = refused {
                core.cache.reject(&errand.key, refused.version);
            }
            Round::Land(outcome)
        }
        Ok(BeginOutcome::Wait(Waiting::Backoff, _, snapshot)) if is_all_there_is(errand, &snapshot) => {
            Round::Land(hold(core, cockpit, &errand.key, &snapshot, asked, epoch))
        }
        Ok(BeginOutcome::Wait(waiting, wait, snapshot)) => {
            core.cache.displace(&errand.key, snapshot.version);
            if let Some(held) = held {
                held.rest_until(asked.plus(wait.min(QUIET_REST)));
            }
            waited(errand, waiting, wait, &snapshot)
        }
        Ok(BeginOutcome::Granted(lease, snapshot)) => {
            core.cache.displace(&errand.key, snapshot.version);
            if let Some(uncertain_for) = snapshot.uncertain_for.filter(|_| lease.probe) {
                core.metrics.quarantine_seconds.observe(uncertain_for.as_secs_f64());
            }
            let said = Said::default();
            let spent = core.spendings.begin(&errand.key, &attempt, lease.base, lease.fence);
            let refresh =
                Refresh { core, errand, cockpit, attempt, lease, spent, snapshot, asked, epoch, began: started, said };
            // After an outage whoever has an answer gets to tell the store before anybody asks the bank again.
            if let Some(rest) = refresh.too_early_to_probe() {
                refresh.report(FailTo::Released, "settling").await;
                return waited(errand, Waiting::Quarantine, rest, &refresh.snapshot);
            }
            // What all replicas together ask a provider is bounded. Whoever has to queue lets go of the lease first.
            if permit.take().is_none() {
                let asked_for = if provider.queue.is_empty() {
                    core.permit(errand, provider.limits, &refresh.attempt).await
                } else {
                    Err(Withheld::Full(Duration::ZERO))
                };
                if let Err(withheld) = asked_for {
                    return without_permit(refresh, held.as_deref(), withheld).await;
                }
            }
            refresh.run(&provider.endpoint).await
        }
    }
}

/// Lets go of a lease that may not be used, and says what the flight is to do instead. A refresh that nobody waits for
/// ends.
async fn without_permit<S: Store, E: TokenEndpoint, C: Clock>(
    refresh: Refresh<'_, S, E, C>,
    held: Option<&Held>,
    withheld: Withheld,
) -> Round {
    let (core, errand) = (refresh.core, refresh.errand);
    let is_quiet = errand.urgency == Urgency::Quiet;
    let rest = |wait: Duration| {
        if let Some(held) = held {
            held.rest_until(refresh.asked.plus(wait.min(QUIET_REST)));
        }
    };
    match withheld {
        Withheld::Full(wait) => {
            refresh.report(FailTo::Released, "queued").await;
            if is_quiet {
                rest(wait);
                return Round::Land(Ok(()));
            }
            Round::Queue(refresh.asked.plus(refresh.snapshot.remaining))
        }
        Withheld::Shut(error) => {
            rest(error.retry_after().unwrap_or(QUIET_REST));
            let why = if matches!(error, TokenError::Frozen { .. }) { "provider_frozen" } else { "breaker_open" };
            refresh.end(FailTo::Released, why, if is_quiet { Ok(()) } else { Err(error) }).await
        }
        // Without the store's word nothing is sent. Only a client token can be had without the store.
        Withheld::Store(error) if errand.client.is_some() => {
            refresh.report_once(FailTo::Released, "no_permit").await;
            Round::Land(store_failed(core, errand, &refresh.attempt, error).await)
        }
        Withheld::Store(error) => {
            tracing::warn!(key = ?errand.key, %error, "The store did not say whether the bank may be asked.");
            core.link.store_is_away(core.clock.boot(), core.timing.store_pause);
            refresh.end(FailTo::Released, "no_permit", Err(TokenError::StoreUnavailable)).await
        }
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Compares what a BEGIN shows with what is remembered. Where the store shows less, it is put back, and BEGIN has to be
    /// asked again: `true`.
    async fn put_back(
        self: &Arc<Self>,
        errand: &Errand,
        begun: Option<&BeginOutcome>,
        asked: BootInstant,
    ) -> Result<bool, StoreError> {
        let memory = match begun {
            Some(BeginOutcome::Unknown) => self.memories.of_missing(&errand.key, &errand.provider).map(|it| (it, None)),
            Some(
                BeginOutcome::Refused(snapshot)
                | BeginOutcome::Fresh(snapshot)
                | BeginOutcome::Wait(_, _, snapshot)
                | BeginOutcome::Granted(_, snapshot),
            ) => match self.memories.learn(&errand.key, snapshot, asked) {
                Recollection::Behind(memory, shown) => Some((memory, Some(shown))),
                Recollection::Current => None,
            },
            None => None,
        };
        match memory {
            Some((memory, shown)) => self.bring_back(&errand.key, &memory, shown).await.map(|()| true),
            None => Ok(false),
        }
    }
}

/// Whether the bank's API refused a token that nothing can replace: then nothing can be done about it.
fn is_all_there_is(errand: &Errand, snapshot: &Snapshot) -> bool {
    errand.client.is_none()
        && errand.rejected == Some(snapshot.version)
        && snapshot.refresh.is_none()
        && snapshot.remaining > min_ttl(snapshot.life)
}

/// Whether the consent itself ends before its token may be used again.
fn is_about_to_end(snapshot: &Snapshot) -> bool {
    snapshot.consent_remaining.is_some_and(|rest| rest <= min_ttl(snapshot.life))
}

fn waited(errand: &Errand, waiting: Waiting, wait: Duration, snapshot: &Snapshot) -> Round {
    if errand.urgency == Urgency::Quiet {
        return Round::Land(Ok(()));
    }
    match waiting {
        Waiting::Busy => Round::Again(wait.max(Duration::from_millis(1))),
        // A bank's grace is short, and so is the pause in it.
        Waiting::Quarantine if wait <= errand.patience.min(SHORT_PAUSE) => {
            Round::Again(wait.max(Duration::from_millis(1)))
        }
        Waiting::Quarantine | Waiting::Hold => Round::Land(Err(TokenError::Uncertain { retry_after: wait })),
        Waiting::Backoff => {
            let why = snapshot.why.clone().unwrap_or_else(|| "unknown".to_owned());
            Round::Land(Err(if why == NO_REFRESH_TOKEN {
                TokenError::ReauthorizationRequired
            } else if MISCONFIGURED.contains(&why.as_str()) {
                TokenError::Misconfigured { why }
            } else if why == UNREADABLE {
                TokenError::Unreadable { why: "the refresh token does not open with the keys at hand".to_owned() }
            } else {
                TokenError::EndpointUnavailable { why, retry_after: wait }
            }))
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
        StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting => {
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

/// A quarantine with no more left than this is sat out.
const SHORT_PAUSE: Duration = Duration::from_secs(5);
/// How long a token that still serves is left alone at most, once the store has said that there is something to wait for.
const QUIET_REST: Duration = Duration::from_secs(5);
