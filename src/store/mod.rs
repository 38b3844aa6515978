//! Where token sets live, and who may replace one.
//!
//! The store is the referee of the refresh protocol: it holds one record per consent and changes it only through the
//! atomic steps of [`Store`], each of which compares (grant, generation) and may be repeated after a lost reply. Read
//! [`contract`] for the steps and their outcomes, [`record`] for the fields behind them, [`seal`] for how tokens are
//! kept from whoever can read the store, and [`spill`] for the copy that bridges a store that is away. [`redis`] and
//! [`embedded`] keep the same contract, held to it by the same tests; [`any`] is whichever the configuration chose.
//!
//! A store sees tokens sealed and never opens them.

pub mod any;
pub mod contract;
pub mod embedded;
pub mod keys;
pub mod record;
pub mod redis;
pub mod seal;
pub mod spill;
pub mod steps;

pub use any::AnyStore;
pub use contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Fail, FailOutcome, FailTo,
    Grace, Holder, Lease, Pace, Reassert, ReassertOutcome, RecordState, Renew, RenewOutcome, Restore, RestoreOutcome,
    Sealed, Seed, SeedOutcome, Snapshot, Store, StoreError, Waiting,
};
pub use embedded::EmbeddedStore;
pub use redis::RedisStore;
