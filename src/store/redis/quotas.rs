//! What each step of a quota tells its script, and what the answer means.
//!
//! They take the lane of reads: a crowd of calls must not hold up the steps of a refresh.

use std::time::Duration;

use super::outcomes::unexpected;
use super::scripts::{Arguments, LuaScript, Reply};
use super::{Lane, RedisStore};
use crate::store::contract::{Quotas, Refund, Spend, SpendOutcome, StoreError, Window};
use crate::store::steps::span;
use crate::words::ids::ConsentId;

impl Quotas for RedisStore {
    async fn spend(&self, consent: &ConsentId, spend: &Spend) -> Result<SpendOutcome, StoreError> {
        let script = &self.0.scripts.spend;
        let (length, offset) = match spend.window {
            Window::Sliding(length) => (length, None),
            Window::Fixed { length, offset } => (length, Some(span(offset))),
        };
        let arguments = Arguments::default()
            .text(&spend.group.to_string())
            .text(&spend.call.to_string())
            .number(u64::from(spend.most))
            .number(span(length).max(1))
            .optional_text(offset);
        let reply = step(self, script, consent, arguments).await?;
        match reply.word.as_str() {
            "COUNTED" => Ok(SpendOutcome::Counted { remaining: u32::try_from(reply.first).unwrap_or(u32::MAX) }),
            "EXHAUSTED" => Ok(SpendOutcome::Exhausted { until: Duration::from_millis(reply.first) }),
            _ => Err(unexpected(script)),
        }
    }

    async fn refund(&self, consent: &ConsentId, refund: &Refund) -> Result<(), StoreError> {
        let script = &self.0.scripts.refund;
        let arguments = Arguments::default().text(&refund.group.to_string()).text(&refund.call.to_string());
        match step(self, script, consent, arguments).await?.word.as_str() {
            "REFUNDED" => Ok(()),
            _ => Err(unexpected(script)),
        }
    }
}

async fn step(
    store: &RedisStore,
    script: &LuaScript,
    consent: &ConsentId,
    arguments: Arguments,
) -> Result<Reply, StoreError> {
    let value = store.call(Lane::Reads, script, &store.0.keys.quota(consent), &arguments).await?;
    let unreadable =
        |field: String| StoreError::Unreadable(format!("the field {field} of a quota is not what it has to be"));
    Reply::parse(value, script)?.map_err(unreadable)
}
