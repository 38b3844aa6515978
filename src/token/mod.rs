//! A valid access token for a consent, or for our own client.
//!
//! [`Tokens::token`] is the whole story from a caller's side: look at what is held, `decide`, and mostly serve it.
//! Otherwise join the one `flight` for this token, which asks the store (`ask`) and, if the store grants it the
//! right, refreshes (`refresh`: arm, spend once; `keep`: spill and commit). `known` is what is known of a consent without
//! a token of it. [`timing`] holds the protocol's constants, `follow` keeps the cache in step with the store, `recover`
//! replays at start what an earlier process could not commit. `grant` keeps what a customer has just consented to, and
//! `disown` revokes what came too late; `under_way` is how long an answer took. `standing` is how providers stand, and how they are frozen. What became of a token
//! is told in [`TokenError`].

mod ask;
mod cache;
mod decide;
mod disown;
mod error;
mod fault;
mod flight;
mod follow;
mod grant;
mod keep;
mod known;
mod loss;
mod memory;
mod news;
mod permit;
mod queue;
mod recover;
mod refresh;
mod reunion;
mod setback;
pub mod settings;
mod spending;
mod standing;
mod storeless;
#[cfg(test)]
mod tests;
pub mod timing;
mod under_way;
mod vault;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use cache::Held;
pub use error::TokenError;
pub use grant::{Given, Kept};
pub use news::{Listening, Told};
pub use recover::Replay;
pub use standing::StandingError;
pub use under_way::{UnderWay, timed};
pub use vault::{Vault, VaultError};

use crate::oauth::TokenEndpoint;
use crate::store::spill::SpillDirectory;
use crate::store::{End, Limits, RecordState, Store, StoreError};
use crate::token::ask::{Errand, Urgency};
use crate::token::cache::{Cache, Link, Standings};
use crate::token::decide::{Decision, decide};
use crate::token::flight::{Flights, Landing};
use crate::token::memory::Memories;
use crate::token::queue::Queue;
use crate::token::spending::Spendings;

use crate::token::settings::TokenSettings;
use crate::token::timing::Timing;
use crate::words::bank::BankBehaviour;
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, ConsentId, ProviderId, TokenKey, Version, hex, random};
use crate::words::metrics::{KindLabels, Metrics, ProviderLabels};
use crate::words::token_set::Scope;

/// Valid access tokens. Cheap to clone; all clones share one cache and one set of flights.
#[derive(Debug)]
pub struct Tokens<S, E, C> {
    core: Arc<Core<S, E, C>>,
}

impl<S, E, C> Clone for Tokens<S, E, C> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

/// Which token a call needs.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The consent, or our own client.
    pub key: &'a TokenKey,
    /// Where it must have been granted.
    pub provider: &'a ProviderId,
    /// For a client token: what to ask the token endpoint for.
    pub client: Option<&'a Arc<ClientGrant>>,
    /// How long the call can wait.
    pub wait: Duration,
}

/// What a client-credentials token is asked for (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientGrant {
    /// Which API the token is for.
    pub audience: Option<String>,
    /// What it is for.
    pub scope: Option<Scope>,
}

/// What [`Tokens::new`] puts together.
#[derive(Debug)]
pub struct Parts<S, E, C> {
    /// Where the records are.
    pub store: S,
    /// Where the time comes from.
    pub clock: C,
    /// The token endpoint of every provider.
    pub endpoints: BTreeMap<ProviderId, E>,
    /// Seals and opens.
    pub vault: Vault,
    /// Where replies are kept that the store has not acknowledged.
    pub spill: Option<SpillDirectory>,
    /// Whether a refresh may happen while the spill cannot be written.
    pub spill_required: bool,
    /// What the operator says.
    pub settings: TokenSettings,
    /// The protocol's constants.
    pub timing: Timing,
    /// Counts.
    pub metrics: Metrics,
    /// This process's name in leases.
    pub replica: String,
}

#[derive(Debug)]
struct Core<S, E, C> {
    store: S,
    clock: C,
    vault: Vault,
    spill: Option<SpillDirectory>,
    spill_required: bool,
    providers: BTreeMap<ProviderId, Provider<E>>,
    cache: Cache,
    standings: Standings,
    memories: Memories,
    spendings: Spendings,
    frozen: standing::Frozen,
    news: news::Newsroom,
    link: Link,
    flights: Flights,
    timing: Timing,
    metrics: Metrics,
    /// How often each [`Decision`] was taken, looked up once.
    lookups: [Counter; 4],
    process: String,
    attempts: AtomicU64,
}

