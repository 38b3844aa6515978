//! The one request, while the bank thinks: renewing the lease, and knowing when no answer is worth waiting for.

use std::future::pending;

use tokio::time::sleep;

use super::Refresh;
use crate::oauth::{Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::{ReassertOutcome, Renew, RenewOutcome, Store};
use crate::token::loss;
use crate::words::clock::{BootInstant, Clock};

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    /// Sends the request and waits for the bank, renewing the lease. Hangs up only when somebody else may hold the lease
    /// or when no answer can be expected any more.
    pub(super) async fn spend(&self, endpoint: &E, connection: E::Connection, request: &TokenRequest<'_>) -> Reply {
        // A permit is politeness, a lease is not: neither waits for the other.
        let permit = async {
            loop {
                sleep(self.core.timing.renewal).await;
                let (provider, life) = (&self.errand.provider, self.core.permit_life());
                if self.core.store.renew_permit(provider, &self.attempt, life).await.is_err() {
                    self.core.count_store_error("renew_permit");
                }
            }
        };
        let lost = async {
            if self.errand.client.is_some() {
                return pending().await;
            }
            loop {
                sleep(self.core.timing.renewal).await;
                let Some(fence) = self.spent.spending.fence().await else { return };
                let lease = self.core.timing.armed_lease;
                let renew = Renew { attempt: self.attempt.clone(), fence, lease };
                match self.core.store.renew(&self.errand.key, &renew).await {
                    Ok(RenewOutcome::Lost) if self.has_lost_its_place().await => return,
                    Ok(RenewOutcome::Renewed | RenewOutcome::Lost) => {}
                    Err(_) => self.core.count_store_error("renew"),
                }
            }
        };
        tokio::select! {
            // The answer first: a process that stood still finds it there together with the end of its time.
            biased;
            reply = endpoint.send(connection, request) => reply,
            () = permit => TokenOutcome::Unknown { why: "no_answer" }.into(),
            () = lost => TokenOutcome::Unknown { why: "fence_lost" }.into(),
            () = sleep(self.core.timing.send) => TokenOutcome::Unknown { why: "no_answer" }.into(),
        }
    }

    /// Whether the request left within the lease. A process that stood still between the guard and the first byte cannot
    /// know then, and finds out here (W5).
    pub(super) fn look_at_the_time(&mut self, armed: Option<BootInstant>, left_at: Option<BootInstant>) {
        let took = armed.zip(left_at).map(|(armed, left_at)| left_at.since(armed));
        if let Some(took) = took.filter(|took| *took > self.core.timing.armed_lease) {
            self.said.late = true;
            tracing::error!(?took, "This process stood still between its last look at the clock and a token request.");
            loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
        }
    }

    /// Whether the answer is no longer worth waiting for. A store that forgot the lease is told of it again. Whoever lost it
    /// to somebody else hangs up, unless the bank takes the token once more: then the answer may still be the newest.
    async fn has_lost_its_place(&self) -> bool {
        let lease = self.core.timing.armed_lease;
        let behaviour = self.core.providers.get(&self.errand.provider).map(|provider| &provider.behaviour);
        let tolerant = behaviour.is_some_and(|behaviour| behaviour.reuse_grace.is_some());
        match self.spent.spending.reassert(&self.core.store, lease).await {
            Ok(ReassertOutcome::Held(_) | ReassertOutcome::Missing) => false,
            Ok(ReassertOutcome::Noted) => !tolerant,
            Ok(ReassertOutcome::Moved) if tolerant => match self.core.store.read(&self.errand.key).await {
                Ok(Some(now)) => now.version.grant != self.lease.base.grant || !now.state.is_usable(),
                Ok(None) | Err(_) => false,
            },
            Ok(ReassertOutcome::Moved) => true,
            Err(_) => {
                self.core.count_store_error("reassert");
                false
            }
        }
    }
}
