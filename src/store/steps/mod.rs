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
//!
//! `leases` is the way to the bank, `outcomes` what came of it, `memories` what a process tells a store that may have
//! forgotten it, `orders` what is done by hand, `asking` what is noted while a customer is asked.

mod asking;
mod leases;
mod memories;
mod orders;
mod outcomes;

use std::time::Duration;

pub use asking::{await_grant, term};
pub use leases::{arm, begin, renew};
pub use memories::{reassert, restore};
pub use orders::{end, revive, seed, tombstone_state};
pub use outcomes::{REFUSED_ONCE, commit, fail, reprieve};

use super::contract::{RecordState, Sealed};
use super::record::{MOST, MOST_SPENT, Record};
use crate::words::clock::{WallTime, millis};
use crate::words::ids::{AttemptId, Fence, Fingerprint};

/// A duration as a record's arithmetic takes it: at most ten years, so that no sum outgrows a stored number.
pub fn span(duration: Duration) -> u64 {
    millis(duration).min(315_360_000_000)
}

/// A date as a record stores it.
pub fn date(time: WallTime) -> u64 {
    time.as_millis().min(MOST)
}

/// Whether others have to hear of this change: the version is another, or the consent became usable or unusable.
pub fn is_told(before: Option<&Record>, after: &Record) -> bool {
    match before {
        Some(before) => before.version != after.version || before.state.is_usable() != after.state.is_usable(),
        None => after.version.generation > 0,
    }
}

fn holds(record: &Record, attempt: &AttemptId, fence: Fence) -> bool {
    let open = matches!(record.state, RecordState::Leased | RecordState::Armed | RecordState::Uncertain);
    open && record.holder.as_ref() == Some(attempt) && record.fence == fence
}

fn intends(record: &Record, attempt: &AttemptId) -> bool {
    record.intent.as_ref().is_some_and(|intent| intent.attempt == *attempt)
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
    record.pending_until = 0;
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

/// Whether this record has spent, or is spending, the token of this fingerprint.
fn is_spent(record: &Record, fingerprint: Fingerprint) -> bool {
    let spending = record.sends > 0 && record.refresh_fingerprint == Some(fingerprint);
    spending || record.spent.contains(&fingerprint)
}
