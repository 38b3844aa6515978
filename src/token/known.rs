//! What is known of a consent without getting a token of it: whether its state allows a call, and what it covers.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::cache::Standing;
use super::memory::Recollection;
use super::{Ask, Core, TokenError, Tokens, refused_by};
use crate::oauth::TokenEndpoint;
use crate::store::{Snapshot, Store, StoreError};
use crate::words::clock::Clock;
use crate::words::ids::{ConsentId, ProviderId, TokenKey};
use crate::words::token_set::Scope;

impl<S: Store, E: TokenEndpoint, C: Clock> Tokens<S, E, C> {
    /// Whether a stored record forbids the use of this consent on a route that needs no token of it. A consent of which
    /// nothing is stored is not forbidden, and neither is one while the store is away: the bank has the last word.
    pub async fn standing(&self, consent: &ConsentId, provider: &ProviderId) -> Result<(), TokenError> {
        let core = &self.core;
        let key = TokenKey::Consent(consent.clone());
        if let Some(standing) = core.standings.get(&key, &core.link, core.clock.boot()) {
            return standing.at(provider);
        }
        let (epoch, moves, asked) = (core.link.epoch(), core.standings.moves(), core.clock.boot());
        let standing = match core.read_apart(&key).await {
            Ok(Some(snapshot)) => {
                let until = snapshot.consent_remaining.filter(|rest| !rest.is_zero()).map(|rest| asked.plus(rest));
                let verdict = refused_by(snapshot.state).map_or(Ok(()), Err);
                Standing { provider: Some(snapshot.provider), verdict, epoch, moves, until }
            }
            Ok(None) => Standing { provider: None, verdict: Ok(()), epoch, moves, until: None },
            Err(_) => return Ok(()),
        };
        // When a consent is no longer pending is not always told: its time ends by itself.
        if standing.verdict != Err(TokenError::Pending) {
            core.standings.put(&key, standing.clone());
        }
        standing.at(provider)
    }

    /// Takes a step of the store for a call, which may be served by another runtime than the store's connections. The step is
    /// taken even if the call gives up.
    pub async fn apart<T: Send + 'static, F>(&self, step: impl FnOnce(Self) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.core.apart(step(self.clone())).await
    }

    /// The record of a consent, after the store was told what it has forgotten of it.
    pub async fn put_right(&self, consent: &ConsentId) -> Result<Option<Snapshot>, StoreError> {
        let (core, key) = (&self.core, TokenKey::Consent(consent.clone()));
        let taken = core.clock.boot();
        let shown = core.store.read(&key).await?;
        let Some(record) = &shown else { return Ok(None) };
        match core.memories.learn(&key, record, taken) {
            Recollection::Current => Ok(shown),
            Recollection::Behind(memory, grant) => {
                core.bring_back(&key, &memory, Some(grant)).await?;
                core.store.read(&key).await
            }
        }
    }

    /// Lets go of a consent that was ended by hand, and reads what the store has instead, so that it is remembered.
    pub async fn forget(&self, consent: &ConsentId) {
        let key = TokenKey::Consent(consent.clone());
        self.core.cache.forget(&key);
        if let Err(error) = self.core.look_again(&key).await {
            tracing::warn!(?consent, %error, "A consent that has ended could not be read again.");
        }
    }

    /// What the consent of this call covers; nothing is refreshed for it. `None` where nobody told, where no token of it may
    /// be used, and where it cannot be known before the store was put right: a call for its token tells.
    pub async fn scope(&self, ask: &Ask<'_>) -> Option<Scope> {
        let core = &self.core;
        let held = core.cache.get(ask.key).filter(|held| held.provider == *ask.provider);
        let asked = core.clock.boot();
        if let Some(held) = &held
            && (held.is_vouched_for(&core.link) || core.link.is_store_away(asked))
        {
            return held.scope.clone();
        }
        match timeout(ask.wait, core.read_apart(ask.key)).await {
            Ok(Ok(Some(stored))) if stored.provider == *ask.provider && stored.state.is_usable() => {
                match core.memories.learn(ask.key, &stored, asked) {
                    Recollection::Current => stored.scope,
                    Recollection::Behind(..) => None,
                }
            }
            Ok(Ok(_)) => None,
            Ok(Err(_)) | Err(_) => held.and_then(|held| held.scope.clone()),
        }
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Reads a record, not on the caller's runtime.
    async fn read_apart(self: &Arc<Self>, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        let (reader, wanted) = (Arc::clone(self), key.clone());
        self.apart(async move { reader.store.read(&wanted).await }).await
    }

    /// Takes a step of the store, not on the caller's runtime: a connection that is opened there would end with it. It is
    /// taken even if the caller gives up.
    async fn apart<T: Send + 'static>(
        &self,
        step: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        self.flights.detach(async move {
            let _nobody_waits = tell.send(step.await);
        });
        told.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the task of the step ended".into())))
    }
}
