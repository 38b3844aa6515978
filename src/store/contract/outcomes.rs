//! COMMIT and FAIL: how a refresh ended.

use std::time::Duration;

use super::record::Sealed;
use crate::words::ids::{AttemptId, Fence, Fingerprint, Version};
use crate::words::said::Said;
use crate::words::token_set::Scope;

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
