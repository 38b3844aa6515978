//! The steps of quotas on the embedded store's file.

use std::sync::Arc;

use super::{EmbeddedStore, blocking};
use crate::store::contract::{Quotas, Refund, Spend, SpendOutcome, StoreError};
use crate::store::quota::{QuotaRecord, steps};
use crate::words::clock::Clock;
use crate::words::ids::ConsentId;

impl<C: Clock> EmbeddedStore<C> {
    /// [`EmbeddedStore::step`] on a quota.
    async fn quota_step<T: Send + 'static>(
        &self,
        consent: &ConsentId,
        step: impl FnOnce(&mut QuotaRecord, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::Unavailable("the embedded store is shutting down".into());
        let turn = Arc::clone(&self.inner.turn).acquire_owned().await.map_err(closed)?;
        let (inner, consent) = (Arc::clone(&self.inner), consent.clone());
        blocking(move || {
            let _turn = turn;
            let now = inner.time.now();
            inner.file.change_quota(&consent, now, |record| step(record, now))
        })
        .await
    }
}

impl<C: Clock> Quotas for EmbeddedStore<C> {
    async fn spend(&self, consent: &ConsentId, spend: &Spend) -> Result<SpendOutcome, StoreError> {
        let asked = *spend;
        self.quota_step(consent, move |record, now| steps::spend(record, now, &asked)).await
    }

    async fn refund(&self, consent: &ConsentId, refund: &Refund) -> Result<(), StoreError> {
        let asked = *refund;
        self.quota_step(consent, move |record, _| steps::refund(record, &asked)).await
    }
}
