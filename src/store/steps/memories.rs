//! What a process remembers, told to a store that may have forgotten it.

use super::{Tokens, date, intends, settle, span};
use crate::store::contract::{Holder, Reassert, ReassertOutcome, RecordState, Restore, RestoreOutcome};
use crate::store::record::{Intent, Record};

/// Puts back a record of which the store remembers less.
pub fn restore(slot: &mut Option<Record>, now: u64, restore: &Restore) -> RestoreOutcome {
    // That a customer is asked says nothing about what was granted before.
    if let Some(record) = slot.as_ref().filter(|record| record.state != RecordState::Pending) {
        let current = record.version;
        let same = current.grant == restore.version.grant;
        let later_than = |time| !same && restore.granted_at.map_or(0, date) > time;
        if record.is_tombstone() && !later_than(record.ended_at) {
            return RestoreOutcome::Gone;
        }
        if current == restore.version && record.committed_by.as_ref() == Some(&restore.attempt) {
            return RestoreOutcome::Restored;
        }
        if !later_than(record.granted_at) && !restore.version.is_newer_than(current) {
            return RestoreOutcome::NotNeeded { current };
        }
    }
    let empty = || Record::empty(restore.provider.clone(), restore.version.grant);
    let record = slot.get_or_insert_with(empty);
    let tokens = Tokens {
        access: &restore.access,
        refresh: restore.refresh.as_ref(),
        refresh_fingerprint: restore.refresh_fingerprint,
        remaining: restore.remaining,
        life: restore.life,
    };
    record.provider = restore.provider.clone();
    record.version = restore.version;
    record.fence += 1;
    settle(record);
    tokens.store(record, now);
    record.scope.clone_from(&restore.scope);
    record.bank_consent_id.clone_from(&restore.bank_consent_id);
    record.consent_until = restore.consent_expires_at.map(date);
    record.certificate.clone_from(&restore.certificate);
    record.committed_by = Some(restore.attempt.clone());
    record.committed_back = false;
    record.granted_at = restore.granted_at.map_or(0, date);
    record.ended_at = 0;
    RestoreOutcome::Restored
}

/// Takes note of a refresh token that is being spent, or may have been. A holder has its lease back unless somebody was
/// granted a later one and armed it: then its send is counted as one that nobody has explained.
pub fn reassert(slot: &mut Option<Record>, now: u64, reassert: &Reassert) -> ReassertOutcome {
    let Some(record) = slot.as_mut().filter(|record| record.state != RecordState::Pending) else {
        return ReassertOutcome::Missing;
    };
    if record.version != reassert.base || record.is_tombstone() {
        return ReassertOutcome::Moved;
    }
    if !record.state.is_usable() {
        return ReassertOutcome::Noted;
    }
    let Some(Holder { attempt, fence, lease }) = &reassert.holder else {
        if matches!(record.state, RecordState::Active | RecordState::Leased) {
            record.state = RecordState::Uncertain;
            record.sends = record.sends.max(1);
            record.quarantine_from = now;
            record.holder = None;
            record.lease_until = 0;
        }
        return ReassertOutcome::Noted;
    };
    let armed = record.state == RecordState::Armed;
    if armed && record.holder.as_ref() == Some(attempt) && intends(record, attempt) {
        record.lease_until = now + span(*lease);
        return ReassertOutcome::Held(record.fence);
    }
    if !intends(record, attempt) && record.reasserted.as_ref() != Some(attempt) {
        record.sends = record.sends.saturating_add(1);
    }
    record.reasserted = Some(attempt.clone());
    if armed && record.fence >= *fence {
        return ReassertOutcome::Noted;
    }
    record.fence = record.fence.max(*fence) + 1;
    record.state = RecordState::Armed;
    record.holder = Some(attempt.clone());
    record.lease_until = now + span(*lease);
    record.intent = Some(Intent { attempt: attempt.clone(), version: record.version, at: now });
    ReassertOutcome::Held(record.fence)
}
