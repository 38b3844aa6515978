//! RESTORE and REASSERT: what a process remembers, told to a store that may have forgotten it.

use std::time::Duration;

use super::record::Sealed;
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fence, Fingerprint, ProviderId, Version};
use crate::words::token_set::Scope;

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
