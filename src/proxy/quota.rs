//! A call under a quota: whether it counts, and what is counted, just before it is sent.
//!
//! It counts where the app says nothing of its customer, and reaches the bank: nothing of ours can refuse it behind this
//! point, whatever is sent again counts once, and what could not be sent at all is taken back.

use http::request::Parts;

use super::Inner;
use super::forward::Outgoing;
use super::plan::ServedApi;
use super::respond::Refusal;
use crate::consent::{Quota, Spent};
use crate::oauth::TokenEndpoint;
use crate::store::{Quotas, Refund, Spend};
use crate::words::clock::Clock;
use crate::words::ids::{CallId, ConsentId};
use crate::words::metrics::QuotaLabels;

/// A call that was counted.
#[derive(Debug)]
pub(super) struct Counted {
    consent: ConsentId,
    refund: Refund,
    /// How many more there is room for.
    pub(super) remaining: u32,
}

impl<S: Quotas, E: TokenEndpoint, C: Clock> Inner<S, E, C> {
    /// Counts a call of this consent, if it is one that counts. `None`: it is sent without being counted.
    pub(super) async fn count(
        &self,
        (api, quota): (&ServedApi, &Quota),
        (app, outgoing): (&Parts, &Outgoing<'_>),
        consent: &ConsentId,
        call: CallId,
    ) -> Result<Option<Box<Counted>>, Refusal> {
        let told = |outcome| {
            let labels = QuotaLabels { api: api.name.clone(), outcome };
            self.metrics.quota_calls.get_or_create(&labels).inc();
        };
        if api.psu_headers.iter().any(|name| outgoing.passes_on(name)) {
            told("attended");
            return Ok(None);
        }
        if quota.is_continued_by(app.uri.query()) {
            told("continued");
            return Ok(None);
        }
        let group = quota.group(api.base.authority().as_str(), outgoing.path());
        let spend = Spend { group, call, most: quota.calls, window: quota.window() };
        match self.counter.spend(&self.tokens, &self.clock, consent, spend).await {
            Spent::Counted { remaining } => {
                told("counted");
                let refund = Refund { group, call };
                Ok(Some(Box::new(Counted { consent: consent.clone(), refund, remaining })))
            }
            Spent::Exhausted { until } => {
                told("exhausted");
                let (calls, psu_headers) = (quota.calls, api.psu_headers.to_vec());
                Err(Refusal::QuotaExhausted { calls, until, psu_headers })
            }
            Spent::Unknown => {
                told("uncounted");
                Ok(None)
            }
        }
    }

    /// Takes back a call of which not a byte reached the bank.
    pub(super) async fn uncount(&self, api: &ServedApi, counted: &Counted) {
        self.counter.refund(&self.tokens, &counted.consent, counted.refund).await;
        let labels = QuotaLabels { api: api.name.clone(), outcome: "refunded" };
        self.metrics.quota_calls.get_or_create(&labels).inc();
    }
}