#[derive(Debug)]
struct Provider<E> {
    behaviour: BankBehaviour,
    endpoint: E,
    limits: Limits,
    queue: Arc<Queue>,
    /// Token requests of this process at once while the store is away.
    alone: Arc<Semaphore>,
}

/// How often one call goes back to look again after a flight, before it is told that its time is up.
const ROUNDS: usize = 8;

impl<S: Store, E: TokenEndpoint, C: Clock> Tokens<S, E, C> {
    /// Puts the parts together. A provider without an endpoint, or the other way round, is left out.
    pub fn new(parts: Parts<S, E, C>) -> Self {
        let mut endpoints = parts.endpoints;
        loss::begin_counting(&parts.metrics, parts.settings.providers.keys());
        let providers = parts.settings.providers.into_iter().filter_map(|(id, settings)| {
            let endpoint = endpoints.remove(&id)?;
            let labels = ProviderLabels { provider: id.as_str().to_owned() };
            drop(parts.metrics.provider_state.get_or_create(&labels));
            let queue = Queue::new(parts.metrics.permit_queue.get_or_create(&labels).clone());
            let alone = Arc::new(Semaphore::new(settings.max_in_flight.max(1)));
            let limits = permit::limits(settings.max_in_flight, settings.max_per_second);
            Some((id, Provider { behaviour: settings.behaviour, endpoint, limits, queue, alone }))
        });
        let now = parts.clock.boot();
        let core = Core {
            store: parts.store,
            clock: parts.clock,
            vault: parts.vault,
            spill: parts.spill,
            spill_required: parts.spill_required,
            providers: providers.collect(),
            cache: Cache::new(parts.settings.cache_capacity),
            standings: Standings::new(parts.settings.cache_capacity),
            memories: Memories::new(parts.settings.cache_capacity),
            spendings: Spendings::default(),
            frozen: standing::Frozen::default(),
            news: news::Newsroom::new(),
            link: Link::new(now),
            flights: Flights::new(parts.settings.max_flights),
            timing: parts.timing,
            lookups: ["held", "held_soft", "verified", "fetched"]
                .map(|kind| parts.metrics.token_lookups.get_or_create_owned(&KindLabels { kind })),
            metrics: parts.metrics,
            process: format!("{}/{}", parts.replica, hex(&random()[..4])),
            attempts: AtomicU64::new(0),
        };
        Self { core: Arc::new(core) }
    }

    /// A token for this call. Returns at once when one with enough life is held; otherwise waits for the flight that
    /// gets one, at most `ask.wait`. Giving up does not end the flight.
    pub async fn token(&self, ask: &Ask<'_>) -> Result<Arc<Held>, TokenError> {
        match self.at_hand(ask) {
            Some(held) => Ok(held),
            // In a box, so that a call which need not wait does not carry the room for waiting.
            None => Box::pin(self.obtain(ask)).await,
        }
    }

    /// A token that needs nothing done about it.
    pub fn at_hand(&self, ask: &Ask<'_>) -> Option<Arc<Held>> {
        let held = self.core.cache.get(ask.key).filter(|held| held.provider == *ask.provider)?;
        match decide(Some(held.at_hand(self.core.clock.boot(), &self.core.link, false))) {
            Decision::Serve => {
                self.core.count_lookup(Decision::Serve);
                Some(held)
            }
            Decision::ServeAndRefresh | Decision::Verify | Decision::Fetch => None,
        }
    }

