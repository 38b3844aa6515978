//! What each step asks of a store, and every way it can answer.
//!
//! In the order of a refresh: BEGIN, ARM, RENEW, COMMIT or FAIL; then what happens to a record from outside: RESTORE, SEED,
//! END; and REVIVE, by which a person takes back a suspension.

use std::time::Duration;

use super::record::{RecordState, Sealed, Snapshot};
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fence, Fingerprint, GrantId, ProviderId, Version};
use crate::words::said::Said;
use crate::words::token_set::Scope;

/// What a BEGIN asks for.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Names the lease that may be granted.
    pub attempt: AttemptId,
    /// Only a record of this provider answers; any other is as good as absent.
    pub provider: ProviderId,
    /// A token with more life left than this is wanted; with less, a new one.
    pub wanted: Duration,
    /// The version whose access token the bank's API refused. If the record still holds it, its remaining life does not
    /// count.
    pub rejected: Option<Version>,
    /// After a refresh that a rejection forced, how long rejections of its result are not believed.
    pub rejection_pause: Duration,
    /// How long a granted lease lasts.
    pub lease: Duration,
    /// How long after an intent nobody may send again, unless the sender reports.
    pub quarantine: Duration,
    /// Where the bank takes a spent refresh token once more for a while. `None`: while the outcome of a refresh is unknown
    /// and the old access token lives, no probe is risked.
    pub grace: Option<Grace>,
    /// Make the record, under this grant, if there is none. Only client tokens come to be that way.
    pub create: Option<GrantId>,
}

/// For how long a bank takes a spent refresh token once more, as its profile says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// From the intent on.
    pub window: Duration,
    /// Within the window, how long after an unknown outcome nobody sends: what is on its way is decided by then.
    pub pause: Duration,
}

/// What a BEGIN answers.
#[derive(Clone, Debug)]
pub enum BeginOutcome {
    /// There is no such record at this provider.
    Unknown,
    /// The record's state allows no use of it.
    Refused(Snapshot),
    /// The stored access token has the life that was asked for.
    Fresh(Snapshot),
    /// Somebody or something has to be waited for, this long at most before asking again.
    Wait(Waiting, Duration, Snapshot),
    /// The caller, and nobody else, may refresh.
    Granted(Lease, Snapshot),
}

/// Why a refresh has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Another attempt holds the lease.
    Busy,
    /// A refresh failed a moment ago.
    Backoff,
    /// A token request may be on its way or its answer may still come in.
    Quarantine,
    /// The outcome of a refresh is unknown and the old access token still lives.
    Hold,
}

/// The right to refresh.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Grows with every lease of the record.
    pub fence: Fence,
    /// The version whose refresh token may be spent.
    pub base: Version,
    /// Whether the last refresh's outcome is unknown, so that sending again is a recorded probe.
    pub probe: bool,
    /// Whether the record keeps a refresh token that lost a race at its commit, for when the main one is refused.
    pub alternate: bool,
}

/// What an ARM writes down.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The lease's holder.
    pub attempt: AttemptId,
    /// The lease's fence.
    pub fence: Fence,
    /// The version whose refresh token is about to be sent.
    pub base: Version,
    /// How long the lease lasts from here.
    pub lease: Duration,
    /// Whether this is a probe after an unknown outcome.
    pub probe: bool,
}

/// What an ARM answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmOutcome {
    /// The intent is stored, and as many replicas as required have it.
    Armed,
    /// The lease is gone or the record moved on. Nothing may be sent.
    Lost,
    /// The last outcome is unknown and this attempt does not say that it is a probe. Nothing may be sent.
    ProbeNeeded,
    /// The intent is stored, but too few replicas acknowledged it in time. Nothing may be sent.
    NotDurable {
        /// How many acknowledged.
        acknowledged: u32,
        /// How many are required.
        required: u32,
    },
}

/// Which lease to prolong.
#[derive(Clone, Debug)]
pub struct Renew {
    /// The lease's holder.
    pub attempt: AttemptId,
    /// The lease's fence.
    pub fence: Fence,
    /// How long it lasts from here.
    pub lease: Duration,
}

/// What a RENEW answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewOutcome {
    /// The lease holds.
    Renewed,
    /// Somebody else may have it, or the consent ended. The request on its way should be cut.
    Lost,
}

