//! Where token sets live, and who may replace one.
//!
//! The store is the referee of the refresh protocol: it holds one record per consent and changes it only through the
//! atomic steps of [`Store`], each of which compares (grant, generation) and may be repeated after a lost reply. Read
//! [`contract`] for the steps and their outcomes, [`record`] for the fields behind them, [`history`] for what is told of
//! a consent's past, [`seal`] for how tokens are
//! [`contract`] for the steps and their outcomes, [`record`] for the fields behind them, [`provider`] for what replicas
//! share about a bank, [`feed`] for how far its events were read, [`attempt`] for what is kept of a customer on the way there, [`quota`] for how
//! often a consent is used without its customer, [`seal`] for how tokens are
//! kept from whoever can read the store, and [`spill`] for the copy that bridges a store that is away. [`redis`] and
//! [`embedded`] keep the same contract, held to it by the same tests; [`any`] is whichever the configuration chose.
//!
//! A store sees tokens sealed and never opens them.

pub mod any;
pub mod attempt;
pub mod contract;
pub mod embedded;
pub mod feed;
pub mod history;
pub mod keys;
pub mod provider;
pub mod quota;
pub mod record;
pub mod redis;
pub mod seal;
pub mod spill;
pub mod steps;

pub use any::AnyStore;
pub use contract::{
    Arm, ArmOutcome, Arrival, Attempt, AttemptStage, Attempts, Await, AwaitOutcome, Begin, BeginOutcome, Bind,
    BindOutcome, Breaker, BreakerClass, Change, Claim, ClaimOutcome, ClaimTo, Commit, CommitOutcome, End, EndOutcome,
    Event, EventKind, Fail, FailOutcome, FailTo, Feeds, Freeze, FreezeReason, Grace, Holder, Lease, Lesson, Limits,
    ListOutcome, ListPage, Listed, Listing, MOST_EVENTS, MOST_NAMED, MoveFeed, MoveFeedOutcome, News, Occasion, Open,
    Opened, Pace, PermitAnswer, PermitAsk, Place, ProviderStanding, Quotas, Reassert, ReassertOutcome, RecordState,
    Refund, Refusal, Renew, RenewOutcome, Report, Reported, Reprieve, ReprieveOutcome, Resealed, Restore,
    RestoreOutcome, Revive, ReviveOutcome, Sealed, Seed, SeedOutcome, Settle, SettleOutcome, Snapshot, Spend,
    SpendOutcome, Stage, Store, StoreAge, StoreError, Suspect, TakeFeed, TakeFeedOutcome, Tell, Term, Verdict, Waiting,
    Wanted, Window,
};
pub use embedded::EmbeddedStore;
pub use redis::RedisStore;