    async fn obtain(&self, ask: &Ask<'_>) -> Result<Arc<Held>, TokenError> {
        let core = &self.core;
        let mut deadline = None;
        let mut confirmed = false;
        for round in 0..ROUNDS {
            let mut held = core.cache.get(ask.key);
            if let Some(foreign) = held.take_if(|held| held.provider != *ask.provider)
                && foreign.is_vouched_for(&core.link)
            {
                return Err(TokenError::Unknown);
            }
            let now = core.clock.boot();
            let decision = decide(held.as_ref().map(|held| held.at_hand(now, &core.link, confirmed)));
            if round == 0 {
                core.count_lookup(decision);
            }
            match (decision, held) {
                (Decision::Serve, Some(held)) => return Ok(held),
                (Decision::ServeAndRefresh, Some(held)) => {
                    self.refresh_quietly(ask, &held);
                    return Ok(held);
                }
                (Decision::Verify, Some(held)) => {
                    if core.link.is_store_away(now) {
                        return Ok(held);
                    }
                    let Some(seat) = self.board(ask, Urgency::Waiting, None) else { return Ok(held) };
                    // A flight that goes on after its word waits for the store, and what is held is what it brought.
                    if seat.is_settling() {
                        return Ok(held);
                    }
                    let until = *deadline.get_or_insert_with(|| Instant::now() + ask.wait);
                    match timeout_at(until.min(Instant::now() + core.timing.verification), seat.landing()).await {
                        Ok(Landing::Announced(Ok(()))) => confirmed = true,
                        Ok(Landing::Over) => {}
                        Ok(Landing::Announced(Err(error))) if !error.is_passing() => return Err(error),
                        Ok(Landing::Announced(Err(_))) | Err(_) if self.still_serves(ask.key, &held) => {
                            return Ok(held);
                        }
                        Ok(Landing::Announced(Err(error))) => return Err(error),
                        Err(_) => return Err(TokenError::WaitTimeout),
                    }
                }
                (_, held) => {
                    let rejected = held.filter(|held| held.rejected.load(Ordering::Acquire)).map(|held| held.version);
                    let seat = self.board(ask, Urgency::Waiting, rejected).ok_or(TokenError::Overloaded)?;
                    let until = *deadline.get_or_insert_with(|| Instant::now() + ask.wait);
                    match timeout_at(until, seat.clone().landing()).await {
                        // The patience of the call that took off first was over. Ours is not.
                        Ok(Landing::Announced(Err(TokenError::WaitTimeout | TokenError::Overloaded)))
                            if Instant::now() < until =>
                        {
                            continue;
                        }
                        Ok(Landing::Announced(outcome)) => outcome?,
                        Ok(Landing::Over) => continue,
                        Err(_) if seat.is_settling() => return Err(TokenError::StoreUnavailable),
                        Err(_) => return Err(TokenError::WaitTimeout),
                    }
                    confirmed = true;
                }
            }
        }
        Err(TokenError::WaitTimeout)
    }

    /// Notes that the bank's API refused this version of a token. The next [`Tokens::token`] answers with a newer one,
    /// refreshing if the store has none, or with the same if a refresh would not help.
    pub fn reject(&self, key: &TokenKey, version: Version) {
        self.core.cache.reject(key, version);
    }

    /// Notes, as a task of its own, that the API of `provider` says this consent has ended. A consent that was granted
    /// elsewhere is left alone, and so is one that is granted anew meanwhile.
    pub fn bank_says_ended(&self, consent: &ConsentId, provider: &ProviderId) {
        let core = Arc::clone(&self.core);
        let (key, provider) = (TokenKey::Consent(consent.clone()), provider.clone());
        self.core.flights.detach(async move {
            let ended = async {
                let record = core.store.read(&key).await?;
                let Some(record) = record.filter(|record| record.provider == provider) else { return Ok(()) };
                let grant = Some(record.version.grant);
                let why = "bank_says_ended".to_owned();
                let end = End { grant, state: RecordState::Revoked, why, remembered: None };
                core.store.end(&key, &end).await?;
                core.cache.forget(&key);
                core.look_again(&key).await
            };
            if let Err(error) = ended.await {
                tracing::warn!(?key, %error, "Could not record that the bank ended a consent.");
            }
        });
    }

    /// Reads a record that was changed by hand, so that this process remembers it.
    pub async fn remember(&self, consent: &ConsentId) -> Result<(), StoreError> {
        self.core.look_again(&TokenKey::Consent(consent.clone())).await
    }

    /// Reads the store's changes until the process ends, and keeps the cache in step with them.
    pub async fn follow(&self) {
        follow::run(&self.core).await;
    }

    /// Tells a store that came back what it may have forgotten, for as long as it is polled. Without this a server that
    /// restarted or was promoted is asked for leases at once. A store that was put back from an old backup has every
    /// provider frozen before.
    pub async fn reunite(&self) {
        reunion::run(&self.core).await;
    }

