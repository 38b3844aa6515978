//! Feeds: how far a provider's feed of events has been read, who reads it, and whose events they are.
//!
//! What replicas share about a feed is a record of its own, beside the consents': a lease, so that one replica reads at a
//! time, and the position, which moves only from what it was and only for who holds the lease. A feed names consents as
//! the bank does, so what each is called here is kept by that name; it is written before the consent is stored, and a name
//! that leads nowhere is harmless.

use std::future::Future;
use std::time::Duration;

use super::{Attempts, StoreError};
use crate::words::ids::{AttemptId, BankNameDigest, ConsentId, Fence, ProviderId};

/// How many consents are remembered under one name of a bank's.
pub const MOST_NAMED: usize = 8;

/// The part of the store's seam that reading a bank's events needs. What [`super::Store`] promises of its steps holds here.
pub trait Feeds: Attempts {
    /// Asks for the right to read a provider's feed, or to go on reading it.
    fn take_feed(
        &self,
        provider: &ProviderId,
        take: &TakeFeed,
    ) -> impl Future<Output = Result<TakeFeedOutcome, StoreError>> + Send;

    /// Moves the position, once everything before it was applied. Where replicas are required it counts only once enough of
    /// them have it.
    fn move_feed(
        &self,
        provider: &ProviderId,
        moved: &MoveFeed,
    ) -> impl Future<Output = Result<MoveFeedOutcome, StoreError>> + Send;

    /// Notes what the consent is called here that a provider calls by this name. Where replicas are required it counts only
    /// once enough of them have it.
    fn name_consent(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        consent: &ConsentId,
        life: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The consents that were last noted under a name, [`MOST_NAMED`] at most. None of them need be stored.
    fn consents_named(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
    ) -> impl Future<Output = Result<Vec<ConsentId>, StoreError>> + Send;
}

/// Asks for the right to read.
#[derive(Clone, Debug)]
pub struct TakeFeed {
    /// Who asks.
    pub by: AttemptId,
    /// How long nobody else may read then.
    pub life: Duration,
}

/// What a TAKE answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeFeedOutcome {
    /// The caller reads.
    Taken {
        /// Numbers the reader; a MOVE has to name it.
        fence: Fence,
        /// The next number that is to be read; `None`: nothing was read yet.
        position: Option<u64>,
        /// How long ago it was last moved.
        idle: Option<Duration>,
    },
    /// Somebody else reads, for so long at least.
    Busy(Duration),
}

/// Moves the position.
#[derive(Clone, Debug)]
pub struct MoveFeed {
    /// Who reads.
    pub by: AttemptId,
    /// As which reader.
    pub fence: Fence,
    /// From where.
    pub from: Option<u64>,
    /// To where; the same again says that there was nothing new.
    pub to: u64,
    /// How long nobody else may read from now on; zero gives the right back.
    pub life: Duration,
}

/// What a MOVE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveFeedOutcome {
    /// It stands there now.
    Moved,
    /// Somebody else reads, or it stands somewhere else.
    Lost,
}
