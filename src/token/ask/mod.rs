//! A flight's rounds with the store: ask, and do what it says.
//!
//! BEGIN answers with one of few things: the token is fresh after all, somebody else is on it, something has to be waited
//! for, or this process may refresh (`begin`; then `refresh`). A flight goes round until it has an outcome or its
//! patience is over; news from the store wakes it. `hold` is how a stored token comes to be at hand.

mod begin;
mod hold;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub(super) use hold::{hold, hold_unseen};

use super::cache::Held;
use super::flight::{Cockpit, Outcome};
use super::memory::Recollection;
use super::timing::{jittered, min_ttl};
use super::{ClientGrant, Core, TokenError, follow};
use crate::oauth::TokenEndpoint;
use crate::store::{Lesson, RecordState, Store};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{AttemptId, ProviderId, TokenKey, Version};

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
    /// The store came back and grants nothing yet. Ask again in a moment.
    Shut,
    /// Ask again once the provider has room for one more token request. The token at hand ends at this time.
    Queue(BootInstant),
}

/// Flies `errand` and tells those who wait through `cockpit`.
pub(super) async fn fly<S: Store, E: TokenEndpoint, C: Clock>(
    core: Arc<Core<S, E, C>>,
    errand: Errand,
    cockpit: Cockpit,
) {
    let outcome = go_round(&core, &errand, &cockpit).await;
    cockpit.announce(outcome);
    follow::leave(&core, errand.key, cockpit);
}

async fn go_round<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
) -> Outcome {
    let started = Instant::now();
    let mut waited = Duration::ZERO;
    let mut pause = FIRST_POLL;
    let mut permit = None;
    let mut seen = look(core, errand, cockpit).await;
    loop {
        let round = match seen.take() {
            Some(round) => round,
            None => ask_once(core, errand, cockpit, permit.take()).await,
        };
        match round {
            Round::Land(outcome) => {
                if !waited.is_zero() {
                    core.metrics.lease_wait_seconds.observe(waited.as_secs_f64());
                }
                return outcome;
            }
            Round::Again(at_most) => {
                if started.elapsed() >= errand.patience {
                    core.metrics.lease_wait_seconds.observe(waited.as_secs_f64());
                    return Err(TokenError::WaitTimeout);
                }
                // News from the store is a hint that may get lost, so the wait also ends by itself, sooner at first.
                let waiting = Instant::now();
                let _ = timeout(at_most.min(jittered(pause)), cockpit.nudged()).await;
                waited += waiting.elapsed();
                pause = (pause * 2).min(LAST_POLL);
            }
            Round::Shut if started.elapsed() >= errand.patience => return Err(TokenError::StoreUnavailable),
            Round::Shut => sleep(jittered(LAST_POLL)).await,
            Round::Queue(expires_at) => {
                permit = core.queue(errand, cockpit, expires_at, started + errand.patience).await?;
                if permit.is_none() {
                    seen = look(core, errand, cockpit).await;
                }
            }
        }
    }
}

/// A look at a record of which nothing is held, before anything is asked of it. A token with life left is all that most
/// flights want, and costs this one round trip. And a record whose tokens do not open belongs to somebody else's key: a
/// lease would leave its marks in it, so it is not asked for. `None`: BEGIN has to say more.
///
/// Where others stand in line for the provider already, a refresh that will have to stand there joins them right away:
/// a lease would only be given back. One that nobody waits for ends. News ends the wait of a record that others move, so
/// without news BEGIN is asked, which tells whether they are on it.
async fn look<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
) -> Option<Round> {
    let held = core.cache.get(&errand.key);
    let has_line = || core.providers.get(&errand.provider).is_some_and(|provider| !provider.queue.is_empty());
    if errand.urgency == Urgency::Quiet && has_line() {
        // Not a good word: it would vouch for what is held, and the store was not asked.
        return Some(Round::Land(Err(TokenError::Overloaded)));
    }
    let (epoch, asked) = (core.link.epoch(), core.clock.boot());
    let may_wait = |held: &Held| held.remaining(asked) <= wanted(errand, Some(held)) && has_line();
    if errand.rejected.is_some() || held.as_deref().is_some_and(|held| !may_wait(held)) {
        return None;
    }
    // A store that does not answer says so to BEGIN, too.
    let snapshot = core.store.read(&errand.key).await.ok().flatten()?;
    // BEGIN shows the same, and puts back what is remembered.
    if let Recollection::Behind(..) = core.memories.learn(&errand.key, &snapshot, asked) {
        return None;
    }
    if snapshot.provider != errand.provider || !snapshot.state.is_usable() {
        return None;
    }
    if snapshot.remaining > wanted(errand, held.as_deref()) {
        let landed = held.is_none().then(|| hold(core, cockpit, &errand.key, &snapshot, asked, epoch));
        return landed.map(Round::Land);
    }
    let sealed = snapshot.refresh.as_ref()?;
    if let Err(error) = core.vault.open_refresh(&errand.key, &snapshot, snapshot.version, sealed) {
        tracing::error!(key = ?errand.key, %error, "A stored refresh token cannot be opened. The record is left as it is.");
        return Some(Round::Land(Err(TokenError::Unreadable { why: error.to_string() })));
    }
    let only_waits = snapshot.state == RecordState::Active && snapshot.backoff.is_zero() && core.link.is_up();
    (only_waits && has_line()).then(|| Round::Queue(asked.plus(snapshot.remaining)))
}

/// One round. A permit that was stood in line for is used or given back.
async fn ask_once<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
    permit: Option<AttemptId>,
) -> Round {
    let attempt = permit.clone().unwrap_or_else(|| core.next_attempt());
    let mut unused = permit;
    let round = begin::ask_as(core, errand, cockpit, attempt, &mut unused).await;
    if let Some(unused) = unused {
        if let Round::Land(outcome) = &round {
            cockpit.announce(outcome.clone());
        }
        core.give_back(errand, &unused, Lesson::Unused).await;
    }
    round
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

pub(super) const FIRST_POLL: Duration = Duration::from_millis(25);
const LAST_POLL: Duration = Duration::from_millis(250);
