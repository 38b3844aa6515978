//! A refused refresh token: whose fault it is, and what becomes of its consent.
//!
//! Somebody may have been faster; others may be refused as well; a loss of our own making may explain it. Only what is
//! left is the consent's own end.

use std::time::Duration;

use tokio::time::sleep;

use super::ending::REPORTS;
use super::{Refresh, Took};
use crate::oauth::TokenEndpoint;
use crate::store::{
    BreakerClass, Event, EventKind, FailTo, Lesson, MOST_EVENTS, Refusal, Reported, Snapshot, Store, StoreError,
    Verdict,
};
use crate::token::TokenError;
use crate::token::ask::Round;
use crate::token::loss::{self, Evidence};
use crate::token::permit::REFUSED_ONCE;
use crate::token::timing::jittered;
use crate::words::clock::Clock;

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    /// `invalid_grant`. Somebody may have been faster, so the store is read first; what it holds decides.
    pub(super) async fn refused(&self, took: Took) -> (Round, Option<Lesson>) {
        self.count("invalid_grant", took);
        let now = self.core.store.read(&self.errand.key).await.ok().flatten();
        if let Some(now) = now.as_ref().filter(|now| now.version != self.lease.base) {
            let overtaken = now.version.is_newer_than(self.lease.base) && now.version.grant == self.lease.base.grant;
            if overtaken && self.errand.client.is_none() && !self.said.late {
                // Only a process that stood still, or was cut off, for longer than lease and quarantine comes here.
                loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
            }
            return (Round::Again(Duration::ZERO), Some(Lesson::Neutral));
        }
        if self.errand.client.is_some() {
            let refusal = Err(TokenError::Misconfigured { why: "invalid_grant".to_owned() });
            let lesson = Lesson::Failed(BreakerClass::Misconfigured, "invalid_client");
            return (self.end(self.later(None), "invalid_client", refusal).await, Some(lesson));
        }
        // A lease that the store forgot and was told again has another fence than it was granted with.
        let fence = self.spent.spending.fence().await.unwrap_or(self.lease.fence);
        let refusal = Refusal { version: self.lease.base, fence, probe: self.lease.probe };
        let reported = self.tell_refusal(refusal).await;
        let round = match reported.as_ref().map(|reported| reported.verdict) {
            Some(Verdict::Suspend) => {
                let round = self.suspend(now).await;
                self.core.reconsider(self.errand, &self.attempt, refusal).await;
                round
            }
            // A report of a refusal is never merely noted. A store that says so, or nothing, ends no consent.
            Some(Verdict::Spare | Verdict::Noted) | None => self.spare().await,
        };
        if let Some(reported) = reported {
            self.core.pardon(&reported.pardoned).await;
        }
        (round, None)
    }

    /// Repeats until the store has said what follows from the refusal; `None`: it never did.
    async fn tell_refusal(&self, refusal: Refusal) -> Option<Reported> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..REPORTS {
            match self.core.tell_refusal(self.errand, &self.attempt, refusal).await {
                Ok(reported) => return Some(reported),
                Err(StoreError::Unreadable(_) | StoreError::Refused(_)) => return None,
                Err(StoreError::Unavailable(_) | StoreError::Reuniting) => {
                    self.cockpit.announce(Err(TokenError::StoreUnavailable));
                }
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        None
    }

    /// Others are refused as well, so the fault is taken to be the bank's or ours, and the consent is kept.
    async fn spare(&self) -> Round {
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            "The bank refuses the refresh tokens of several consents. This one is not suspended yet."
        );
        let refusal = Err(TokenError::Misconfigured { why: REFUSED_ONCE.to_owned() });
        self.end(self.later(None), REFUSED_ONCE, refusal).await
    }

    /// The refusal is this consent's own. `now` is what the store shows.
    async fn suspend(&self, now: Option<Snapshot>) -> Round {
        if self.lease.alternate {
            tracing::warn!(key = ?self.errand.key, "The bank refused a refresh token. The one that came second is tried.");
            self.report(FailTo::Alternate, "alternate").await;
            return Round::Again(Duration::ZERO);
        }
        let loss = loss::cause(Evidence {
            base: self.lease.base,
            probe: self.lease.probe,
            sends: now.map_or(self.snapshot.sends + 1, |now| now.sends),
            late: self.said.late,
            remembered: self.core.cache.get(&self.errand.key).map(|held| held.version),
            forgotten_intent: self.has_an_intent_been_forgotten().await,
        });
        if let Some(loss) = loss {
            loss.count(&self.core.metrics, &self.errand.provider);
        }
        let why = loss.map_or("revoked_or_expired", loss::Loss::as_str);
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            why,
            "The bank no longer accepts the refresh token. It is kept; the customer has to consent again."
        );
        self.core.cache.forget(&self.errand.key);
        self.end(FailTo::ReauthorizationRequired, why, Err(TokenError::ReauthorizationRequired)).await
    }

    /// Whether this process saw somebody else's intent to spend this refresh token of which the store's history knows
    /// nothing. It is written with the intent, and forgotten with it.
    async fn has_an_intent_been_forgotten(&self) -> bool {
        let seen = self.core.memories.spender(&self.errand.key, self.lease.base);
        let Some(spender) = seen.filter(|spender| *spender != self.attempt) else { return false };
        // Without the store's word nothing is claimed, and neither of a history that has lost its oldest lines.
        let Ok(history) = self.core.store.history(&self.errand.key).await else { return false };
        let is_whole = (1..MOST_EVENTS).contains(&history.len());
        let is_told = |event: &Event| event.kind == EventKind::Armed && event.attempt.as_ref() == Some(&spender);
        is_whole && !history.iter().any(is_told)
    }
}
