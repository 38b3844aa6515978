//! What follows from the bank's answer, whatever it was.

use std::time::Duration;

use super::{Moments, Refresh, Took};
use crate::oauth::{NotSent, TokenEndpoint, TokenOutcome};
use crate::store::{BreakerClass, FailTo, Lesson, Store};
use crate::token::TokenError;
use crate::token::ask::Round;
use crate::token::flight::Outcome;
use crate::token::keep::{self, Obtained};
use crate::token::permit::lesson_of;
use crate::token::timing::{backoff, spread};
use crate::words::clock::Clock;
use crate::words::metrics::OutcomeLabels;
use crate::words::secrets::RefreshToken;

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    /// What follows from the bank's answer. A token set is kept before anything else, a count or a log line included.
    pub(super) async fn settle(
        &self,
        outcome: TokenOutcome,
        spent: Option<&RefreshToken>,
        moments: Moments,
        took: Took,
    ) -> (Round, Option<Lesson>) {
        let why = match outcome {
            TokenOutcome::Granted(set) => {
                let obtained = Obtained {
                    attempt: &self.attempt,
                    base: self.lease.base,
                    snapshot: &self.snapshot,
                    set: &set,
                    under_way: moments.under_way,
                    armed_at: moments.armed,
                    spent,
                    forced: self.errand.rejected.is_some(),
                    said: &self.said,
                };
                let kept = keep::keep(self.core, self.errand, self.cockpit, obtained).await;
                self.count("granted", took);
                let all = self.began.elapsed().saturating_sub(took.connecting + took.answering);
                self.core.metrics.refresh_overhead_seconds.observe(all.as_secs_f64());
                return (Round::Land(kept), None);
            }
            TokenOutcome::NotSent(not_sent) => {
                self.count("not_sent", took);
                return self.not_sent(&not_sent).await;
            }
            TokenOutcome::NotProcessed { why, retry_after } => {
                self.count(why, took);
                tracing::warn!(provider = %self.errand.provider, why, "The bank did not process a token request.");
                let to = self.later(retry_after);
                let lesson = retry_after.map_or(Lesson::Neutral, Lesson::Held);
                return (self.end(to, why, unavailable(why, to)).await, Some(lesson));
            }
            TokenOutcome::Misconfigured { why } => {
                self.count(why, took);
                tracing::error!(provider = %self.errand.provider, why, "The token endpoint cannot be used with our settings.");
                let refusal = Err(TokenError::Misconfigured { why: why.to_owned() });
                let lesson = match why {
                    // What one consent was granted says nothing about the others.
                    "invalid_scope" => Lesson::Neutral,
                    why => Lesson::Failed(BreakerClass::Misconfigured, why),
                };
                return (self.end(self.later(None), why, refusal).await, Some(lesson));
            }
            TokenOutcome::InvalidGrant => {
                return self.refused(took).await;
            }
            TokenOutcome::Unknown { why } => why,
            TokenOutcome::Unreadable { why, body } => {
                self.core.salvage(self.errand, &self.attempt, self.lease.base, &self.snapshot, &body).await;
                why
            }
        };
        self.count(why, took);
        // Hanging up was ours.
        let lesson = match why {
            "fence_lost" => Lesson::Neutral,
            why => Lesson::Failed(BreakerClass::Unavailable, why),
        };
        if spent.is_none() {
            let to = self.later(None);
            return (self.end(to, why, unavailable(why, to)).await, Some(lesson));
        }
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            attempt = self.attempt.as_str(),
            why,
            "Nobody knows whether the bank processed a refresh. It is asked once more after the quarantine."
        );
        let uncertain = Err(TokenError::Uncertain { retry_after: self.core.timing.quarantine });
        (self.end(FailTo::Uncertain, why, uncertain).await, Some(lesson))
    }

    pub(super) async fn not_sent(&self, not_sent: &NotSent) -> (Round, Option<Lesson>) {
        tracing::warn!(provider = %self.errand.provider, error = %not_sent, "A token request was not sent.");
        let to = self.later(None);
        let misconfigured = |why: &str| Err(TokenError::Misconfigured { why: why.to_owned() });
        let (why, outcome) = match not_sent {
            NotSent::Unreachable(_) => ("unreachable", unavailable("unreachable", to)),
            NotSent::Tls(_) => ("tls_refused", misconfigured("tls_refused")),
            NotSent::Request(_) => ("request_impossible", misconfigured("request_impossible")),
        };
        (self.end(to, why, outcome).await, Some(lesson_of(not_sent, why)))
    }

    pub(super) fn later(&self, asked_for: Option<Duration>) -> FailTo {
        let own = backoff(self.snapshot.failures, spread());
        FailTo::Active { backoff: asked_for.map_or(own, |asked| asked.clamp(own, LONGEST_PAUSE)) }
    }

    pub(super) fn count(&self, outcome: &'static str, took: Took) {
        let provider = self.errand.provider.as_str().to_owned();
        self.core.metrics.token_requests.get_or_create(&OutcomeLabels { provider, outcome }).inc();
        self.core.metrics.token_request_seconds.observe(took.answering.as_secs_f64());
    }
}

fn unavailable(why: &str, to: FailTo) -> Outcome {
    let retry_after = match to {
        FailTo::Active { backoff } => backoff,
        FailTo::Released | FailTo::Uncertain | FailTo::ReauthorizationRequired | FailTo::Alternate => Duration::ZERO,
    };
    Err(TokenError::EndpointUnavailable { why: why.to_owned(), retry_after })
}

/// However long a bank asks to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
