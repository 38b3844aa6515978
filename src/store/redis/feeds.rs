//! What each step on a feed's record and on a name tells its script, and what the answer means.

use std::time::Duration;

use super::durability::Durability;
use super::outcomes::unexpected;
use super::scripts::{Arguments, LuaScript, Reply};
use super::{Lane, RedisStore};
use crate::store::contract::{Feeds, MoveFeed, MoveFeedOutcome, StoreError, TakeFeed, TakeFeedOutcome};
use crate::store::steps::span;
use crate::words::ids::{BankNameDigest, ConsentId, ProviderId};

impl Feeds for RedisStore {
    async fn take_feed(&self, provider: &ProviderId, take: &TakeFeed) -> Result<TakeFeedOutcome, StoreError> {
        let script = &self.0.scripts.feed_take;
        let arguments = Arguments::default().text(take.by.as_str()).number(span(take.life));
        let reply = step(self, script, self.0.keys.feed(provider), arguments, Lane::Steps).await?;
        match reply.word.as_str() {
            "TAKEN" => {
                let (record, now) = reply.feed().map_err(unreadable)?;
                let idle = record.moved_at.map(|at| Duration::from_millis(now.saturating_sub(at)));
                Ok(TakeFeedOutcome::Taken { fence: record.fence, position: record.position, idle })
            }
            "BUSY" => Ok(TakeFeedOutcome::Busy(Duration::from_millis(reply.first))),
            _ => Err(unexpected(script)),
        }
    }

    async fn move_feed(&self, provider: &ProviderId, moved: &MoveFeed) -> Result<MoveFeedOutcome, StoreError> {
        let script = &self.0.scripts.feed_move;
        let arguments = Arguments::default()
            .text(moved.by.as_str())
            .number(moved.fence)
            .text(&moved.from.map(|from| from.to_string()).unwrap_or_default())
            .number(moved.to)
            .number(span(moved.life));
        let reply = step(self, script, self.0.keys.feed(provider), arguments, Lane::Outcomes).await?;
        match reply.word.as_str() {
            "MOVED" => Ok(MoveFeedOutcome::Moved),
            "LOST" => Ok(MoveFeedOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn name_consent(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        consent: &ConsentId,
        life: Duration,
    ) -> Result<(), StoreError> {
        let script = &self.0.scripts.feed_name;
        let arguments = Arguments::default().text(consent.as_str()).number(span(life));
        let reply = step(self, script, self.0.keys.name(provider, name), arguments, Lane::Outcomes).await?;
        match reply.word.as_str() {
            "NAMED" => Ok(()),
            _ => Err(unexpected(script)),
        }
    }

    async fn consents_named(&self, provider: &ProviderId, name: &BankNameDigest) -> Result<Vec<ConsentId>, StoreError> {
        let script = &self.0.scripts.feed_named;
        let key = self.0.keys.name(provider, name);
        let reply = step(self, script, key, Arguments::default(), Lane::Reads).await?;
        match reply.word.as_str() {
            "NAMES" => reply.named().map(|record| record.consents).map_err(unreadable),
            _ => Err(unexpected(script)),
        }
    }
}

/// Runs a step; one in the lane of outcomes counts only once as many replicas or disks as required have it.
async fn step(
    store: &RedisStore,
    script: &LuaScript,
    key: String,
    arguments: Arguments,
    lane: Lane,
) -> Result<Reply, StoreError> {
    let durable = matches!(lane, Lane::Outcomes);
    let durability = Some(store.0.durability).filter(|durability| durable && durability.waits());
    let required = durability.map_or(0, Durability::required);
    let lane = if durable && durability.is_none() { Lane::Steps } else { lane };
    let (value, acknowledged) = store.call_and_wait(lane, script, &[key], &arguments, durability).await?;
    let reply = Reply::parse(value, script)?.map_err(|field| unreadable(&field))?;
    if acknowledged < required {
        let text = format!("{acknowledged} of {required} required redis replicas acknowledged {} in time", script.name);
        return Err(StoreError::Unavailable(text));
    }
    Ok(reply)
}

fn unreadable(field: &str) -> StoreError {
    StoreError::Unreadable(format!("the field {field} of a feed's record is not what it has to be"))
}
