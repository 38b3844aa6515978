//! The steps of the refresh protocol on one record, as pure functions.
//!
//! The embedded store runs these; the Redis store runs the same decisions as Lua scripts, one per step, in
//! `redis/lua`. One test suite holds the two together. `now` is the store's clock in milliseconds; a slot is a record or
//! its absence.
//!
//! What a failed probe means. `sends` counts the intents of a version that nobody has explained: an ARM adds one, a
//! report that the token was not spent takes the reporter's own away, and a commit, a refusal by the bank or a new
//! grant settles all of them. A record may leave `uncertain` for `active` only when none is left. So a prober that never
//! armed, or whose request was turned away unprocessed, leaves the record uncertain: the earlier send is still
//! unexplained. And a sender that was taken for lost and then reports "not sent" explains its own, which ends the
//! quarantine.

use std::time::Duration;

use super::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Commit, CommitOutcome, End, EndOutcome, Fail, FailOutcome, FailTo, Holder,
    Lease, Reassert, ReassertOutcome, RecordState, Renew, RenewOutcome, Reprieve, ReprieveOutcome, Restore,
    RestoreOutcome, Revive, ReviveOutcome, Sealed, Seed, SeedOutcome, Waiting,
};
use super::record::{Alternate, Intent, MOST, MOST_SPENT, Record};
use crate::words::clock::{WallTime, millis};
use crate::words::ids::{AttemptId, Fence, Fingerprint, Version};

/// A duration as a record's arithmetic takes it: at most ten years, so that no sum outgrows a stored number.
pub fn span(duration: Duration) -> u64 {
    millis(duration).min(315_360_000_000)
}

/// A date as a record stores it.
pub fn date(time: WallTime) -> u64 {
    time.as_millis().min(MOST)
}

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

fn holds(record: &Record, attempt: &AttemptId, fence: Fence) -> bool {
    let open = matches!(record.state, RecordState::Leased | RecordState::Armed | RecordState::Uncertain);
    open && record.holder.as_ref() == Some(attempt) && record.fence == fence
}

fn intends(record: &Record, attempt: &AttemptId) -> bool {
    record.intent.as_ref().is_some_and(|intent| intent.attempt == *attempt)
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

/// Replaces the token set of the version that was spent.
pub fn commit(slot: &mut Option<Record>, now: u64, commit: &Commit) -> CommitOutcome {
    let Some(record) = slot else { return CommitOutcome::Missing };
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

/// Puts back a record of which the store remembers less.
pub fn restore(slot: &mut Option<Record>, now: u64, restore: &Restore) -> RestoreOutcome {
    if let Some(record) = slot {
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
    let Some(record) = slot else { return ReassertOutcome::Missing };
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

/// Stores the first token set of a new grant.
pub fn seed(slot: &mut Option<Record>, now: u64, seed: &Seed) -> SeedOutcome {
    let first = Version::first(seed.grant);
    let mut outcome = SeedOutcome::Created(first);
    match (slot.as_ref(), seed.expected) {
        (None, None) => {}
        (None, Some(_)) => return SeedOutcome::Missing,
        (Some(record), expected) => {
            let current = record.version;
            // A repeat of a seed that landed; if the consent has ended since, it stays ended.
            if current.grant == seed.grant && record.is_tombstone() {
                return SeedOutcome::Mismatch(current);
            }
            if current.grant == seed.grant {
                return match expected {
                    None => SeedOutcome::Created(current),
                    Some(_) => SeedOutcome::Replaced(current),
                };
            }
            match expected {
                None if !record.is_tombstone() => return SeedOutcome::Exists(current),
                Some(expected) if expected != current => return SeedOutcome::Mismatch(current),
                None => {}
                Some(_) => outcome = SeedOutcome::Replaced(first),
            }
            if let Some(fingerprint) = seed.refresh_fingerprint
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

/// Whether this record has spent, or is spending, the token of this fingerprint.
fn is_spent(record: &Record, fingerprint: Fingerprint) -> bool {
    let spending = record.sends > 0 && record.refresh_fingerprint == Some(fingerprint);
    spending || record.spent.contains(&fingerprint)
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

/// Leaves nothing of a refresh under way, of its failures, or of what was kept for them.
fn settle(record: &mut Record) {
    record.state = RecordState::Active;
    record.holder = None;
    record.lease_until = 0;
    record.intent = None;
    record.sends = 0;
    record.quarantine_from = 0;
    record.not_before = 0;
    record.failures = 0;
    record.why = None;
    record.alt = None;
    record.forced_at = None;
    record.failed_lease = None;
    record.reasserted = None;
}

struct Tokens<'a> {
    access: &'a Sealed,
    refresh: Option<&'a Sealed>,
    refresh_fingerprint: Option<Fingerprint>,
    remaining: Duration,
    life: Duration,
}

impl Tokens<'_> {
    fn store(&self, record: &mut Record, now: u64) {
        record.access = Some(self.access.clone());
        record.access_from = now;
        record.access_until = now + span(self.remaining);
        record.life = span(self.life);
        record.refresh = self.refresh.cloned();
        record.refresh_fingerprint = self.refresh_fingerprint;
    }
}

fn remember_spent(record: &mut Record, spent: Option<Fingerprint>) {
    if let Some(spent) = spent.filter(|spent| !record.spent.contains(spent)) {
        record.spent.push(spent);
        let too_many = record.spent.len().saturating_sub(MOST_SPENT);
        record.spent.drain(..too_many);
    }
}

/// Whether others have to hear of this change: the version is another, or the consent became usable or unusable.
pub fn is_told(before: Option<&Record>, after: &Record) -> bool {
    match before {
        Some(before) => before.version != after.version || before.state.is_usable() != after.state.is_usable(),
        None => after.version.generation > 0,
    }
}
