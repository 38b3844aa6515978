//! The store that the configuration chose, without a virtual call.

use std::future::Future;

use tokio::sync::mpsc;

use super::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Fail, FailOutcome, Pace,
    Reassert, ReassertOutcome, Renew, RenewOutcome, Restore, RestoreOutcome, Seed, SeedOutcome, Snapshot, Store,
    StoreError,
};
use super::embedded::EmbeddedStore;
use super::redis::RedisStore;
use crate::words::clock::{Clock, SystemClock};
use crate::words::ids::TokenKey;

/// One of the stores there are.
#[derive(Clone, Debug)]
pub enum AnyStore<C = SystemClock> {
    /// A server that replicas share.
    Redis(RedisStore),
    /// A file of this process.
    Embedded(EmbeddedStore<C>),
}

macro_rules! on_either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Redis($store) => $call.await,
            Self::Embedded($store) => $call.await,
        }
    };
}

impl<C: Clock> Store for AnyStore<C> {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        on_either!(self, store => store.read(key))
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        on_either!(self, store => store.begin(key, begin))
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        on_either!(self, store => store.arm(key, arm))
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        on_either!(self, store => store.renew(key, renew))
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        on_either!(self, store => store.commit(key, commit))
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        on_either!(self, store => store.fail(key, fail))
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        on_either!(self, store => store.restore(key, restore))
    }

    async fn reassert(&self, key: &TokenKey, reassert: &Reassert) -> Result<ReassertOutcome, StoreError> {
        on_either!(self, store => store.reassert(key, reassert))
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        on_either!(self, store => store.seed(key, seed))
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        on_either!(self, store => store.end(key, end))
    }

    async fn reunite<F>(&self, process: &str, pace: Pace, retell: impl Fn() -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        on_either!(self, store => store.reunite(process, pace, retell));
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        on_either!(self, store => store.follow(changes));
    }
}