/// A new token set, sealed for `base.next()`.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Who got it.
    pub attempt: AttemptId,
    /// The version that was spent for it.
    pub base: Version,
    /// The new access token.
    pub access: Sealed,
    /// The refresh token to use next, whether new or kept; `None` where the bank gives none.
    pub refresh: Option<Sealed>,
    /// The refresh token's fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// The fingerprint of the refresh token that was spent, where it is dead.
    pub spent: Option<Fingerprint>,
    /// How long the access token still lives.
    pub remaining: Duration,
    /// The access token's whole life.
    pub life: Duration,
    /// What was granted, where the answer said; otherwise the stored scope stays.
    pub scope: Option<Scope>,
    /// The thumbprint of the client certificate that was presented.
    pub certificate: Option<String>,
    /// Whether a rejection by the bank's API forced this refresh.
    pub forced: bool,
    /// How long ago the intent was written, at least: a commit that is held up on its way must not lengthen a life.
    pub since_intent: Option<Duration>,
    /// What is known of the request, for the history.
    pub said: Said,
}

/// What a COMMIT answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is stored; so it was if this attempt had committed before.
    Stored {
        /// The version it is stored as.
        version: Version,
        /// The store had forgotten generations that this commit brings back.
        rolled_back: bool,
    },
    /// The record holds something newer, or another grant. If it lost by one generation it is kept as `alt`.
    Superseded {
        /// What the record holds.
        current: Version,
    },
    /// The consent has ended. The token set must not come back to life.
    Gone,
    /// There is no record. RESTORE may put one back.
    Missing,
}

/// How a refresh ended that got nothing.
#[derive(Clone, Debug)]
pub struct Fail {
    /// The lease's holder.
    pub attempt: AttemptId,
    /// The lease's fence.
    pub fence: Fence,
    /// The version that the lease was for.
    pub base: Version,
    /// What the record becomes.
    pub to: FailTo,
    /// The class of the failure, a word.
    pub why: &'static str,
    /// What is known of the request, for the history.
    pub said: Said,
}

/// What a record becomes after a refresh that got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailTo {
    /// What it was. The lease is given back before anything was tried; it counts as no failure.
    Released,
    /// The refresh token was not spent. Nobody tries again before the back-off is over.
    Active {
        /// From here.
        backoff: Duration,
    },
    /// Nobody knows whether it was spent.
    Uncertain,
    /// The bank refused it.
    ReauthorizationRequired,
    /// The bank refused it, and the record keeps one that came second: it takes its place, at once. Where there is none,
    /// as [`FailTo::ReauthorizationRequired`].
    Alternate,
}

/// What a FAIL answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOutcome {
    /// It is written down.
    Recorded,
    /// The lease was no longer the caller's; nothing changed.
    Lost,
}

/// A whole record, as remembered by a process or a spill. Tokens are sealed for `version`.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Who remembers.
    pub attempt: AttemptId,
    /// Where the consent was granted.
    pub provider: ProviderId,
    /// The version to put back.
    pub version: Version,
    /// Its access token.
    pub access: Sealed,
    /// Its refresh token.
    pub refresh: Option<Sealed>,
    /// The refresh token's fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// How long the access token still lives.
    pub remaining: Duration,
    /// The access token's whole life.
    pub life: Duration,
    /// What the consent covers.
    pub scope: Option<Scope>,
    /// The bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// When the consent itself ends.
    pub consent_expires_at: Option<WallTime>,
    /// The thumbprint of the client certificate the tokens are bound to.
    pub certificate: Option<String>,
    /// When the grant was stored first, by the store's calendar: between two grants the later one counts.
    pub granted_at: Option<WallTime>,
}

/// What a RESTORE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The record is back.
    Restored,
    /// The store knows as much or more, or another grant. Nothing changed.
    NotNeeded {
        /// What the record holds.
        current: Version,
    },
    /// The consent has ended. Nothing changed.
    Gone,
}

