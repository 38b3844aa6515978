//! The steps of the refresh protocol as a store offers them.
//!
//! Every step is atomic on one record, runs on the store's own clock, and is idempotent: the same step of the same
//! attempt answers the same after a lost reply. Durations cross this seam, never timestamps, because the clocks on its
//! two sides differ. The exceptions are when a consent ends, which is a date of the calendar, the dates in its history,
//! and by when a store knew of a process, which is compared only with the like.
//!
//! This file is the seam: the steps by name, and what a store tells unasked. `record` is what a record looks like from
//! outside, `leases`, `outcomes`, `memories` and `orders` what each step asks and answers, `event` what the history of a
//! record tells, `provider` what the steps on a provider's record do, `age` how far a store has come, `attempt` what is
//! kept of a customer on the way to the bank and back, `quota` how often a consent was used without its customer, `listing`
//! a walk over all consents, `feed` what is kept of a bank's events.

mod age;
mod attempt;
mod event;
mod feed;
mod leases;
mod listing;
mod memories;
mod news;
mod orders;
mod outcomes;
mod provider;
mod quota;
mod record;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

pub use age::{Arrival, Occasion, StoreAge};
pub use attempt::{
    Attempt, AttemptStage, Attempts, Await, AwaitOutcome, Bind, BindOutcome, Claim, ClaimOutcome, ClaimTo, Open,
    Settle, SettleOutcome, Tell, Term,
};
pub use event::{Event, EventKind, MOST_EVENTS, said_words};
pub use feed::{Feeds, MOST_NAMED, MoveFeed, MoveFeedOutcome, TakeFeed, TakeFeedOutcome};
pub use leases::{Arm, ArmOutcome, Begin, BeginOutcome, Grace, Lease, Renew, RenewOutcome, Waiting};
pub use listing::{ListOutcome, ListPage, Listed, Listing, Place};
pub use memories::{Holder, Reassert, ReassertOutcome, Restore, RestoreOutcome};
pub use news::News;
pub use orders::{End, EndOutcome, Resealed, Revive, ReviveOutcome, Seed, SeedOutcome};
pub use outcomes::{Commit, CommitOutcome, Fail, FailOutcome, FailTo};
pub use provider::{
    Breaker, BreakerClass, Freeze, FreezeReason, Lesson, Limits, Opened, PermitAnswer, PermitAsk, ProviderStanding,
    Refusal, Report, Reported, Reprieve, ReprieveOutcome, Stage, Suspect, Verdict, Wanted,
};
pub use quota::{Quotas, Refund, Spend, SpendOutcome, Window};
pub use record::{RecordState, Sealed, Snapshot};

use crate::words::ids::{AttemptId, ProviderId, TokenKey, Version};

