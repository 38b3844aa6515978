//! What is done to a consent by hand: tokens that are imported, its end, and a refresh token that is tried again.

use super::{Tokens, date, is_spent, remember_spent, settle, span};
use crate::store::contract::{End, EndOutcome, RecordState, Revive, ReviveOutcome, Seed, SeedOutcome};
use crate::store::record::Record;
use crate::words::ids::Version;

/// Stores the first token set of a new grant.
pub fn seed(slot: &mut Option<Record>, now: u64, seed: &Seed) -> SeedOutcome {
    let first = Version::first(seed.grant);
    let mut outcome = SeedOutcome::Created(first);
    match (slot.as_ref(), seed.expected) {
        (None, None) => {}
        (None, Some(_)) => return SeedOutcome::Missing,
        (Some(record), expected) => {
            let current = record.version;
            let (ended, waits) = (record.is_tombstone(), record.state == RecordState::Pending);
            // A repeat of a seed that landed; if the consent has ended since, it stays ended.
            if current.grant == seed.grant && ended {
                return SeedOutcome::Mismatch(current);
            }
            if current.grant == seed.grant && !waits {
                return match expected {
                    None => SeedOutcome::Created(current),
                    Some(_) => SeedOutcome::Replaced(current),
                };
            }
            match (seed.age.map(|age| now.saturating_sub(span(age))), expected) {
                // What was ended or granted later counts. That a customer said no to another attempt takes nothing away.
                (Some(since), _) if ended => {
                    if record.state != RecordState::Denied && record.ended_at > since {
                        return SeedOutcome::Mismatch(current);
                    }
                }
                (Some(since), _) if record.granted_at > since => return SeedOutcome::Exists(current),
                (Some(_), _) => {
                    if !waits {
                        outcome = SeedOutcome::Replaced(first);
                    }
                }
                (None, None) if !ended && !waits => return SeedOutcome::Exists(current),
                (None, Some(expected)) if expected != current => return SeedOutcome::Mismatch(current),
                (None, None) => {}
                (None, Some(_)) => outcome = SeedOutcome::Replaced(first),
            }
            if let Some(fingerprint) = seed.refresh_fingerprint
                && seed.age.is_none()
                && is_spent(record, fingerprint)
            {
                return SeedOutcome::Spent(current);
            }
        }
    }
    let empty = || Record::empty(seed.provider.clone(), seed.grant);
    let record = slot.get_or_insert_with(empty);
    remember_unexplained(record);
    if let Some(refresh) = record.refresh.take() {
        record.replaced = Some((refresh, record.version));
    }
    let tokens = Tokens {
        access: &seed.access,
        refresh: seed.refresh.as_ref(),
        refresh_fingerprint: seed.refresh_fingerprint,
        remaining: seed.remaining,
        life: seed.life,
    };
    record.provider = seed.provider.clone();
    record.version = first;
    record.granted_at = now;
    record.fence += 1;
    settle(record);
    tokens.store(record, now);
    record.scope.clone_from(&seed.scope);
    record.bank_consent_id.clone_from(&seed.bank_consent_id);
    record.consent_until = seed.consent_expires_at.map(date);
    record.certificate.clone_from(&seed.certificate);
    record.committed_by = None;
    record.committed_back = false;
    record.ended_at = 0;
    outcome
}

/// Ends a consent for good. The generation grows, so that whoever remembers the last one hears of something newer.
pub fn end(slot: &mut Option<Record>, now: u64, end: &End) -> EndOutcome {
    if let (None, Some((provider, version))) = (slot.as_ref(), &end.remembered)
        && end.grant.is_none_or(|grant| grant == version.grant)
    {
        *slot = Some(Record { version: *version, ..Record::empty(provider.clone(), version.grant) });
    }
    let Some(record) = slot else { return EndOutcome::NotFound };
    if end.grant.is_some_and(|grant| grant != record.version.grant) {
        return EndOutcome::NotFound;
    }
    if record.is_tombstone() {
        return EndOutcome::Ended;
    }
    remember_unexplained(record);
    settle(record);
    record.version = record.version.next();
    record.fence += 1;
    record.state = tombstone_state(end.state);
    record.why = Some(end.why.clone());
    record.access = None;
    record.refresh = None;
    record.refresh_fingerprint = None;
    record.replaced = None;
    record.access_from = 0;
    record.access_until = 0;
    record.life = 0;
    record.committed_by = None;
    record.committed_back = false;
    record.ended_at = now;
    EndOutcome::Ended
}

/// An END that names no end is a revocation: it must not leave a consent alive.
pub const fn tombstone_state(state: RecordState) -> RecordState {
    match state {
        RecordState::Denied | RecordState::Revoked | RecordState::Expired => state,
        RecordState::Pending
        | RecordState::Active
        | RecordState::Leased
        | RecordState::Armed
        | RecordState::Uncertain
        | RecordState::ReauthorizationRequired => RecordState::Revoked,
    }
}

/// Takes back a suspension: the refresh token that was kept is tried again. With `replaced` it is that of the grant that
/// was replaced last, as a new grant, and the record's own takes its place, so that this can be taken back as well.
pub fn revive(slot: &mut Option<Record>, now: u64, revive: &Revive) -> ReviveOutcome {
    let Some(record) = slot else { return ReviveOutcome::NotFound };
    let current = record.version;
    if record.revived_by.as_ref() == Some(&revive.attempt) {
        return ReviveOutcome::Revived(current);
    }
    if revive.expected.is_some_and(|expected| expected != current) {
        return ReviveOutcome::Mismatch(current);
    }
    // Nobody's refresh is overtaken: what it would bring is newer than anything that is kept.
    let suspended = record.state == RecordState::ReauthorizationRequired;
    let idle = record.state == RecordState::Active && revive.replaced.is_some();
    if !suspended && !idle {
        return ReviveOutcome::NotSuspended { state: record.state, current };
    }
    match &revive.replaced {
        None if record.refresh.is_none() => return ReviveOutcome::Nothing(current),
        None => {
            let alt = record.alt.take();
            settle(record);
            record.alt = alt;
        }
        Some(resealed) if record.replaced.as_ref().is_none_or(|(_, version)| *version != resealed.from) => {
            return ReviveOutcome::Nothing(current);
        }
        Some(resealed) if is_spent(record, resealed.fingerprint) => return ReviveOutcome::Spent(current),
        Some(resealed) => {
            record.replaced = record.refresh.take().map(|refresh| (refresh, current));
            record.version = Version::first(resealed.grant);
            record.granted_at = now;
            settle(record);
            record.refresh = Some(resealed.refresh.clone());
            record.refresh_fingerprint = Some(resealed.fingerprint);
            record.access = None;
            record.access_from = 0;
            record.access_until = 0;
            record.life = 0;
            // What was said of the other grant is not known of this one.
            record.scope = None;
            record.bank_consent_id = None;
            record.consent_until = None;
            record.certificate = None;
            record.committed_by = None;
            record.committed_back = false;
        }
    }
    record.fence += 1;
    record.revived_by = Some(revive.attempt.clone());
    ReviveOutcome::Revived(record.version)
}

/// A refresh token that may have been sent is never to be sent again.
fn remember_unexplained(record: &mut Record) {
    let sent = record.refresh_fingerprint.filter(|_| record.sends > 0);
    remember_spent(record, sent);
}
