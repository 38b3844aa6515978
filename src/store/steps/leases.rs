//! The way to the bank: who may refresh, that the refresh token is being spent, and that it still is.

use std::time::Duration;

use super::{holds, intends, span};
use crate::store::contract::{Arm, ArmOutcome, Begin, BeginOutcome, Lease, RecordState, Renew, RenewOutcome, Waiting};
use crate::store::record::{Intent, Record};

/// Asks for a token, or for the right to get one.
pub fn begin(slot: &mut Option<Record>, now: u64, begin: &Begin) -> BeginOutcome {
    let Some(record) = slot else {
        let Some(grant) = begin.create else { return BeginOutcome::Unknown };
        let record = slot.insert(Record::empty(begin.provider.clone(), grant));
        return grant_lease(record, now, begin);
    };
    if record.provider != begin.provider {
        return BeginOutcome::Unknown;
    }
    if !record.state_at(now).is_usable() {
        return BeginOutcome::Refused(record.snapshot(now));
    }
    let wait = |why, milliseconds, record: &Record| {
        BeginOutcome::Wait(why, Duration::from_millis(milliseconds), record.snapshot(now))
    };
    let remaining = remaining_that_counts(record, now, begin);
    if remaining > span(begin.wanted) {
        return BeginOutcome::Fresh(record.snapshot(now));
    }
    let held = record.lease_until > now;
    // In an uncertain record the holder is either a prober or still the sender whose fate is not known.
    let probing = record.state == RecordState::Uncertain
        && record.holder.is_some()
        && record.holder.as_ref() != record.intent.as_ref().map(|intent| &intent.attempt);
    if record.holder.as_ref() == Some(&begin.attempt) && (record.state == RecordState::Leased || probing) {
        record.lease_until = now + span(begin.lease);
        return granted(record, now);
    }
    if record.not_before > now {
        return wait(Waiting::Backoff, record.not_before - now, record);
    }
    let busy = matches!(record.state, RecordState::Leased | RecordState::Armed) || probing;
    if busy && held {
        return wait(Waiting::Busy, record.lease_until - now, record);
    }
    if record.state == RecordState::Armed {
        record.state = RecordState::Uncertain;
        // Counted from when somebody notices: if nobody reached the store for a while, the holder's answer may be on its
        // way here as well.
        record.quarantine_from = now;
    }
    if record.state == RecordState::Uncertain {
        // Within its grace the bank takes the token once more, and there is no use in waiting until the window is over.
        let sent = record.intent.as_ref().map(|intent| intent.at);
        let graced = begin.grace.filter(|grace| sent.is_some_and(|at| now < at + span(grace.window)));
        let quarantine = graced.map_or(begin.quarantine, |grace| grace.pause.min(begin.quarantine));
        let free = record.quarantine_from + span(quarantine);
        if now < free {
            return wait(Waiting::Quarantine, free - now, record);
        }
        if graced.is_none() && remaining > 0 {
            return wait(Waiting::Hold, remaining, record);
        }
    }
    grant_lease(record, now, begin)
}

/// The life of an access token that the bank's API refused does not count, unless a refresh was forced for the same
/// reason a moment ago and changed nothing.
fn remaining_that_counts(record: &Record, now: u64, begin: &Begin) -> u64 {
    let pause = span(begin.rejection_pause);
    let doubted = record.forced_at.is_some_and(|at| now.saturating_sub(at) < pause);
    if begin.rejected == Some(record.version) && !doubted { 0 } else { record.remaining(now) }
}

fn grant_lease(record: &mut Record, now: u64, begin: &Begin) -> BeginOutcome {
    record.fence += 1;
    record.holder = Some(begin.attempt.clone());
    record.lease_until = now + span(begin.lease);
    if record.state != RecordState::Uncertain {
        record.state = RecordState::Leased;
    }
    granted(record, now)
}

fn granted(record: &Record, now: u64) -> BeginOutcome {
    let probe = record.state == RecordState::Uncertain;
    let lease = Lease { fence: record.fence, base: record.version, probe, alternate: record.alt.is_some() };
    BeginOutcome::Granted(lease, record.snapshot(now))
}

/// Writes down that a refresh token is being spent.
pub fn arm(slot: &mut Option<Record>, now: u64, arm: &Arm) -> ArmOutcome {
    let Some(record) = slot else { return ArmOutcome::Lost };
    if !holds(record, &arm.attempt, arm.fence) || record.version != arm.base || record.lease_until <= now {
        return ArmOutcome::Lost;
    }
    let again = intends(record, &arm.attempt);
    if again && record.state != RecordState::Armed {
        return ArmOutcome::Lost;
    }
    if record.state == RecordState::Uncertain && !arm.probe {
        return ArmOutcome::ProbeNeeded;
    }
    if !again {
        record.intent = Some(Intent { attempt: arm.attempt.clone(), version: arm.base, at: now });
        record.sends = record.sends.saturating_add(1);
    }
    record.state = RecordState::Armed;
    record.lease_until = now + span(arm.lease);
    ArmOutcome::Armed
}

/// Prolongs a lease. A sender whose lease ran out unnoticed, or was noticed and not yet passed on, has it back.
pub fn renew(slot: &mut Option<Record>, now: u64, renew: &Renew) -> RenewOutcome {
    let Some(record) = slot else { return RenewOutcome::Lost };
    if !holds(record, &renew.attempt, renew.fence) {
        return RenewOutcome::Lost;
    }
    if record.state == RecordState::Uncertain && intends(record, &renew.attempt) {
        record.state = RecordState::Armed;
    }
    record.lease_until = now + span(renew.lease);
    RenewOutcome::Renewed
}
