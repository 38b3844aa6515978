//! The steps of quotas on the embedded store's file.

use redb::Durability;

use super::EmbeddedStore;
use super::file::{Happened, RecordFile, pack, unpack};
use crate::store::contract::{Quotas, Refund, Spend, SpendOutcome, StoreError};
use crate::store::keys;
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
        let consent = consent.clone();
        self.in_turn(move |inner, now| inner.file.change_quota(&consent, now, |record| step(record, now))).await
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

impl RecordFile {
    /// Runs `step` on what is counted of a consent and writes what became of it, synced. What of others counts no more is
    /// removed with the first count of a consent: no clock does.
    fn change_quota<T>(
        &self,
        consent: &ConsentId,
        now: u64,
        step: impl FnOnce(&mut QuotaRecord) -> T,
    ) -> Result<T, StoreError> {
        let name = keys::quota_name(consent);
        let stored = self.load(&name)?;
        let before = understand_quota(stored.as_deref().unwrap_or_default())?;
        let mut record = before.clone();
        let outcome = step(&mut record);
        if record == before {
            return Ok(outcome);
        }
        self.write(&name, Some(&pack(record.to_fields())), now, &Happened::default(), Durability::Immediate)?;
        if stored.is_none() {
            self.forget("q:".."q;", now, |stored| understand_quota(stored).is_ok_and(|it| it.is_past(now)))?;
        }
        Ok(outcome)
    }
}

fn understand_quota(stored: &[u8]) -> Result<QuotaRecord, StoreError> {
    let unreadable = |what: &str| StoreError::Unreadable(format!("{what} of a quota is not what it has to be"));
    let fields = unpack(stored).ok_or_else(|| unreadable("the framing"))?;
    QuotaRecord::from_fields(&fields).map_err(|bad| unreadable(&format!("the field {}", bad.0)))
}
