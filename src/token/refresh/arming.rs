//! From the lease to the bank's door: what is to be spent, the connection, the intent, the guard.
//!
//! Whatever goes wrong here, nothing was sent, and the store is told so.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Moments, NO_REFRESH_TOKEN, Refresh, Took, Tried, UNREADABLE};
use crate::oauth::{NotSent, TokenEndpoint, TokenRequest};
use crate::store::{Arm, ArmOutcome, FailTo, Store, StoreError};
use crate::token::ask::{FIRST_POLL, hold};
use crate::token::flight::Outcome;
use crate::token::timing::{jittered, min_ttl};
use crate::token::{TokenError, fault, timed};
use crate::words::clock::{BootInstant, Clock};
use crate::words::secrets::RefreshToken;
use crate::words::token_set::Scope;

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    pub(super) async fn try_once(&self, endpoint: &E) -> Tried {
        fault::point("after-begin").await;
        let spent = match self.what_to_spend() {
            Ok(spent) => spent,
            Err((to, why, outcome)) => return Tried::Ended(to, why, outcome),
        };
        if let Err(error) = self.core.spill_is_ready().await {
            tracing::error!(%error, "The spill cannot be written, and it is required: nothing is refreshed.");
            return Tried::Ended(self.later(None), "spill_unavailable", Err(TokenError::StoreUnavailable));
        }
        let connecting = Instant::now();
        let connection = match timeout(self.core.timing.connect, endpoint.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return Tried::NotSent(not_sent),
            Err(_) => return Tried::NotSent(NotSent::Unreachable("it took too long".to_owned())),
        };
        let connecting = connecting.elapsed();
        let mut armed = None;
        fault::point("after-connect").await;
        if spent.is_some() {
            match self.arm().await {
                Ok((ArmOutcome::Armed, begun)) => armed = Some(begun),
                Ok((ArmOutcome::Lost | ArmOutcome::ProbeNeeded, _)) => return Tried::Lost,
                Ok((ArmOutcome::NotDurable { acknowledged, required }, _)) => {
                    tracing::error!(acknowledged, required, "Too few replicas hold the intent: nothing is sent.");
                    return Tried::Ended(self.later(None), "not_durable", Err(TokenError::StoreUnavailable));
                }
                // The store took the intent, perhaps, and went away. It is told that nothing was sent when it is back.
                Err(error) => {
                    tracing::warn!(key = ?self.errand.key, %error, "The intent could not be stored: nothing is sent.");
                    return Tried::Ended(FailTo::Released, "not_sent", Err(TokenError::StoreUnavailable));
                }
            }
        }
        let request = match (&spent, &self.errand.client) {
            (Some(refresh), _) => TokenRequest::Refresh { refresh, scope: self.scope_to_repeat() },
            (None, Some(client)) => {
                let audience = client.audience.as_deref();
                TokenRequest::ClientCredentials { audience, scope: client.scope.as_ref() }
            }
            (None, None) => {
                let refusal = Err(TokenError::ReauthorizationRequired);
                return Tried::Ended(FailTo::Released, NO_REFRESH_TOKEN, refusal);
            }
        };
        fault::point("after-arm").await;
        let started = Instant::now();
        let (reply, under_way) = timed(&self.core.clock, self.spend(endpoint, connection, &request)).await;
        let moments = Moments { armed, under_way };
        Tried::Answered { reply, spent, moments, took: Took { connecting, answering: started.elapsed() } }
    }

    /// The refresh token of this lease; `None` for a client token.
    fn what_to_spend(&self) -> Result<Option<RefreshToken>, (FailTo, &'static str, Outcome)> {
        if self.errand.client.is_some() {
            return Ok(None);
        }
        let Some(sealed) = &self.snapshot.refresh else {
            return Err(if self.snapshot.remaining <= min_ttl(self.snapshot.life) {
                let refusal = Err(TokenError::ReauthorizationRequired);
                (FailTo::ReauthorizationRequired, NO_REFRESH_TOKEN, refusal)
            } else if self.errand.rejected.is_some() {
                // Nothing can be done about the rejection, and the bank may think better of it.
                let same = hold(self.core, self.cockpit, &self.errand.key, &self.snapshot, self.asked, self.epoch);
                (FailTo::Released, NO_REFRESH_TOKEN, same)
            } else {
                (FailTo::Active { backoff: self.snapshot.remaining }, NO_REFRESH_TOKEN, Ok(()))
            });
        };
        match self.core.vault.open_refresh(&self.errand.key, &self.snapshot, self.lease.base, sealed) {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                let later = FailTo::Active { backoff: Duration::from_secs(5) };
                Err((later, UNREADABLE, Err(TokenError::Unreadable { why: error.to_string() })))
            }
        }
    }

    /// Writes the intent, repeating the same step while its answer is lost and the lease allows. Beside the outcome: from
    /// when on the lease that it prolonged is counted, at the earliest.
    async fn arm(&self) -> Result<(ArmOutcome, BootInstant), StoreError> {
        let timing = &self.core.timing;
        let give_up = self.asked.plus(timing.lease.saturating_sub(timing.margin * 2));
        loop {
            let Some(fence) = self.spent.spending.arm().await else {
                return Ok((ArmOutcome::Lost, self.core.clock.boot()));
            };
            let arm = Arm {
                attempt: self.attempt.clone(),
                fence,
                base: self.lease.base,
                lease: timing.armed_lease,
                probe: self.lease.probe,
            };
            let begun = self.core.clock.boot();
            let outcome = self.core.store.arm(&self.errand.key, &arm).await;
            let now = self.core.clock.boot();
            match outcome {
                // The guard: a process that slept between the intent and here no longer trusts its lease.
                Ok(ArmOutcome::Armed) if now.since(begun) + timing.margin >= timing.armed_lease => {
                    return Ok((ArmOutcome::Lost, begun));
                }
                Ok(outcome) => return Ok((outcome, begun)),
                Err(error) if now >= give_up => return Err(error),
                Err(_) => {
                    self.core.count_store_error("arm");
                    sleep(jittered(FIRST_POLL)).await;
                }
            }
        }
    }

    fn scope_to_repeat(&self) -> Option<&Scope> {
        let behaviour = &self.core.providers.get(&self.errand.provider)?.behaviour;
        self.snapshot.scope.as_ref().filter(|_| behaviour.send_scope_on_refresh)
    }
}
