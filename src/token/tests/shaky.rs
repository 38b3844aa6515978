//! The embedded store, except that a step fails when a test says so, and that a test may act right after one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::store::embedded::{EmbeddedStore, Raw};
use crate::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    Freeze, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Reassert, ReassertOutcome, Renew, RenewOutcome,
    Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive, ReviveOutcome, Seed, SeedOutcome,
    Snapshot, Store, StoreError,
};
use crate::words::clock::ManualClock;
use crate::words::ids::{AttemptId, ProviderId, TokenKey};

type Act = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

pub(in crate::token) struct Shaky {
    store: EmbeddedStore<ManualClock>,
    failing: Mutex<&'static [&'static str]>,
    reuniting: AtomicBool,
    losing: Mutex<Option<&'static str>>,
    after: Mutex<Option<(&'static str, Act)>>,
    taken: Mutex<Vec<&'static str>>,
}

impl std::fmt::Debug for Shaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shaky")
    }
}

impl Shaky {
    pub(in crate::token) fn new(store: EmbeddedStore<ManualClock>) -> Self {
        Self {
            store,
            failing: Mutex::default(),
            reuniting: AtomicBool::default(),
            losing: Mutex::default(),
            after: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    /// From here on these steps answer that the store is away, and nothing happens.
    pub(super) fn refuse(&self, steps: &'static [&'static str]) {
        *self.failing.lock().expect("no panic") = steps;
    }

    /// From here on, or no longer, it grants nothing because it came back and has to be told what it may have forgotten.
    pub(super) fn reunite(&self, reuniting: bool) {
        self.reuniting.store(reuniting, Ordering::Release);
    }

    /// Another process' way to the same store, which is shaky in its own right.
    pub(super) fn again(&self) -> Self {
        Self::new(self.store.clone())
    }

    /// Loses one reply to this step: it is done, and answers that the store is away.
    pub(super) fn lose_reply(&self, step: &'static str) {
        *self.losing.lock().expect("no panic") = Some(step);
    }

    /// Acts once, between this step's effect and its answer.
    pub(super) fn after<F: Future<Output = ()> + Send + 'static>(
        &self,
        step: &'static str,
        act: impl FnOnce() -> F + Send + 'static,
    ) {
        *self.after.lock().expect("no panic") = Some((step, Box::new(|| Box::pin(act()))));
    }

    /// A record and its history, as they stand.
    pub(super) fn raw(&self, key: &TokenKey) -> Option<Raw> {
        self.store.raw(key)
    }

    /// Puts back what [`Shaky::raw`] read, as a store does that forgets.
    pub(super) async fn set_raw(&self, key: &TokenKey, raw: Option<&Raw>) {
        self.store.set_raw(key, raw).await;
    }

    /// How often this step was asked for.
    pub(super) fn count(&self, step: &str) -> usize {
        self.taken.lock().expect("no panic").iter().filter(|taken| **taken == step).count()
    }

    async fn take<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.taken.lock().expect("no panic").push(step);
        if self.failing.lock().expect("no panic").contains(&step) {
            return Err(StoreError::Unavailable("the test says so".to_owned()));
        }
        if step == "begin" && self.reuniting.load(Ordering::Acquire) {
            return Err(StoreError::Reuniting);
        }
        let outcome = work.await;
        let act = self.after.lock().expect("no panic").take_if(|(awaited, _)| *awaited == step);
        if let Some((_, act)) = act {
            act().await;
        }
        if self.losing.lock().expect("no panic").take_if(|losing| *losing == step).is_some() {
            return Err(StoreError::Unavailable("the reply was lost".to_owned()));
        }
        outcome
    }
}

impl Store for Shaky {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        self.take("read", self.store.read(key)).await
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        self.take("begin", self.store.begin(key, begin)).await
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        self.take("arm", self.store.arm(key, arm)).await
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        self.take("renew", self.store.renew(key, renew)).await
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.take("commit", self.store.commit(key, commit)).await
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        self.take("fail", self.store.fail(key, fail)).await
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        self.take("restore", self.store.restore(key, restore)).await
    }

    async fn reassert(&self, key: &TokenKey, reassert: &Reassert) -> Result<ReassertOutcome, StoreError> {
        self.take("reassert", self.store.reassert(key, reassert)).await
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        self.take("seed", self.store.seed(key, seed)).await
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        self.take("end", self.store.end(key, end)).await
    }

    async fn revive(&self, key: &TokenKey, revive: &Revive) -> Result<ReviveOutcome, StoreError> {
        self.take("revive", self.store.revive(key, revive)).await
    }

    async fn history(&self, key: &TokenKey) -> Result<Vec<Event>, StoreError> {
        self.take("history", self.store.history(key)).await
    }

    async fn reprieve(&self, key: &TokenKey, reprieve: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        self.take("reprieve", self.store.reprieve(key, reprieve)).await
    }

    async fn permits(&self, provider: &ProviderId, ask: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        self.take("permits", self.store.permits(provider, ask)).await
    }

    async fn renew_permit(&self, provider: &ProviderId, id: &AttemptId, life: Duration) -> Result<(), StoreError> {
        self.take("renew_permit", self.store.renew_permit(provider, id, life)).await
    }

    async fn report(&self, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
        self.take("report", self.store.report(provider, report)).await
    }

    async fn freeze(&self, provider: &ProviderId, order: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        self.take("freeze", self.store.freeze(provider, order)).await
    }

    async fn standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
        self.take("standing", self.store.standing(provider)).await
    }

    async fn reunite<F>(&self, process: &str, pace: Pace, known: u64, attend: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        self.store.reunite(process, pace, known, attend).await;
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        self.store.follow(changes).await;
    }
}
