//! Quotas: how often a consent was used without its customer.
//!
//! A bank lets an app come a few times a day on its own. What was counted stands in a record of its own beside the consent's:
//! for each group of calls that are counted together, when each was counted, and its id, so that a step which is repeated
//! after a lost reply counts nothing twice. A call counts for as long as its window says, and the record goes by itself.
//!
//! The steps are apart from [`Store`] because a refresh has no use for them. Nothing waits for replicas or disks here: a
//! count that is lost costs a refusal by the bank, and never a consent.

use std::future::Future;
use std::time::Duration;

use super::{Store, StoreError};
use crate::words::ids::{CallId, ConsentId, QuotaGroup};

/// The part of the store's seam that a route with a quota needs. What [`Store`] promises of its steps holds here.
pub trait Quotas: Store {
    /// Counts a call, if there is room for it.
    fn spend(
        &self,
        consent: &ConsentId,
        spend: &Spend,
    ) -> impl Future<Output = Result<SpendOutcome, StoreError>> + Send;

    /// Takes back a call that did not reach the bank. One that is not counted, or counts no more, changes nothing.
    fn refund(&self, consent: &ConsentId, refund: &Refund) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a SPEND asks for.
#[derive(Clone, Copy, Debug)]
pub struct Spend {
    /// With which others it is counted. Of one consent at most [`Spend::MOST_GROUPS`] are kept; the one that was counted in
    /// longest ago makes room.
    pub group: QuotaGroup,
    /// Which call. A step that is repeated names the same.
    pub call: CallId,
    /// How many may count at once, 1 to [`Spend::MOST_CALLS`].
    pub most: u32,
    /// How long it counts. All groups of a consent have windows of the same length.
    pub window: Window,
}

impl Spend {
    /// Groups that are kept of one consent.
    pub const MOST_GROUPS: usize = 64;
    /// Calls that are kept of one group.
    pub const MOST_CALLS: u32 = 100;
}

/// For how long a call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// For so long from when it was made.
    Sliding(Duration),
    /// Until the end of the window that it was made in. Windows of this length follow each other, and one began so long
    /// after 1970 began in UTC: a date of the calendar, which the store's own must be right about.
    Fixed {
        /// How long each is.
        length: Duration,
        /// When one began.
        offset: Duration,
    },
}

/// What a SPEND answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendOutcome {
    /// It is counted; so it was if this call had been counted before.
    Counted {
        /// How many more there is room for now.
        remaining: u32,
    },
    /// As many count as may. Nothing changed.
    Exhausted {
        /// When there is room again, from here.
        until: Duration,
    },
}

/// What a REFUND takes back.
#[derive(Clone, Copy, Debug)]
pub struct Refund {
    /// Where it was counted.
    pub group: QuotaGroup,
    /// Which call.
    pub call: CallId,
}
