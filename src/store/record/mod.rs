//! The fields behind a record, as every store keeps them.
//!
//! One hash per record: words, numbers and names that a person reads with `redis-cli HGETALL`, and tokens as sealed
//! blobs. Times are milliseconds of the store's own clock. [`Record`] is the hash as the steps in [`super::steps`] see
//! it, `fields` reads and writes it; the Lua scripts of the Redis store work on the fields themselves and check the same
//! things before they change anything. A record that cannot be understood is left as it is.

mod fields;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use fields::{BadField, MOST};

use super::contract::{RecordState, Sealed, Snapshot};
use crate::words::clock::{WallTime, millis};
use crate::words::ids::{AttemptId, Fence, Fingerprint, GrantId, ProviderId, Version};
use crate::words::token_set::Scope;

/// The schema version this release reads and writes.
pub const SCHEMA: &str = "1";

/// How many fingerprints of spent refresh tokens a record remembers.
pub const MOST_SPENT: usize = 32;

/// How long a tombstone stands: longer than any refresh, replica or spill that could bring the consent back.
pub const TOMBSTONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far the store's clock may have stepped back behind the writing of an access token before that token counts as
/// expired: more than two nodes of one store differ, less than a life that matters.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// A record. Every time is in milliseconds of the store's clock; zero where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `prov`: where the consent was granted.
    pub provider: ProviderId,
    /// `st`.
    pub state: RecordState,
    /// `grant` and `gen`.
    pub version: Version,
    /// `fence`: counts leases.
    pub fence: Fence,
    /// `at`: the sealed access token.
    pub access: Option<Sealed>,
    /// `at_iat`: when it was written.
    pub access_from: u64,
    /// `at_exp`: when it expires.
    pub access_until: u64,
    /// `life`: its whole life.
    pub life: u64,
    /// `rt`: the sealed refresh token.
    pub refresh: Option<Sealed>,
    /// `rt_fp`: its fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// `spent`: the fingerprints of the refresh tokens that were spent last, oldest first.
    pub spent: Vec<Fingerprint>,
    /// `scope`.
    pub scope: Option<Scope>,
    /// `bank_cid`: the bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// `c_exp`: when the consent ends, a date of the calendar.
    pub consent_until: Option<u64>,
    /// `crt`: the thumbprint of the client certificate the tokens are bound to.
    pub certificate: Option<String>,
    /// `own`: who holds or last held the lease.
    pub holder: Option<AttemptId>,
    /// `lease`: until when.
    pub lease_until: u64,
    /// `it_id`, `it_ver`, `it_at`: the last intent that nobody has explained.
    pub intent: Option<Intent>,
    /// `it_n`: how many intents of this version nobody has explained. A record is uncertain only while there are any.
    pub sends: u32,
    /// `quar`: from when the quarantine of an uncertain record is counted.
    pub quarantine_from: u64,
    /// `lc`: who committed this version.
    pub committed_by: Option<AttemptId>,
    /// `lc_back`: whether that commit brought back generations that the store had forgotten.
    pub committed_back: bool,
    /// `rv`: who revived the consent last.
    pub revived_by: Option<AttemptId>,
    /// `lf`: the last lease that ended in a FAIL, as `{fence} {attempt}`.
    pub failed_lease: Option<String>,
    /// `next`: nobody refreshes before.
    pub not_before: u64,
    /// `fails`: failures in a row.
    pub failures: u32,
    /// `why`: the class of the last one, or why the consent ended.
    pub why: Option<String>,
    /// `alt_rt`, `alt_ver`, `alt_fp`: the refresh token of a commit that lost a race.
    pub alt: Option<Alternate>,
    /// `old_rt`, `old_ver`: the refresh token of the grant that was replaced last, and the version it is sealed for.
    pub replaced: Option<(Sealed, Version)>,
    /// `forced_at`: when a refresh that a rejection forced was committed.
    pub forced_at: Option<u64>,
    /// `ended_at`: when a tombstone was put up.
    pub ended_at: u64,
    /// `g_at`: when this grant was stored first.
    pub granted_at: u64,
    /// `p_exp`: until when a consent is pending.
    pub pending_until: u64,
    /// `ra`: the last attempt that told again of an intent which the store had forgotten.
    pub reasserted: Option<AttemptId>,
}

