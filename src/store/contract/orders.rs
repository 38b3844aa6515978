//! SEED, END and REVIVE: a new grant, the end of a consent, a suspension that a person takes back.

use std::time::Duration;

use super::record::{RecordState, Sealed};
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fingerprint, GrantId, ProviderId, Version};
use crate::words::token_set::Scope;

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
