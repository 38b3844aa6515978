//! BEGIN, ARM and RENEW: asking for a token or for the right to get one, writing down that it is used, keeping it.

use std::time::Duration;

use super::record::Snapshot;
use crate::words::ids::{AttemptId, Fence, GrantId, ProviderId, Version};

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
