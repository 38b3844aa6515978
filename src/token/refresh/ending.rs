//! Telling the store how a lease ended, until it has taken it.

use std::time::Duration;

use tokio::time::sleep;

use super::Refresh;
use crate::oauth::TokenEndpoint;
use crate::store::{Fail, FailOutcome, FailTo, ReassertOutcome, RecordState, Store, StoreError};
use crate::token::ask::Round;
use crate::token::flight::Outcome;
use crate::token::loss;
use crate::token::spending::Told;
use crate::token::timing::jittered;
use crate::words::clock::Clock;

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    /// Tells the store how the lease ended, and those who wait. Where the store does not take it at once, they do not
    /// wait for that.
    pub(in crate::token) async fn end(&self, to: FailTo, why: &'static str, outcome: Outcome) -> Round {
        let recorded = self.report_once(to, why).await;
        self.cockpit.announce(outcome.clone());
        if !recorded {
            self.report(to, why).await;
        }
        Round::Land(outcome)
    }

    /// Writes down how the lease ended, repeating until the store has taken it. Should it never, lease and quarantine
    /// end by themselves.
    pub(in crate::token) async fn report(&self, to: FailTo, why: &'static str) {
        let mut pause = Duration::from_millis(50);
        for _ in 0..REPORTS {
            if self.report_once(to, why).await {
                return;
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        tracing::warn!(key = ?self.errand.key, why, "The end of a lease could not be stored. It ends by itself.");
    }

    /// Whether there is nothing left to tell the store.
    pub(in crate::token) async fn report_once(&self, to: FailTo, why: &'static str) -> bool {
        let tell = async |fence| {
            let (attempt, said) = (self.attempt.clone(), self.said.clone());
            let fail = Fail { attempt, fence, base: self.lease.base, to, why, said };
            match self.core.store.fail(&self.errand.key, &fail).await {
                Ok(FailOutcome::Recorded) => Told::Yes,
                Ok(FailOutcome::Lost) => {
                    self.look_who_has_it(to).await;
                    Told::NotOurs
                }
                Err(error @ (StoreError::Unreadable(_) | StoreError::Refused(_))) => {
                    tracing::error!(key = ?self.errand.key, why, %error, "The end of a lease is not taken by the store.");
                    Told::Yes
                }
                Err(StoreError::Unavailable(_) | StoreError::Reuniting) => {
                    self.core.count_store_error("fail");
                    Told::No
                }
            }
        };
        let may_be_spent = match to {
            FailTo::Uncertain | FailTo::ReauthorizationRequired => true,
            FailTo::Released | FailTo::Active { .. } | FailTo::Alternate => false,
        };
        if to == FailTo::Uncertain {
            self.core.memories.doubt(&self.errand.key, self.lease.base);
        }
        match self.spent.spending.end(tell).await {
            Told::Yes => true,
            Told::No => false,
            Told::NotOurs if !may_be_spent => true,
            // Whether it went to somebody else or was forgotten by a store that came back: that the token may be spent must
            // stand there.
            Told::NotOurs => match self.spent.spending.reassert(&self.core.store, self.core.timing.lease).await {
                Ok(ReassertOutcome::Held(_)) => !matches!(self.spent.spending.end(tell).await, Told::No),
                Ok(ReassertOutcome::Noted | ReassertOutcome::Moved | ReassertOutcome::Missing) => true,
                Err(_) => {
                    self.core.count_store_error("reassert");
                    false
                }
            },
        }
    }

    /// A lease that was passed on while a request was under way: two may have been sent.
    async fn look_who_has_it(&self, to: FailTo) {
        let may_have_sent = match to {
            FailTo::Uncertain | FailTo::ReauthorizationRequired | FailTo::Alternate => true,
            FailTo::Released | FailTo::Active { .. } => false,
        };
        if !may_have_sent || self.said.late {
            return;
        }
        let Ok(Some(now)) = self.core.store.read(&self.errand.key).await else { return };
        let other = match now.state {
            // Somebody else's request was refused meanwhile.
            RecordState::ReauthorizationRequired => true,
            RecordState::Active | RecordState::Leased | RecordState::Armed | RecordState::Uncertain => {
                let holder = now.holder.is_some_and(|holder| holder != self.attempt);
                holder || now.version.is_newer_than(self.lease.base)
            }
            RecordState::Pending | RecordState::Denied | RecordState::Revoked | RecordState::Expired => false,
        };
        if other && now.version.grant == self.lease.base.grant {
            loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
        }
    }
}

/// About ten minutes of asking a store that is away.
pub(super) const REPORTS: usize = 300;
