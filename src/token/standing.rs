//! How providers stand in the store, and freezing and thawing them.
//!
//! What is frozen is asked for now and then, so that those who look at this process are told without waiting for the
//! store. Nothing here decides whether a token request is sent: the store does, when it is asked for leave.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{interval, timeout};

use super::{Core, Tokens};
use crate::oauth::TokenEndpoint;
use crate::store::{Freeze, FreezeReason, ProviderStanding, Store, StoreError};
use crate::words::clock::Clock;
use crate::words::ids::ProviderId;
use crate::words::metrics::ProviderLabels;

/// What was last heard of freezes.
#[derive(Debug, Default)]
pub(super) struct Frozen(Mutex<BTreeMap<ProviderId, FreezeReason>>);

/// Why it is not known how a provider stands, or whether it was frozen or thawed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StandingError {
    /// The configuration has no such provider.
    #[error("the configuration has no such provider")]
    Unknown,
    /// The store has no outcome.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl<S: Store, E: TokenEndpoint, C: Clock> Tokens<S, E, C> {
    /// The providers of the configuration.
    pub fn providers(&self) -> Vec<ProviderId> {
        self.core.providers.keys().cloned().collect()
    }

    /// How a provider stands: its freeze, its breaker, who was refused. Bounded by some seconds.
    pub async fn provider_standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StandingError> {
        self.core.stand(provider, self.core.store.standing(provider)).await
    }

    /// Has no replica refresh anything at a provider until somebody thaws it. What an operator said before is replaced; a
    /// freeze for another reason stands on beside it. Asking again is safe.
    pub async fn freeze(&self, provider: &ProviderId, why: Option<String>) -> Result<ProviderStanding, StandingError> {
        self.core.freeze(provider, FreezeReason::Operator, why, None).await
    }

    /// Lets a provider be asked again, whoever froze it and for however many reasons. Asking again is safe.
    pub async fn thaw(&self, provider: &ProviderId) -> Result<ProviderStanding, StandingError> {
        let before = self.provider_standing(provider).await?;
        let standing = self.core.stand(provider, self.core.store.freeze(provider, None)).await?;
        for Freeze { reason, by, why, age, over: _ } in before.freeze.iter().chain(&before.frozen_besides) {
            let (provider, reason) = (provider.as_str(), reason.as_str());
            tracing::warn!(provider, reason, by, why, ?age, "A freeze was ended: tokens are refreshed again.");
        }
        Ok(standing)
    }

    /// Asks now and then what is frozen, for as long as it is polled.
    pub async fn watch_freezes(&self, every: Duration) {
        for provider in self.core.providers.keys() {
            self.core.metrics.provider_frozen.get_or_create(&labels(provider)).set(0);
        }
        let mut pace = interval(every);
        loop {
            pace.tick().await;
            for provider in self.core.providers.keys() {
                // What was heard before is the best that is known while the store is away.
                if let Err(error) = self.provider_standing(provider).await {
                    tracing::debug!(provider = provider.as_str(), %error, "It is not known whether it is frozen.");
                }
            }
        }
    }

    /// Which providers were frozen when the store was last asked, and why.
    pub fn frozen(&self) -> Vec<(ProviderId, FreezeReason)> {
        let frozen = self.core.frozen.0.lock().unwrap_or_else(PoisonError::into_inner);
        frozen.iter().map(|(provider, reason)| (provider.clone(), *reason)).collect()
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Freezes a provider in this process' name; over something that freezes it only once, `over`, if it has not yet.
    pub(super) async fn freeze(
        &self,
        provider: &ProviderId,
        reason: FreezeReason,
        why: Option<String>,
        over: Option<String>,
    ) -> Result<ProviderStanding, StandingError> {
        let order = Freeze { reason, by: self.process.clone(), why, age: Duration::ZERO, over };
        let standing = self.stand(provider, self.store.freeze(provider, Some(&order))).await?;
        if standing.freeze.is_some() {
            let provider = provider.as_str();
            tracing::warn!(provider, reason = reason.as_str(), "A provider was frozen: nothing is refreshed there.");
        }
        Ok(standing)
    }

    /// Waits for a step on a known provider, and notes what it says.
    async fn stand(
        &self,
        provider: &ProviderId,
        step: impl Future<Output = Result<ProviderStanding, StoreError>>,
    ) -> Result<ProviderStanding, StandingError> {
        if !self.providers.contains_key(provider) {
            return Err(StandingError::Unknown);
        }
        let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
        let standing = timeout(PATIENCE, step).await.map_err(late)??;
        let mut frozen = self.frozen.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &standing.freeze {
            Some(freeze) => frozen.insert(provider.clone(), freeze.reason),
            None => frozen.remove(provider),
        };
        self.metrics.provider_frozen.get_or_create(&labels(provider)).set(i64::from(standing.freeze.is_some()));
        Ok(standing)
    }
}

fn labels(provider: &ProviderId) -> ProviderLabels {
    ProviderLabels { provider: provider.as_str().to_owned() }
}
