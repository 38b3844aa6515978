//! The steps on a feed's record and on names, on the embedded store's file.

use std::sync::Arc;
use std::time::Duration;

use super::{EmbeddedStore, blocking};
use crate::store::contract::{Feeds, MoveFeed, MoveFeedOutcome, StoreError, TakeFeed, TakeFeedOutcome};
use crate::store::feed::{FeedRecord, steps};
use crate::store::steps::span;
use crate::words::clock::Clock;
use crate::words::ids::{BankNameDigest, ConsentId, ProviderId};

impl<C: Clock> EmbeddedStore<C> {
    async fn feed_step<T: Send + 'static>(
        &self,
        provider: &ProviderId,
        step: impl FnOnce(&mut FeedRecord, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::Unavailable("the embedded store is shutting down".into());
        let turn = Arc::clone(&self.inner.turn).acquire_owned().await.map_err(closed)?;
        let (inner, provider) = (Arc::clone(&self.inner), provider.clone());
        blocking(move || {
            let _turn = turn;
            let now = inner.time.now();
            inner.file.change_feed(&provider, now, |record| step(record, now))
        })
        .await
    }
}

impl<C: Clock> Feeds for EmbeddedStore<C> {
    async fn take_feed(&self, provider: &ProviderId, take: &TakeFeed) -> Result<TakeFeedOutcome, StoreError> {
        let take = take.clone();
        self.feed_step(provider, move |record, now| steps::take(record, now, &take)).await
    }

    async fn move_feed(&self, provider: &ProviderId, moved: &MoveFeed) -> Result<MoveFeedOutcome, StoreError> {
        let moved = moved.clone();
        self.feed_step(provider, move |record, now| steps::advance(record, now, &moved)).await
    }

    async fn name_consent(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        consent: &ConsentId,
        life: Duration,
    ) -> Result<(), StoreError> {
        let closed = |_| StoreError::Unavailable("the embedded store is shutting down".into());
        let turn = Arc::clone(&self.inner.turn).acquire_owned().await.map_err(closed)?;
        let (inner, provider, name, consent) = (Arc::clone(&self.inner), provider.clone(), *name, consent.clone());
        blocking(move || {
            let _turn = turn;
            let now = inner.time.now();
            inner.file.note_name(&provider, &name, now, |record| record.note(&consent, now + span(life)))
        })
        .await
    }

    async fn consents_named(&self, provider: &ProviderId, name: &BankNameDigest) -> Result<Vec<ConsentId>, StoreError> {
        let (inner, provider, name) = (Arc::clone(&self.inner), provider.clone(), *name);
        blocking(move || Ok(inner.file.named(&provider, &name, inner.time.now())?.consents)).await
    }
}