    /// Replays what an earlier process spilled; see [`Replay`].
    pub async fn recover(&self, at_most: Duration) -> Replay {
        recover::run(&self.core, at_most).await
    }

    /// Resolves once no refresh and no commit is under way.
    pub async fn settled(&self) {
        self.core.flights.all_landed().await;
    }

    /// How many tokens are being fetched or committed.
    pub fn under_way(&self) -> usize {
        self.core.flights.under_way()
    }

    /// Whether changes arrive from the store.
    pub fn is_linked(&self) -> bool {
        self.core.link.is_up()
    }

    /// How long nobody sends after a refresh whose outcome is not known.
    pub fn quarantine(&self) -> Duration {
        self.core.timing.quarantine
    }

    /// Names something that is done to a record by hand.
    pub fn name_attempt(&self) -> AttemptId {
        self.core.next_attempt()
    }

    /// The store, for those who change records by hand.
    pub fn store(&self) -> &S {
        &self.core.store
    }

    /// What seals and opens.
    pub fn vault(&self) -> &Vault {
        &self.core.vault
    }

    /// The thumbprint of the certificate that `provider`'s token endpoint is shown; `None` where none is, or where there
    /// is no such provider.
    pub fn certificate(&self, provider: &ProviderId) -> Option<String> {
        self.core.providers.get(provider).and_then(|provider| provider.endpoint.certificate())
    }

    /// Whether this provider is configured.
    pub fn knows(&self, provider: &ProviderId) -> bool {
        self.core.providers.contains_key(provider)
    }

    /// Listens to what happens to consents, from what came after the event named `last` on, if that is still known.
    pub fn listen(&self, last: Option<&str>) -> Listening {
        self.core.news.listen(last)
    }

    /// Whether this provider has a feed of events, which names consents as the bank does.
    pub fn tells_by_feed(&self, provider: &ProviderId) -> bool {
        self.core.providers.get(provider).is_some_and(|provider| provider.behaviour.tells_by_feed)
    }

    fn refresh_quietly(&self, ask: &Ask<'_>, held: &Held) {
        let now = self.core.clock.boot();
        if held.may_refresh_quietly(now, self.core.timing.store_pause) {
            // Whether it gets anywhere shows when the token is asked for next.
            drop(self.board(ask, Urgency::Quiet, None));
        }
    }

    /// Whether a token that could not be confirmed may be used: it lives, and nothing was found to have replaced it.
    fn still_serves(&self, key: &TokenKey, held: &Held) -> bool {
        let present = self.core.cache.get(key).is_some_and(|present| present.version == held.version);
        present && !held.remaining(self.core.clock.boot()).is_zero()
    }

    fn board(&self, ask: &Ask<'_>, urgency: Urgency, rejected: Option<Version>) -> Option<flight::Seat> {
        self.core.flights.board(ask.key, ask.provider, |cockpit| {
            let errand = Errand {
                key: ask.key.clone(),
                provider: ask.provider.clone(),
                client: ask.client.cloned(),
                urgency,
                rejected,
                patience: ask.wait,
            };
            ask::fly(Arc::clone(&self.core), errand, cockpit)
        })
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    fn next_attempt(&self) -> AttemptId {
        AttemptId::new(&self.process, self.attempts.fetch_add(1, Ordering::Relaxed))
    }

    fn count_lookup(&self, decision: Decision) {
        let [held, soft, verified, fetched] = &self.lookups;
        let counter = match decision {
            Decision::Serve => held,
            Decision::ServeAndRefresh => soft,
            Decision::Verify => verified,
            Decision::Fetch => fetched,
        };
        counter.inc();
    }

    fn count_store_error(&self, step: &'static str) {
        self.metrics.store_errors.get_or_create(&KindLabels { kind: step }).inc();
    }
}

/// The refusal that a state stands for; `None` where tokens may be used.
fn refused_by(state: RecordState) -> Option<TokenError> {
    match state {
        RecordState::Active | RecordState::Leased | RecordState::Armed | RecordState::Uncertain => None,
        RecordState::Pending => Some(TokenError::Pending),
        RecordState::Denied => Some(TokenError::Denied),
        RecordState::Revoked => Some(TokenError::Revoked),
        RecordState::Expired => Some(TokenError::Expired),
        RecordState::ReauthorizationRequired => Some(TokenError::ReauthorizationRequired),
    }
}
