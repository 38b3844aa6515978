//! What each step tells its script, and what the script's answer means.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

use super::scripts::{LuaScript, Reply};
use super::{Lane, RedisStore, follow, providers};
use crate::store::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    FailTo, Freeze, Holder, Lease, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Reassert,
    ReassertOutcome, Renew, RenewOutcome, Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive,
    ReviveOutcome, Sealed, Seed, SeedOutcome, Snapshot, Store, StoreError, Waiting, said_words,
};
use crate::store::keys;
use crate::store::record::Record;
use crate::store::steps::{date, span, tombstone_state};
use crate::words::ids::{AttemptId, GrantId, ProviderId, TokenKey, Version};
use crate::words::token_set::Scope;

impl Store for RedisStore {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        let script = &self.0.scripts.read;
        let reply = self.step(Lane::Reads, script, key, self.arguments(key)).await?;
        match reply.word.as_str() {
            "NONE" => Ok(None),
            "RECORD" => snapshot(&reply, key).map(Some),
            _ => Err(unexpected(script)),
        }
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        let script = &self.0.scripts.begin;
        let arguments = self
            .arguments(key)
            .text(begin.attempt.as_str())
            .text(begin.provider.as_str())
            .number(span(begin.wanted))
            .optional_text(begin.rejected)
            .number(span(begin.rejection_pause))
            .number(span(begin.lease))
            .number(span(begin.quarantine))
            .number(span(begin.grace.map_or(Duration::ZERO, |grace| grace.window)))
            .number(span(begin.grace.map_or(Duration::ZERO, |grace| grace.pause)))
            .optional_text(begin.create);
        let reply = self.step(Lane::Steps, script, key, arguments).await?;
        let wait = |why| Ok(BeginOutcome::Wait(why, Duration::from_millis(reply.first), snapshot(&reply, key)?));
        match reply.word.as_str() {
            "UNKNOWN" => Ok(BeginOutcome::Unknown),
            "REFUSED" => Ok(BeginOutcome::Refused(snapshot(&reply, key)?)),
            "FRESH" => Ok(BeginOutcome::Fresh(snapshot(&reply, key)?)),
            "BUSY" => wait(Waiting::Busy),
            "BACKOFF" => wait(Waiting::Backoff),
            "QUARANTINE" => wait(Waiting::Quarantine),
            "HOLD" => wait(Waiting::Hold),
            "GRANTED" => {
                let (record, now) = record(&reply, key)?;
                let (fence, probe) = (reply.first, reply.second == 1);
                let lease = Lease { fence, base: record.version, probe, alternate: record.alt.is_some() };
                Ok(BeginOutcome::Granted(lease, record.snapshot(now)))
            }
            _ => Err(unexpected(script)),
        }
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        let script = &self.0.scripts.arm;
        let arguments = self
            .arguments(key)
            .text(arm.attempt.as_str())
            .number(arm.fence)
            .text(&arm.base.grant.to_string())
            .number(arm.base.generation)
            .number(span(arm.lease))
            .flag(arm.probe);
        let (reply, acknowledged) = self.intent(script, key, arguments).await?;
        let required = self.0.durability.required();
        match reply.word.as_str() {
            "ARMED" if acknowledged < required => Ok(ArmOutcome::NotDurable { acknowledged, required }),
            "ARMED" => Ok(ArmOutcome::Armed),
            "LOST" => Ok(ArmOutcome::Lost),
            "PROBE_NEEDED" => Ok(ArmOutcome::ProbeNeeded),
            _ => Err(unexpected(script)),
        }
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        let script = &self.0.scripts.renew;
        let arguments = self.arguments(key).text(renew.attempt.as_str()).number(renew.fence).number(span(renew.lease));
        match self.step(Lane::Steps, script, key, arguments).await?.word.as_str() {
            "RENEWED" => Ok(RenewOutcome::Renewed),
            "LOST" => Ok(RenewOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let script = &self.0.scripts.commit;
        let arguments = self
            .arguments(key)
            .text(commit.attempt.as_str())
            .text(&commit.base.grant.to_string())
            .number(commit.base.generation)
            .sealed(&commit.access)
            .optional(commit.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(commit.refresh_fingerprint)
            .optional_text(commit.spent)
            .number(span(commit.remaining))
            .number(span(commit.life))
            .optional(commit.scope.as_ref().map(Scope::as_str))
            .optional(commit.certificate.as_ref())
            .flag(commit.forced)
            .text(&said_words(&commit.said))
            .optional_text(commit.since_intent.map(span));
        let reply = self.outcome(script, key, arguments).await?;
        match reply.word.as_str() {
            "STORED" => {
                let version = Version { generation: reply.first, ..commit.base };
                Ok(CommitOutcome::Stored { version, rolled_back: reply.second == 1 })
            }
            "SUPERSEDED" => Ok(CommitOutcome::Superseded { current: current(&reply, key)? }),
            "GONE" => Ok(CommitOutcome::Gone),
            "MISSING" => Ok(CommitOutcome::Missing),
            _ => Err(unexpected(script)),
        }
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        let script = &self.0.scripts.fail;
        let (to, backoff) = match fail.to {
            FailTo::Released => ("released", Duration::ZERO),
            FailTo::Active { backoff } => ("active", backoff),
            FailTo::Uncertain => ("uncertain", Duration::ZERO),
            FailTo::ReauthorizationRequired => ("reauthorization_required", Duration::ZERO),
            FailTo::Alternate => ("alternate", Duration::ZERO),
        };
        let arguments = self
            .arguments(key)
            .text(fail.attempt.as_str())
            .number(fail.fence)
            .text(&fail.base.grant.to_string())
            .number(fail.base.generation)
            .text(to)
            .number(span(backoff))
            .text(fail.why)
            .text(&said_words(&fail.said));
        match self.step(Lane::Steps, script, key, arguments).await?.word.as_str() {
            "RECORDED" => Ok(FailOutcome::Recorded),
            "LOST" => Ok(FailOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        let script = &self.0.scripts.restore;
        let arguments = self
            .arguments(key)
            .text(restore.attempt.as_str())
            .text(restore.provider.as_str())
            .text(&restore.version.grant.to_string())
            .number(restore.version.generation)
            .sealed(&restore.access)
            .optional(restore.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(restore.refresh_fingerprint)
            .number(span(restore.remaining))
            .number(span(restore.life))
            .optional(restore.scope.as_ref().map(Scope::as_str))
            .optional(restore.bank_consent_id.as_ref())
            .optional_text(restore.consent_expires_at.map(date))
            .optional(restore.certificate.as_ref())
            .optional_text(restore.granted_at.map(date));
        let reply = self.outcome(script, key, arguments).await?;
        match reply.word.as_str() {
            "RESTORED" => Ok(RestoreOutcome::Restored),
            "NOT_NEEDED" => Ok(RestoreOutcome::NotNeeded { current: current(&reply, key)? }),
            "GONE" => Ok(RestoreOutcome::Gone),
            _ => Err(unexpected(script)),
        }
    }

    async fn reassert(&self, key: &TokenKey, reassert: &Reassert) -> Result<ReassertOutcome, StoreError> {
        let script = &self.0.scripts.reassert;
        let (attempt, fence, lease) = match &reassert.holder {
            Some(Holder { attempt, fence, lease }) => (Some(attempt.as_str()), *fence, *lease),
            None => (None, 0, Duration::ZERO),
        };
        let arguments = self
            .arguments(key)
            .text(&reassert.base.grant.to_string())
            .number(reassert.base.generation)
            .optional(attempt)
            .number(fence)
            .number(span(lease));
        let reply = self.outcome(script, key, arguments).await?;
        match reply.word.as_str() {
            "HELD" => Ok(ReassertOutcome::Held(reply.first)),
            "NOTED" => Ok(ReassertOutcome::Noted),
            "MOVED" => Ok(ReassertOutcome::Moved),
            "MISSING" => Ok(ReassertOutcome::Missing),
            _ => Err(unexpected(script)),
        }
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        let script = &self.0.scripts.seed;
        let arguments = self
            .arguments(key)
            .text(seed.provider.as_str())
            .text(&seed.grant.to_string())
            .optional_text(seed.expected)
            .sealed(&seed.access)
            .optional(seed.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(seed.refresh_fingerprint)
            .number(span(seed.remaining))
            .number(span(seed.life))
            .optional(seed.scope.as_ref().map(Scope::as_str))
            .optional(seed.bank_consent_id.as_ref())
            .optional_text(seed.consent_expires_at.map(date))
            .optional(seed.certificate.as_ref())
            .optional_text(seed.age.map(span));
        let reply = self.outcome(script, key, arguments).await?;
        if reply.word == "MISSING" {
            return Ok(SeedOutcome::Missing);
        }
        let current = current(&reply, key)?;
        match reply.word.as_str() {
            "CREATED" => Ok(SeedOutcome::Created(current)),
            "REPLACED" => Ok(SeedOutcome::Replaced(current)),
            "EXISTS" => Ok(SeedOutcome::Exists(current)),
            "MISMATCH" => Ok(SeedOutcome::Mismatch(current)),
            "SPENT" => Ok(SeedOutcome::Spent(current)),
            _ => Err(unexpected(script)),
        }
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        let script = &self.0.scripts.end;
        let arguments = self
            .arguments(key)
            .optional_text(end.grant.as_ref().map(GrantId::to_string))
            .text(tombstone_state(end.state).as_str())
            .text(&end.why)
            .optional(end.remembered.as_ref().map(|(provider, _)| provider.as_str()))
            .optional_text(end.remembered.as_ref().map(|(_, version)| *version));
        let reply = self.outcome(script, key, arguments).await?;
        match reply.word.as_str() {
            "ENDED" => Ok(EndOutcome::Ended),
            "NOT_FOUND" => Ok(EndOutcome::NotFound),
            _ => Err(unexpected(script)),
        }
    }

    async fn revive(&self, key: &TokenKey, revive: &Revive) -> Result<ReviveOutcome, StoreError> {
        let script = &self.0.scripts.revive;
        let replaced = revive.replaced.as_ref();
        let arguments = self
            .arguments(key)
            .text(revive.attempt.as_str())
            .optional_text(revive.expected)
            .optional_text(replaced.map(|resealed| resealed.from))
            .optional_text(replaced.map(|resealed| resealed.grant))
            .optional(replaced.map(|resealed| resealed.refresh.as_bytes()))
            .optional_text(replaced.map(|resealed| resealed.fingerprint));
        let reply = self.outcome(script, key, arguments).await?;
        if reply.word == "NOT_FOUND" {
            return Ok(ReviveOutcome::NotFound);
        }
        let (Record { version: current, state, .. }, _) = record(&reply, key)?;
        match reply.word.as_str() {
            "REVIVED" => Ok(ReviveOutcome::Revived(current)),
            "MISMATCH" => Ok(ReviveOutcome::Mismatch(current)),
            "NOT_SUSPENDED" => Ok(ReviveOutcome::NotSuspended { state, current }),
            "NOTHING" => Ok(ReviveOutcome::Nothing(current)),
            "SPENT" => Ok(ReviveOutcome::Spent(current)),
            _ => Err(unexpected(script)),
        }
    }

    async fn reprieve(&self, key: &TokenKey, reprieve: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        let script = &self.0.scripts.reprieve;
        let arguments = self
            .arguments(key)
            .text(reprieve.attempt.as_str())
            .number(reprieve.fence)
            .text(&reprieve.version.grant.to_string())
            .number(reprieve.version.generation)
            .flag(reprieve.uncertain);
        let reply = self.outcome(script, key, arguments).await?;
        match reply.word.as_str() {
            "REPRIEVED" => Ok(ReprieveOutcome::Reprieved),
            "NOT_NEEDED" => Ok(ReprieveOutcome::NotNeeded),
            _ => Err(unexpected(script)),
        }
    }

    async fn history(&self, key: &TokenKey) -> Result<Vec<Event>, StoreError> {
        let script = &self.0.scripts.history;
        let reply = self.step(Lane::Reads, script, key, self.arguments(key)).await?;
        match reply.word.as_str() {
            // What a later release wrote is passed over.
            "LINES" => Ok(reply.lines().filter_map(|line| Event::parse(&line)).collect()),
            _ => Err(unexpected(script)),
        }
    }

    async fn permits(&self, provider: &ProviderId, ask: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        providers::permits(self, provider, ask).await
    }

    async fn renew_permit(&self, provider: &ProviderId, permit: &AttemptId, life: Duration) -> Result<(), StoreError> {
        providers::renew(self, provider, permit, life).await
    }

    async fn report(&self, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
        providers::report(self, provider, report).await
    }

    async fn freeze(&self, provider: &ProviderId, order: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        providers::freeze(self, provider, order).await
    }

    async fn standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
        providers::standing(self, provider).await
    }

    async fn reunite<F>(&self, process: &str, pace: Pace, known: u64, attend: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        self.keep_gate(process, pace, known, attend).await;
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        follow::follow(&self.0.route, &self.0.keys.changes(), &changes).await;
    }
}

pub(super) fn unreadable(field: &str, key: &TokenKey) -> StoreError {
    StoreError::Unreadable(format!("the field {field} of a {} record is not what it has to be", keys::kind(key)))
}

pub(super) fn record(reply: &Reply, key: &TokenKey) -> Result<(Record, u64), StoreError> {
    reply.record().map_err(|field| unreadable(field, key))
}

fn snapshot(reply: &Reply, key: &TokenKey) -> Result<Snapshot, StoreError> {
    record(reply, key).map(|(record, now)| record.snapshot(now))
}

fn current(reply: &Reply, key: &TokenKey) -> Result<Version, StoreError> {
    record(reply, key).map(|(record, _)| record.version)
}

pub(super) fn unexpected(script: &LuaScript) -> StoreError {
    StoreError::Refused(format!("redis answers {} with an outcome it does not have", script.name))
}