/// A refresh token that came second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// The token.
    pub refresh: Sealed,
    /// The version it is sealed for.
    pub version: Version,
    /// Its fingerprint.
    pub fingerprint: Option<Fingerprint>,
}

/// The durable note that a refresh token is being spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// By whom.
    pub attempt: AttemptId,
    /// Of which version.
    pub version: Version,
    /// Since when.
    pub at: u64,
}

impl Record {
    /// A record without tokens.
    pub fn empty(provider: ProviderId, grant: GrantId) -> Self {
        Self {
            provider,
            state: RecordState::Active,
            version: Version { grant, generation: 0 },
            fence: 0,
            access: None,
            access_from: 0,
            access_until: 0,
            life: 0,
            refresh: None,
            refresh_fingerprint: None,
            spent: Vec::new(),
            scope: None,
            bank_consent_id: None,
            consent_until: None,
            certificate: None,
            holder: None,
            lease_until: 0,
            intent: None,
            sends: 0,
            quarantine_from: 0,
            committed_by: None,
            committed_back: false,
            revived_by: None,
            failed_lease: None,
            not_before: 0,
            failures: 0,
            why: None,
            alt: None,
            replaced: None,
            forced_at: None,
            ended_at: 0,
            granted_at: 0,
            pending_until: 0,
            reasserted: None,
        }
    }

    /// Whether an END put up a tombstone here.
    pub const fn is_tombstone(&self) -> bool {
        match self.state {
            RecordState::Denied | RecordState::Revoked | RecordState::Expired => true,
            RecordState::Pending
            | RecordState::Active
            | RecordState::Leased
            | RecordState::Armed
            | RecordState::Uncertain
            | RecordState::ReauthorizationRequired => false,
        }
    }

    /// The state at `now`. That a consent's own time is over is seen and not written: a clock that is wrong for a
    /// minute must not end consents for good.
    pub fn state_at(&self, now: u64) -> RecordState {
        let over = self.consent_until.is_some_and(|end| end <= now);
        if over && self.state.is_usable() { RecordState::Expired } else { self.state }
    }

    /// How much of the access token's life is left. Nothing if the clock stepped back behind its writing, and never
    /// more than its life.
    pub fn remaining(&self, now: u64) -> u64 {
        if self.access.is_none() || self.access_from > now + millis(CLOCK_TOLERANCE) {
            return 0;
        }
        self.access_until.saturating_sub(now).min(self.access_until.saturating_sub(self.access_from))
    }

    /// What a step tells of the record.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        Snapshot {
            provider: self.provider.clone(),
            state: self.state_at(now),
            version: self.version,
            access: self.access.clone(),
            remaining: Duration::from_millis(self.remaining(now)),
            life: Duration::from_millis(self.life),
            refresh: self.refresh.clone(),
            refresh_fingerprint: self.refresh_fingerprint,
            granted_at: (self.granted_at > 0).then(|| WallTime::from_millis(self.granted_at)),
            scope: self.scope.clone(),
            bank_consent_id: self.bank_consent_id.clone(),
            consent_expires_at: self.consent_until.map(WallTime::from_millis),
            consent_remaining: self.consent_until.map(|end| Duration::from_millis(end.saturating_sub(now))),
            certificate: self.certificate.clone(),
            holder: self.holder.clone(),
            lease_left: Duration::from_millis(self.lease_until.saturating_sub(now)),
            uncertain_for: (self.state == RecordState::Uncertain)
                .then(|| Duration::from_millis(now.saturating_sub(self.quarantine_from))),
            sends: self.sends,
            failures: self.failures,
            backoff: Duration::from_millis(self.not_before.saturating_sub(now)),
            why: self.why.clone(),
            replaced: self.replaced.clone(),
        }
    }
}
