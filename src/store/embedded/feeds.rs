//! The steps on a feed's record and on names, on the embedded store's file.

use std::sync::Arc;
use std::time::Duration;

use redb::Durability;

use super::file::{Fields, FileError, Happened, RecordFile, pack, unpack};
use super::{EmbeddedStore, blocking};
use crate::store::contract::{Feeds, MoveFeed, MoveFeedOutcome, StoreError, TakeFeed, TakeFeedOutcome};
use crate::store::feed::{FeedRecord, NameRecord, steps};
use crate::store::keys;
use crate::store::steps::span;
use crate::words::clock::Clock;
use crate::words::ids::{BankNameDigest, ConsentId, ProviderId};

impl<C: Clock> EmbeddedStore<C> {
    async fn feed_step<T: Send + 'static>(
        &self,
        provider: &ProviderId,
        step: impl FnOnce(&mut FeedRecord, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let provider = provider.clone();
        self.in_turn(move |inner, now| inner.file.change_feed(&provider, now, |record| step(record, now))).await
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
        let (provider, name, consent) = (provider.clone(), *name, consent.clone());
        self.in_turn(move |inner, now| {
            inner.file.note_name(&provider, &name, now, |record| record.note(&consent, now + span(life)))
        })
        .await
    }

    async fn consents_named(&self, provider: &ProviderId, name: &BankNameDigest) -> Result<Vec<ConsentId>, StoreError> {
        let (inner, provider, name) = (Arc::clone(&self.inner), provider.clone(), *name);
        blocking(move || Ok(inner.file.named(&provider, &name, inner.time.now())?.consents)).await
    }
}

impl RecordFile {
    /// Runs `step` on a feed's record and writes what became of it, synced.
    fn change_feed<T>(
        &self,
        provider: &ProviderId,
        now: u64,
        step: impl FnOnce(&mut FeedRecord) -> T,
    ) -> Result<T, StoreError> {
        let name = keys::feed_name(provider);
        let fields = self.fields_of_feed(&name)?;
        let before =
            FeedRecord::from_fields(&fields).map_err(|bad| feed_unreadable(&format!("the field {}", bad.0)))?;
        let mut record = before.clone();
        let outcome = step(&mut record);
        if record != before {
            self.write(&name, Some(&pack(record.to_fields())), now, &Happened::default(), Durability::Immediate)?;
        }
        Ok(outcome)
    }

    /// What is noted under a bank's name for consents, unless its time is over.
    fn named(&self, provider: &ProviderId, name: &BankNameDigest, now: u64) -> Result<NameRecord, StoreError> {
        let fields = self.fields_of_feed(&keys::bank_name(provider, name))?;
        let record =
            NameRecord::from_fields(&fields).map_err(|bad| feed_unreadable(&format!("the field {}", bad.0)))?;
        Ok(if record.until <= now { NameRecord::default() } else { record })
    }

    /// Notes something under a bank's name, synced.
    fn note_name(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        now: u64,
        note: impl FnOnce(&mut NameRecord),
    ) -> Result<(), StoreError> {
        let mut record = self.named(provider, name, now)?;
        note(&mut record);
        let packed = pack(record.to_fields());
        let name = keys::bank_name(provider, name);
        self.write(&name, Some(&packed), now, &Happened::default(), Durability::Immediate)?;
        Ok(())
    }

    fn fields_of_feed(&self, name: &str) -> Result<Fields, StoreError> {
        let stored = self.load(name)?.unwrap_or_default();
        unpack(&stored).ok_or_else(|| feed_unreadable("the framing"))
    }

    /// Removes banks' names whose time is over.
    pub(super) fn forget_names(&self, now: u64) -> Result<(), FileError> {
        let past = |stored: &[u8]| {
            let record = unpack(stored).and_then(|fields| NameRecord::from_fields(&fields).ok());
            record.is_some_and(|record| record.until <= now)
        };
        self.forget("n:".."n;", now, past)
    }
}

fn feed_unreadable(what: &str) -> StoreError {
    StoreError::Unreadable(format!("{what} of a feed's record is not what it has to be"))
}