/// Keeps records. One of the program's three seams.
///
/// An `Err` says that the step's outcome is not known unless the variant says otherwise; the caller repeats the same
/// step of the same attempt. Where the operator requires replicas, COMMIT, RESTORE, REASSERT, SEED, END and REVIVE have
/// an outcome only once enough of them have it, and are `Unavailable` until then; an ARM has an outcome of its own for
/// that.
pub trait Store: Send + Sync + 'static {
    /// Reads a record without changing it. `None`: there is none.
    fn read(&self, key: &TokenKey) -> impl Future<Output = Result<Option<Snapshot>, StoreError>> + Send;

    /// Asks for a token, or for the right to get one.
    fn begin(&self, key: &TokenKey, begin: &Begin) -> impl Future<Output = Result<BeginOutcome, StoreError>> + Send;

    /// Writes down, durably, that the refresh token of this version is being spent. Nothing may be sent before.
    fn arm(&self, key: &TokenKey, arm: &Arm) -> impl Future<Output = Result<ArmOutcome, StoreError>> + Send;

    /// Prolongs a lease while the bank thinks.
    fn renew(&self, key: &TokenKey, renew: &Renew) -> impl Future<Output = Result<RenewOutcome, StoreError>> + Send;

    /// Replaces the token set of the version that was spent, whether or not the lease still holds, and tells every
    /// replica.
    fn commit(&self, key: &TokenKey, commit: &Commit)
    -> impl Future<Output = Result<CommitOutcome, StoreError>> + Send;

    /// Ends a lease without a new token set.
    fn fail(&self, key: &TokenKey, fail: &Fail) -> impl Future<Output = Result<FailOutcome, StoreError>> + Send;

    /// Puts back a record of which the store remembers less than we do.
    fn restore(
        &self,
        key: &TokenKey,
        restore: &Restore,
    ) -> impl Future<Output = Result<RestoreOutcome, StoreError>> + Send;

    /// Tells a store that may have forgotten it that a refresh token is being spent, or may have been.
    fn reassert(
        &self,
        key: &TokenKey,
        reassert: &Reassert,
    ) -> impl Future<Output = Result<ReassertOutcome, StoreError>> + Send;

    /// Stores the first token set of a new grant: an import or a fresh consent.
    fn seed(&self, key: &TokenKey, seed: &Seed) -> impl Future<Output = Result<SeedOutcome, StoreError>> + Send;

    /// Ends a consent for good: the tokens are wiped, a tombstone stays.
    fn end(&self, key: &TokenKey, end: &End) -> impl Future<Output = Result<EndOutcome, StoreError>> + Send;

    /// Takes back the suspension of a consent, so that the refresh token that was kept is tried again.
    fn revive(&self, key: &TokenKey, revive: &Revive)
    -> impl Future<Output = Result<ReviveOutcome, StoreError>> + Send;

    /// The last events of a consent, oldest first. Nothing is told of client tokens.
    fn history(&self, key: &TokenKey) -> impl Future<Output = Result<Vec<Event>, StoreError>> + Send;
    /// Takes back a suspension, if the consent is suspended by exactly that refusal, and tells every replica.
    fn reprieve(
        &self,
        key: &TokenKey,
        reprieve: &Reprieve,
    ) -> impl Future<Output = Result<ReprieveOutcome, StoreError>> + Send;

    /// Asks for leave to send token requests to a provider.
    fn permits(
        &self,
        provider: &ProviderId,
        ask: &PermitAsk,
    ) -> impl Future<Output = Result<PermitAnswer, StoreError>> + Send;

    /// Prolongs a permit while the bank thinks.
    fn renew_permit(
        &self,
        provider: &ProviderId,
        permit: &AttemptId,
        life: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives a permit back, and says what it taught.
    fn report(
        &self,
        provider: &ProviderId,
        report: &Report,
    ) -> impl Future<Output = Result<Reported, StoreError>> + Send;

    /// Freezes a provider, or thaws it: `None`.
    fn freeze(
        &self,
        provider: &ProviderId,
        order: Option<&Freeze>,
    ) -> impl Future<Output = Result<ProviderStanding, StoreError>> + Send;

    /// How a provider stands. Changes nothing.
    fn standing(&self, provider: &ProviderId) -> impl Future<Output = Result<ProviderStanding, StoreError>> + Send;

    /// Keeps leases from being granted by a server that came back and may have forgotten something, until every process
    /// has told it what it remembers: `attend` does so for this process, named `process`, and is repeated until it
    /// succeeds. It is told, too, how far the store has come, when a server is met and with every beat; `known` is how
    /// many steps the store is known to have taken. Runs for as long as it is polled. Where nothing is ever forgotten it
    /// does nothing.
    fn reunite<F>(
        &self,
        process: &str,
        pace: Pace,
        known: u64,
        attend: impl Fn(Occasion) -> F + Send + Sync,
    ) -> impl Future<Output = ()> + Send
    where
        F: Future<Output = Result<(), StoreError>> + Send;

    /// Tells `changes` of every record that was replaced by anybody, until the receiver is dropped. Reconnects by
    /// itself and says when it is blind.
    fn follow(&self, changes: mpsc::Sender<Change>) -> impl Future<Output = ()> + Send;
}

/// How long each part of a reunion takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often a process says that it lives.
    pub beat: Duration,
    /// How often it looks while a server is shut.
    pub look: Duration,
    /// Whoever was silent for longer before a server came back is not waited for.
    pub alive: Duration,
    /// Whoever is missing is waited for so long: a lease and a quarantine.
    pub patience: Duration,
    /// How long a server is shut that has lost the list of processes, too.
    pub rest: Duration,
    /// A store that comes back from longer before than this was put back from an old backup.
    pub setback: Duration,
}

/// What a store tells those who follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From here on every change is told. What was remembered before has to be checked.
    Connected,
    /// Changes may be missed from here on.
    Lost,
    /// A record was replaced, restored, seeded, ended, or found to need a new consent. In the last case the version is
    /// the one that was known: what is remembered of it has to be read again.
    Moved {
        /// Which.
        key: TokenKey,
        /// What it holds.
        version: Version,
    },
    /// Something happened to a consent that others are told of.
    Happened(News),
}

/// Why a step of the store has no outcome. The texts name servers and fields, never contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached or did not answer in time; the step may or may not have happened.
    #[error("the token store is not available: {0}")]
    Unavailable(String),
    /// It answered that we may not do this, or that it cannot; the step did not happen.
    #[error("the token store refused: {0}")]
    Refused(String),
    /// It came back and is being told what it may have forgotten. No lease is granted before; the step did not happen.
    #[error("the token store came back and is being told what it may have forgotten")]
    Reuniting,
    /// The record is there but cannot be understood, and was left as it is.
    #[error("the stored record cannot be read: {0}")]
    Unreadable(String),
}
