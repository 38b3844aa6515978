//! The store that the configuration chose, without a virtual call.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

use super::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    Freeze, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Reassert, ReassertOutcome, Renew, RenewOutcome,
    Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive, ReviveOutcome, Seed, SeedOutcome,
    Snapshot, Store, StoreError,
};
use super::contract::{
    Attempt, Attempts, Await, AwaitOutcome, Bind, BindOutcome, Claim, ClaimOutcome, Open, Settle, SettleOutcome, Tell,
    Term,
};
use super::contract::{
    Feeds, ListOutcome, Listing, MoveFeed, MoveFeedOutcome, Place, Quotas, Refund, Spend, SpendOutcome, TakeFeed,
    TakeFeedOutcome,
};
use super::embedded::EmbeddedStore;
use super::redis::RedisStore;
use crate::words::clock::{Clock, SystemClock};
use crate::words::ids::{AttemptId, BankNameDigest, ConsentId, ProviderId, StateDigest, TokenKey};

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

    async fn revive(&self, key: &TokenKey, revive: &Revive) -> Result<ReviveOutcome, StoreError> {
        on_either!(self, store => store.revive(key, revive))
    }

    async fn history(&self, key: &TokenKey) -> Result<Vec<Event>, StoreError> {
        on_either!(self, store => store.history(key))
    }

    async fn reprieve(&self, key: &TokenKey, reprieve: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        on_either!(self, store => store.reprieve(key, reprieve))
    }

    async fn permits(&self, provider: &ProviderId, ask: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        on_either!(self, store => store.permits(provider, ask))
    }

    async fn renew_permit(&self, provider: &ProviderId, permit: &AttemptId, life: Duration) -> Result<(), StoreError> {
        on_either!(self, store => store.renew_permit(provider, permit, life))
    }

    async fn report(&self, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
        on_either!(self, store => store.report(provider, report))
    }

    async fn freeze(&self, provider: &ProviderId, order: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        on_either!(self, store => store.freeze(provider, order))
    }

    async fn standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
        on_either!(self, store => store.standing(provider))
    }

    async fn reunite<F>(&self, process: &str, pace: Pace, known: u64, attend: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        on_either!(self, store => store.reunite(process, pace, known, attend));
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        on_either!(self, store => store.follow(changes));
    }
}

impl<C: Clock> Attempts for AnyStore<C> {
    async fn await_grant(&self, key: &TokenKey, wait: &Await) -> Result<AwaitOutcome, StoreError> {
        on_either!(self, store => store.await_grant(key, wait))
    }

    async fn tell(&self, key: &TokenKey, tell: &Tell) -> Result<(), StoreError> {
        on_either!(self, store => store.tell(key, tell))
    }

    async fn term(&self, key: &TokenKey, term: &Term) -> Result<bool, StoreError> {
        on_either!(self, store => store.term(key, term))
    }

    async fn open(&self, state: &StateDigest, open: &Open) -> Result<(), StoreError> {
        on_either!(self, store => store.open(state, open))
    }

    async fn bind(&self, state: &StateDigest, bind: &Bind) -> Result<BindOutcome, StoreError> {
        on_either!(self, store => store.bind(state, bind))
    }

    async fn claim(&self, state: &StateDigest, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        on_either!(self, store => store.claim(state, claim))
    }

    async fn settle(&self, state: &StateDigest, settle: &Settle) -> Result<SettleOutcome, StoreError> {
        on_either!(self, store => store.settle(state, settle))
    }

    async fn attempt(&self, state: &StateDigest) -> Result<Option<Attempt>, StoreError> {
        on_either!(self, store => store.attempt(state))
    }
}

impl<C: Clock> Quotas for AnyStore<C> {
    async fn spend(&self, consent: &ConsentId, spend: &Spend) -> Result<SpendOutcome, StoreError> {
        on_either!(self, store => store.spend(consent, spend))
    }

    async fn refund(&self, consent: &ConsentId, refund: &Refund) -> Result<(), StoreError> {
        on_either!(self, store => store.refund(consent, refund))
    }
}

impl<C: Clock> Listing for AnyStore<C> {
    async fn list(&self, from: Option<&Place>, count: u32) -> Result<ListOutcome, StoreError> {
        on_either!(self, store => store.list(from, count))
    }
}

impl<C: Clock> Feeds for AnyStore<C> {
    async fn take_feed(&self, provider: &ProviderId, take: &TakeFeed) -> Result<TakeFeedOutcome, StoreError> {
        on_either!(self, store => store.take_feed(provider, take))
    }

    async fn move_feed(&self, provider: &ProviderId, moved: &MoveFeed) -> Result<MoveFeedOutcome, StoreError> {
        on_either!(self, store => store.move_feed(provider, moved))
    }

    async fn name_consent(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        consent: &ConsentId,
        life: Duration,
    ) -> Result<(), StoreError> {
        on_either!(self, store => store.name_consent(provider, name, consent, life))
    }

    async fn consents_named(&self, provider: &ProviderId, name: &BankNameDigest) -> Result<Vec<ConsentId>, StoreError> {
        on_either!(self, store => store.consents_named(provider, name))
    }
}
