//! What each step of an attempt tells its script, and what the answer means.
//!
//! An attempt lives in another slot of a cluster than its consent, so no script touches both.

use super::durability::Durability;
use super::outcomes::{record, unexpected};
use super::scripts::{Arguments, LuaScript, Reply};
use super::{Lane, RedisStore};
use crate::store::attempt::AttemptRecord;
use crate::store::contract::{
    Attempt, Attempts, Await, AwaitOutcome, Bind, BindOutcome, Claim, ClaimOutcome, ClaimTo, Open, Settle,
    SettleOutcome, StoreError, Tell, Term, said_words,
};
use crate::store::steps::{date, span};
use crate::words::ids::{AttemptId, StateDigest, TokenKey};
use crate::words::token_set::Scope;

impl Attempts for RedisStore {
    async fn await_grant(&self, key: &TokenKey, wait: &Await) -> Result<AwaitOutcome, StoreError> {
        let script = &self.0.scripts.await_grant;
        let arguments =
            self.arguments(key).text(wait.provider.as_str()).text(&wait.grant.to_string()).number(span(wait.life));
        let reply = self.outcome(script, key, arguments).await?;
        let (record, now) = record(&reply, key)?;
        let version = record.version;
        match reply.word.as_str() {
            "PENDING" => Ok(AwaitOutcome::Pending(version)),
            "STANDS" => Ok(AwaitOutcome::Stands { state: record.state_at(now), version }),
            "ELSEWHERE" => Ok(AwaitOutcome::Elsewhere(version)),
            _ => Err(unexpected(script)),
        }
    }

    async fn tell(&self, key: &TokenKey, tell: &Tell) -> Result<(), StoreError> {
        let script = &self.0.scripts.tell;
        let arguments = self
            .arguments(key)
            .text(&tell.why)
            .text(&said_words(&tell.said))
            .optional(tell.attempt.as_ref().map(AttemptId::as_str))
            .text(tell.kind.as_str());
        match self.step(Lane::Steps, script, key, arguments).await?.word.as_str() {
            "TOLD" | "NOT_FOUND" => Ok(()),
            _ => Err(unexpected(script)),
        }
    }

    async fn term(&self, key: &TokenKey, term: &Term) -> Result<bool, StoreError> {
        let script = &self.0.scripts.term;
        let arguments = self.arguments(key).text(&term.grant.to_string()).number(date(term.until));
        match self.step(Lane::Steps, script, key, arguments).await?.word.as_str() {
            "NOTED" => Ok(true),
            "NOT_FOUND" => Ok(false),
            _ => Err(unexpected(script)),
        }
    }

    async fn open(&self, state: &StateDigest, open: &Open) -> Result<(), StoreError> {
        let script = &self.0.scripts.attempt_open;
        let arguments = Arguments::default()
            .text(open.consent.as_str())
            .text(open.provider.as_str())
            .text(&open.grant.to_string())
            .optional(open.scope.as_ref().map(Scope::as_str))
            .optional(open.return_url.as_ref())
            .sealed(&open.verifier)
            .number(span(open.life));
        let (reply, acknowledged) = step(self, Lane::Outcomes, script, state, arguments).await?;
        let required = self.0.durability.required();
        match reply.word.as_str() {
            "OPENED" if acknowledged < required => Err(StoreError::Unavailable(format!(
                "{acknowledged} of {required} required redis replicas acknowledged {} in time",
                script.name
            ))),
            "OPENED" => Ok(()),
            _ => Err(unexpected(script)),
        }
    }

    async fn bind(&self, state: &StateDigest, bind: &Bind) -> Result<BindOutcome, StoreError> {
        let script = &self.0.scripts.attempt_bind;
        let arguments = Arguments::default().text(&bind.browser.to_string()).number(span(bind.life));
        let (reply, _) = step(self, Lane::Steps, script, state, arguments).await?;
        match reply.word.as_str() {
            "UNKNOWN" => Ok(BindOutcome::Unknown),
            "FOREIGN" => Ok(BindOutcome::Foreign),
            "BOUND" => attempt(&reply).map(BindOutcome::Bound),
            "USED" => attempt(&reply).map(BindOutcome::Used),
            _ => Err(unexpected(script)),
        }
    }

    async fn claim(&self, state: &StateDigest, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        let script = &self.0.scripts.attempt_claim;
        let outcome = match &claim.to {
            ClaimTo::Exchange => None,
            ClaimTo::End(outcome) => Some(outcome),
        };
        let arguments = Arguments::default()
            .text(&claim.browser.to_string())
            .text(claim.by.as_str())
            .optional(outcome)
            .number(span(claim.life));
        let (reply, acknowledged) = step(self, Lane::Intents, script, state, arguments).await?;
        let required = self.0.durability.required();
        match reply.word.as_str() {
            "UNKNOWN" => Ok(ClaimOutcome::Unknown),
            "FOREIGN" => Ok(ClaimOutcome::Foreign),
            "CLAIMED" if acknowledged < required => Ok(ClaimOutcome::NotDurable { acknowledged, required }),
            "CLAIMED" => attempt(&reply).map(ClaimOutcome::Claimed),
            "BUSY" => attempt(&reply).map(ClaimOutcome::Busy),
            "OVER" => attempt(&reply).map(ClaimOutcome::Over),
            _ => Err(unexpected(script)),
        }
    }

    async fn settle(&self, state: &StateDigest, settle: &Settle) -> Result<SettleOutcome, StoreError> {
        let script = &self.0.scripts.attempt_settle;
        let arguments = Arguments::default().text(settle.by.as_str()).text(&settle.outcome).number(span(settle.life));
        let (reply, _) = step(self, Lane::Steps, script, state, arguments).await?;
        match reply.word.as_str() {
            "SETTLED" => Ok(SettleOutcome::Settled),
            "LOST" => Ok(SettleOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn attempt(&self, state: &StateDigest) -> Result<Option<Attempt>, StoreError> {
        let script = &self.0.scripts.attempt_read;
        let (reply, _) = step(self, Lane::Reads, script, state, Arguments::default()).await?;
        match reply.word.as_str() {
            "NONE" => Ok(None),
            "ATTEMPT" => attempt(&reply).map(Some),
            _ => Err(unexpected(script)),
        }
    }
}

/// Runs a step. In the lanes of intents and outcomes, where replicas or disks are required, it waits for them and says how
/// many acknowledged it.
async fn step(
    store: &RedisStore,
    lane: Lane,
    script: &LuaScript,
    state: &StateDigest,
    arguments: Arguments,
) -> Result<(Reply, u32), StoreError> {
    let durable = matches!(lane, Lane::Intents | Lane::Outcomes);
    let durability = Some(store.0.durability).filter(|durability: &Durability| durable && durability.waits());
    let lane = if durable && durability.is_none() { Lane::Steps } else { lane };
    let keys = [store.0.keys.attempt(state)];
    let (value, acknowledged) = store.call_and_wait(lane, script, &keys, &arguments, durability).await?;
    Ok((Reply::parse(value, script)?.map_err(|field| unreadable(&field))?, acknowledged))
}

fn attempt(reply: &Reply) -> Result<Attempt, StoreError> {
    let (record, now) = reply.attempt().map_err(unreadable)?;
    Ok(AttemptRecord::snapshot(&record, now))
}

fn unreadable(field: &str) -> StoreError {
    StoreError::Unreadable(format!("the field {field} of an attempt is not what it has to be"))
}
