//! The steps of attempts on the embedded store's file.

use std::sync::Arc;

use super::{EmbeddedStore, blocking};
use crate::store::attempt::{AttemptRecord, steps};
use crate::store::contract::{
    Attempt, Attempts, Await, AwaitOutcome, Bind, BindOutcome, Claim, ClaimOutcome, Open, Settle, SettleOutcome,
    StoreError, Tell, Term,
};
use crate::store::{history, steps as record_steps};
use crate::words::clock::Clock;
use crate::words::ids::{StateDigest, TokenKey};

impl<C: Clock> EmbeddedStore<C> {
    /// [`EmbeddedStore::step`] on an attempt.
    async fn attempt_step<T: Send + 'static>(
        &self,
        state: &StateDigest,
        step: impl FnOnce(&mut Option<AttemptRecord>, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let state = *state;
        self.in_turn(move |inner, now| inner.file.change_attempt(&state, now, |slot| step(slot, now))).await
    }
}

impl<C: Clock> Attempts for EmbeddedStore<C> {
    async fn await_grant(&self, key: &TokenKey, wait: &Await) -> Result<AwaitOutcome, StoreError> {
        let tell = |change: history::Change<'_>, asked: &_, outcome: &_| history::of_await(change, asked, *outcome);
        self.step(key, wait, record_steps::await_grant, tell).await
    }

    async fn tell(&self, key: &TokenKey, tell: &Tell) -> Result<(), StoreError> {
        self.step(key, tell, |_, _, _| (), |change, asked, ()| history::of_tell(change, asked)).await
    }

    async fn term(&self, key: &TokenKey, term: &Term) -> Result<bool, StoreError> {
        self.step(key, term, record_steps::term, |_, _, _| Vec::new()).await
    }

    async fn open(&self, state: &StateDigest, open: &Open) -> Result<(), StoreError> {
        let asked = open.clone();
        self.attempt_step(state, move |slot, now| steps::open(slot, now, &asked)).await?;
        // No clock removes what is past, so whoever comes next does.
        self.in_turn(|inner, now| Ok(inner.file.forget_attempts(now)?)).await
    }

    async fn bind(&self, state: &StateDigest, bind: &Bind) -> Result<BindOutcome, StoreError> {
        let asked = bind.clone();
        self.attempt_step(state, move |slot, now| steps::bind(slot, now, &asked)).await
    }

    async fn claim(&self, state: &StateDigest, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        let asked = claim.clone();
        self.attempt_step(state, move |slot, now| steps::claim(slot, now, &asked)).await
    }

    async fn settle(&self, state: &StateDigest, settle: &Settle) -> Result<SettleOutcome, StoreError> {
        let asked = settle.clone();
        self.attempt_step(state, move |slot, now| steps::settle(slot, now, &asked)).await
    }

    async fn attempt(&self, state: &StateDigest) -> Result<Option<Attempt>, StoreError> {
        let (inner, state) = (Arc::clone(&self.inner), *state);
        blocking(move || {
            let now = inner.time.now();
            Ok(inner.file.attempt(&state, now)?.map(|record| record.snapshot(now)))
        })
        .await
    }
}