/// The first token set of a new grant, sealed for `Version::first(grant)`.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Where the consent was granted.
    pub provider: ProviderId,
    /// The new grant.
    pub grant: GrantId,
    /// The record must hold exactly this; `None`: there must be none but a tombstone, or one that is pending.
    pub expected: Option<Version>,
    /// How long ago the bank gave it to a customer who was sent there from here. Then nothing is expected: it takes the place
    /// of whatever was granted before that, and of any refresh in flight.
    pub age: Option<Duration>,
    /// Its access token.
    pub access: Sealed,
    /// Its refresh token.
    pub refresh: Option<Sealed>,
    /// The refresh token's fingerprint. One that this record has spent, or is spending, is refused, unless the bank has just
    /// given it anew.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// How long the access token still lives; zero is allowed.
    pub remaining: Duration,
    /// The access token's whole life, as far as known.
    pub life: Duration,
    /// What the consent covers.
    pub scope: Option<Scope>,
    /// The bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// When the consent itself ends.
    pub consent_expires_at: Option<WallTime>,
    /// The thumbprint of the client certificate the tokens are bound to.
    pub certificate: Option<String>,
}

/// What a SEED answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedOutcome {
    /// There was no record; there is one.
    Created(Version),
    /// The record holds the new grant. The replaced refresh token stays, sealed, for a revive.
    Replaced(Version),
    /// No precondition was given, and there is a record; or one that was granted later than this.
    Exists(Version),
    /// The record holds something else than expected; or the consent ended after this was granted.
    Mismatch(Version),
    /// A version was expected and there is no record.
    Missing,
    /// The refresh token was spent here, or is being spent.
    Spent(Version),
}

/// How a consent ends.
#[derive(Clone, Debug)]
pub struct End {
    /// Only if the record holds this grant; `None`: whatever it holds.
    pub grant: Option<GrantId>,
    /// What it becomes: `Denied`, `Revoked` or `Expired`.
    pub state: RecordState,
    /// Why, a word.
    pub why: String,
    /// Put the tombstone up, with this version, even where there is no record: the store has forgotten it.
    pub remembered: Option<(ProviderId, Version)>,
}

/// What an END answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOutcome {
    /// A tombstone stands in its place.
    Ended,
    /// There is no such record, or it holds another grant.
    NotFound,
}

/// A person's word that a kept refresh token is to be tried again.
#[derive(Clone, Debug)]
pub struct Revive {
    /// Names this revival, so that a repeat is known.
    pub attempt: AttemptId,
    /// The record must hold exactly this; `None`: whatever it holds.
    pub expected: Option<Version>,
    /// The refresh token of the grant that was replaced last, instead of the record's own.
    pub replaced: Option<Resealed>,
}

/// The refresh token of a replaced grant, opened and sealed again as the first of a new one: a store opens nothing.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The version that the record keeps it for.
    pub from: Version,
    /// The new grant.
    pub grant: GrantId,
    /// The refresh token, sealed for `Version::first(grant)`.
    pub refresh: Sealed,
    /// Its fingerprint. One that this record has spent is refused.
    pub fingerprint: Fingerprint,
}

/// What a REVIVE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviveOutcome {
    /// The record is active and will be refreshed; so it was if this revival had happened before.
    Revived(Version),
    /// There is no such record.
    NotFound,
    /// The record holds something else than expected.
    Mismatch(Version),
    /// Its state asks for no revival or allows none. Nothing changed.
    NotSuspended {
        /// What it is.
        state: RecordState,
        /// What it holds.
        current: Version,
    },
    /// No refresh token is kept that could be tried.
    Nothing(Version),
    /// The refresh token of the replaced grant was spent, or may have been.
    Spent(Version),
}

/// What a replica remembers of a refresh token that is being spent, or may have been, told to a store that may have
/// forgotten it.
#[derive(Clone, Debug)]
pub struct Reassert {
    /// The version whose refresh token it is.
    pub base: Version,
    /// Who is spending it. `None`: it may have been spent, and nobody who did is here.
    pub holder: Option<Holder>,
}

/// A holder with an intent.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its attempt.
    pub attempt: AttemptId,
    /// Its lease's fence, as far as it knows.
    pub fence: Fence,
    /// How long the lease lasts from here.
    pub lease: Duration,
}

/// What a REASSERT answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReassertOutcome {
    /// The lease is the holder's, with this fence.
    Held(Fence),
    /// It is written down that the token may have been spent. The lease is somebody else's, or nobody's.
    Noted,
    /// The record holds another version, or the consent has ended. Nothing changed.
    Moved,
    /// There is no record.
    Missing,
}
