//! What is noted in a consent's record besides tokens: that its customer is asked, and when the consent itself ends.

use super::{date, span};
use crate::store::contract::{Await, AwaitOutcome, RecordState, Term};
use crate::store::record::Record;

/// Notes that a customer is asked for a grant. A consent of which there is nothing, or only that a customer was asked or
/// said no, is pending from here on.
pub fn await_grant(slot: &mut Option<Record>, now: u64, wait: &Await) -> AwaitOutcome {
    if let Some(record) = slot {
        let version = record.version;
        match record.state {
            RecordState::Pending if version.grant == wait.grant => return AwaitOutcome::Pending(version),
            RecordState::Pending | RecordState::Denied => {}
            RecordState::Active
            | RecordState::Leased
            | RecordState::Armed
            | RecordState::Uncertain
            | RecordState::ReauthorizationRequired
                if record.provider != wait.provider =>
            {
                return AwaitOutcome::Elsewhere(version);
            }
            RecordState::Active
            | RecordState::Leased
            | RecordState::Armed
            | RecordState::Uncertain
            | RecordState::ReauthorizationRequired
            | RecordState::Revoked
            | RecordState::Expired => return AwaitOutcome::Stands { state: record.state_at(now), version },
        }
    }
    let (fence, spent) = slot.take().map_or_else(Default::default, |record| (record.fence, record.spent));
    let record = Record {
        state: RecordState::Pending,
        pending_until: now + span(wait.life),
        fence,
        spent,
        ..Record::empty(wait.provider.clone(), wait.grant)
    };
    let version = record.version;
    *slot = Some(record);
    AwaitOutcome::Pending(version)
}

/// Notes when the consent itself ends, as its bank says.
pub fn term(slot: &mut Option<Record>, _now: u64, term: &Term) -> bool {
    let holds = |record: &&mut Record| {
        record.version.grant == term.grant && !record.is_tombstone() && record.state != RecordState::Pending
    };
    let Some(record) = slot.as_mut().filter(holds) else { return false };
    record.consent_until = Some(date(term.until));
    true
}
