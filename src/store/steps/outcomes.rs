//! What came of a refresh: tokens, a failure, or a suspension that is taken back.

use super::{Tokens, holds, intends, remember_spent, settle, span};
use crate::store::contract::{
    Commit, CommitOutcome, Fail, FailOutcome, FailTo, RecordState, Reprieve, ReprieveOutcome,
};
use crate::store::record::{Alternate, Record};
use crate::words::ids::{AttemptId, Fence};

/// Replaces the token set of the version that was spent.
pub fn commit(slot: &mut Option<Record>, now: u64, commit: &Commit) -> CommitOutcome {
    let Some(record) = slot.as_mut().filter(|record| record.state != RecordState::Pending) else {
        return CommitOutcome::Missing;
    };
    if record.is_tombstone() {
        return CommitOutcome::Gone;
    }
    let (current, next) = (record.version, commit.base.next());
    if current.grant != commit.base.grant {
        return CommitOutcome::Superseded { current };
    }
    if current == next && record.committed_by.as_ref() == Some(&commit.attempt) {
        return CommitOutcome::Stored { version: next, rolled_back: record.committed_back };
    }
    if current.generation > commit.base.generation {
        let differs = commit.refresh_fingerprint != record.refresh_fingerprint;
        if current == next && differs {
            let fingerprint = commit.refresh_fingerprint;
            let second = commit.refresh.clone().map(|refresh| Alternate { refresh, version: next, fingerprint });
            record.alt = second.or(record.alt.take());
        }
        return CommitOutcome::Superseded { current };
    }
    let rolled_back = current.generation < commit.base.generation;
    let intended_at = record.intent.as_ref().filter(|intent| intent.attempt == commit.attempt).map(|intent| intent.at);
    record.version = next;
    settle(record);
    let tokens = Tokens {
        access: &commit.access,
        refresh: commit.refresh.as_ref(),
        refresh_fingerprint: commit.refresh_fingerprint,
        remaining: commit.remaining,
        life: commit.life,
    };
    tokens.store(record, now);
    if let (Some(at), Some(since)) = (intended_at, commit.since_intent) {
        let latest = at + span(since) + span(commit.remaining);
        record.access_until = record.access_until.min(latest).max(now);
    }
    remember_spent(record, commit.spent);
    if commit.scope.is_some() {
        record.scope.clone_from(&commit.scope);
    }
    record.certificate.clone_from(&commit.certificate);
    record.committed_by = Some(commit.attempt.clone());
    record.committed_back = rolled_back;
    record.forced_at = commit.forced.then_some(now);
    CommitOutcome::Stored { version: next, rolled_back }
}

/// Ends a lease without a new token set.
pub fn fail(slot: &mut Option<Record>, now: u64, fail: &Fail) -> FailOutcome {
    let Some(record) = slot else { return FailOutcome::Lost };
    let lease = format!("{} {}", fail.fence, fail.attempt.as_str());
    if !holds(record, &fail.attempt, fail.fence) || record.version != fail.base {
        let repeated = record.failed_lease.as_ref() == Some(&lease);
        return if repeated { FailOutcome::Recorded } else { FailOutcome::Lost };
    }
    let alternate = record.alt.take_if(|alt| fail.to == FailTo::Alternate && alt.version == record.version);
    match fail.to {
        FailTo::Released => not_spent(record, &fail.attempt),
        FailTo::Active { backoff } => {
            not_spent(record, &fail.attempt);
            record.not_before = now + span(backoff);
        }
        FailTo::Uncertain => {
            record.state = RecordState::Uncertain;
            record.sends = record.sends.max(1);
            record.quarantine_from = now;
        }
        FailTo::ReauthorizationRequired | FailTo::Alternate => {
            record.state = RecordState::ReauthorizationRequired;
            record.intent = None;
            record.sends = 0;
            record.quarantine_from = 0;
        }
    }
    if let Some(alternate) = alternate {
        remember_spent(record, record.refresh_fingerprint);
        record.state = RecordState::Active;
        record.refresh = Some(alternate.refresh);
        record.refresh_fingerprint = alternate.fingerprint;
    }
    record.holder = None;
    record.lease_until = 0;
    if fail.to != FailTo::Released {
        record.failures = record.failures.saturating_add(1);
        record.why = Some(fail.why.to_owned());
    }
    record.failed_lease = Some(lease);
    FailOutcome::Recorded
}

/// The attempt's own intent is explained. The record is active again once every intent is.
fn not_spent(record: &mut Record, attempt: &AttemptId) {
    if intends(record, attempt) {
        record.intent = None;
        record.sends = record.sends.saturating_sub(1);
    }
    if record.sends == 0 {
        record.state = RecordState::Active;
        record.quarantine_from = 0;
    } else {
        record.state = RecordState::Uncertain;
    }
}

/// Takes back a suspension, if the consent is suspended by exactly that refusal. The refused token was not spent by it; a
/// send before that nobody has explained stays unexplained.
pub fn reprieve(slot: &mut Option<Record>, reprieve: &Reprieve) -> ReprieveOutcome {
    let Some(record) = slot.as_mut().filter(|record| record.state == RecordState::ReauthorizationRequired) else {
        return ReprieveOutcome::NotNeeded;
    };
    // A lease that the store forgot was told again, and has a later fence since.
    let refused =
        record.failed_lease.as_deref().and_then(|lease| lease.split_once(' ')).is_some_and(|(fence, holder)| {
            holder == reprieve.attempt.as_str() && fence.parse::<Fence>().is_ok_and(|fence| fence >= reprieve.fence)
        });
    if record.version != reprieve.version || !refused {
        return ReprieveOutcome::NotNeeded;
    }
    record.why = Some(REFUSED_ONCE.to_owned());
    if reprieve.uncertain {
        record.state = RecordState::Uncertain;
        record.sends = 1;
        record.quarantine_from = 0;
    } else {
        record.state = RecordState::Active;
    }
    ReprieveOutcome::Reprieved
}

/// The class of a consent that was refused together with others and is tried once more.
pub const REFUSED_ONCE: &str = "refused_once";
