//! The store in one file, for a developer's port or a single instance.
//!
//! It keeps the contract of [`Store`] without a server: every step is one transaction, synced before it is answered, and
//! one process owns the file. There is nobody to disagree with about the time, so the store's clock is this machine's:
//! see `time`. `file` is what is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast, mpsc};

use super::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    Freeze, News, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Reassert, ReassertOutcome, Renew,
    RenewOutcome, Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive, ReviveOutcome, Seed,
    SeedOutcome, Snapshot, Store, StoreError,
};
use super::provider::{self, ProviderRecord};
use super::record::Record;
use super::{history, steps};
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, ProviderId, TokenKey};

mod attempts;
mod feeds;
mod file;
mod listing;
mod quotas;
mod time;

#[cfg(test)]
pub(crate) use file::Raw;
use file::RecordFile;
use time::StoreTime;

/// How many changes a follower may be behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// The store in one file.
#[derive(Clone, Debug)]
pub struct EmbeddedStore<C> {
    inner: Arc<Inner<C>>,
}

#[derive(Debug)]
struct Inner<C> {
    file: RecordFile,
    time: StoreTime<C>,
    /// One step writes at a time, and those that wait hold no thread.
    turn: Arc<Semaphore>,
    changes: broadcast::Sender<Change>,
}

/// Why the file could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process owns it.
    #[error("the file {0} is open in another process; talk to it through its admin listener")]
    InUse(PathBuf),
    /// It cannot be opened or is not such a file.
    #[error("the file {path} cannot be opened: {why}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What the operating system or the file format says.
        why: String,
    },
}

impl<C: Clock> EmbeddedStore<C> {
    /// Opens or creates the file, for this user alone, and takes it over.
    ///
    /// If the calendar clock has jumped back behind the last writing, every stored access token counts as expired.
    pub fn open(path: &Path, clock: C) -> Result<Self, EmbeddedError> {
        let file = RecordFile::open(path)?;
        let time = StoreTime::starting(clock);
        let rebased = file.rebase(time.now()).and_then(|()| file.forget_names(time.now()));
        rebased.map_err(|error| EmbeddedError::Unusable { path: path.to_owned(), why: error.0 })?;
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        Ok(Self { inner: Arc::new(Inner { file, time, turn: Arc::new(Semaphore::new(1)), changes }) })
    }

    /// Runs one step in a transaction of its own, and writes beside it what `tell` says of it. It is finished even if the
    /// caller stops waiting.
    async fn step<A, T>(
        &self,
        key: &TokenKey,
        asked: &A,
        step: impl FnOnce(&mut Option<Record>, u64, &A) -> T + Send + 'static,
        tell: impl FnOnce(history::Change<'_>, &A, &T) -> Vec<Event> + Send + 'static,
    ) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let asked = asked.clone();
        let key = key.clone();
        self.in_turn(move |inner, now| {
            let run = |slot: &mut Option<Record>| {
                let before = slot.clone();
                let outcome = step(slot, now, &asked);
                let change = history::Change { before: before.as_ref(), after: slot.as_ref(), now };
                let events = tell(change, &asked, &outcome);
                let news = news(&key, slot.as_ref(), &events);
                ((outcome, news), events)
            };
            let ((outcome, news), moved) = inner.file.change(&key, now, run)?;
            for happened in news {
                let _ = inner.changes.send(Change::Happened(happened));
            }
            if let Some(version) = moved {
                // Nobody following is fine.
                let _ = inner.changes.send(Change::Moved { key, version });
            }
            Ok(outcome)
        })
        .await
    }

    /// Does work that writes, when it is its turn. It is finished even if the caller stops waiting.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner<C>, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::Unavailable("the embedded store is shutting down".into());
        let turn = Arc::clone(&self.inner.turn).acquire_owned().await.map_err(closed)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _turn = turn;
            work(&inner, inner.time.now())
        })
        .await
    }

    /// [`EmbeddedStore::step`] on a provider's record.
    async fn provider_step<T: Send + 'static>(
        &self,
        provider: &ProviderId,
        step: impl FnOnce(&mut ProviderRecord, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let provider = provider.clone();
        self.in_turn(move |inner, now| inner.file.change_provider(&provider, now, |record| step(record, now))).await
    }
}

impl<C: Clock> Store for EmbeddedStore<C> {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        blocking(move || {
            let now = inner.time.now();
            Ok(inner.file.read(&key, now)?.map(|record| record.snapshot(now)))
        })
        .await
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        self.step(key, begin, steps::begin, history::of_begin).await
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        self.step(key, arm, steps::arm, |change, asked, outcome| history::of_arm(change, asked, *outcome)).await
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        self.step(key, renew, steps::renew, |change, asked, outcome| history::of_renew(change, asked, *outcome)).await
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.step(key, commit, steps::commit, |change, asked, outcome| history::of_commit(change, asked, *outcome))
            .await
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        self.step(key, fail, steps::fail, |change, asked, outcome| history::of_fail(change, asked, *outcome)).await
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        self.step(key, restore, steps::restore, |change, asked, outcome| history::of_restore(change, asked, *outcome))
            .await
    }

    async fn reassert(&self, key: &TokenKey, reassert: &Reassert) -> Result<ReassertOutcome, StoreError> {
        let tell = |change: history::Change<'_>, asked: &_, outcome: &_| history::of_reassert(change, asked, *outcome);
        self.step(key, reassert, steps::reassert, tell).await
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        self.step(key, seed, steps::seed, |change, asked, outcome| history::of_seed(change, asked, *outcome)).await
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        self.step(key, end, steps::end, |change, asked, outcome| history::of_end(change, asked, *outcome)).await
    }

    async fn revive(&self, key: &TokenKey, revive: &Revive) -> Result<ReviveOutcome, StoreError> {
        self.step(key, revive, steps::revive, |change, asked, outcome| history::of_revive(change, asked, *outcome))
            .await
    }

    async fn history(&self, key: &TokenKey) -> Result<Vec<Event>, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        blocking(move || inner.file.history(&key, inner.time.now())).await
    }

    async fn reprieve(&self, key: &TokenKey, reprieve: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        let step = |slot: &mut Option<Record>, _: u64, asked: &Reprieve| steps::reprieve(slot, asked);
        let tell = |change: history::Change<'_>, asked: &_, outcome: &_| history::of_reprieve(change, asked, *outcome);
        self.step(key, reprieve, step, tell).await
    }

    async fn permits(&self, provider: &ProviderId, ask: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        let ask = ask.clone();
        self.provider_step(provider, move |record, now| provider::steps::permits(record, now, &ask)).await
    }

    async fn renew_permit(&self, provider: &ProviderId, permit: &AttemptId, life: Duration) -> Result<(), StoreError> {
        let permit = permit.clone();
        self.provider_step(provider, move |record, now| provider::steps::renew(record, now, &permit, life)).await
    }

    async fn report(&self, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
        let report = report.clone();
        self.provider_step(provider, move |record, now| provider::steps::report(record, now, &report)).await
    }

    async fn freeze(&self, provider: &ProviderId, order: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        let order = order.cloned();
        self.provider_step(provider, move |record, now| {
            provider::steps::freeze(record, now, order.as_ref());
            record.standing(now)
        })
        .await
    }

    async fn standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
        self.provider_step(provider, |record, now| record.standing(now)).await
    }

    // A file that syncs every step forgets nothing.
    async fn reunite<F>(&self, _: &str, _: Pace, _: u64, _: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        std::future::pending::<()>().await;
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        let mut told = self.inner.changes.subscribe();
        if changes.send(Change::Connected).await.is_err() {
            return;
        }
        loop {
            let next = tokio::select! {
                next = told.recv() => next,
                () = changes.closed() => return,
            };
            let passed_on = match next {
                Ok(change) => changes.send(change).await,
                Err(broadcast::error::RecvError::Lagged(_)) => match changes.send(Change::Lost).await {
                    Ok(()) => changes.send(Change::Connected).await,
                    Err(gone) => Err(gone),
                },
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if passed_on.is_err() {
                return;
            }
        }
    }
}

/// What others are told of these events.
fn news(key: &TokenKey, record: Option<&Record>, events: &[Event]) -> Vec<News> {
    let (TokenKey::Consent(consent), Some(record)) = (key, record) else { return Vec::new() };
    let told = events.iter().filter(|event| event.kind.is_news()).map(|event| News {
        consent: consent.clone(),
        provider: record.provider.clone(),
        state: record.state,
        event: event.clone(),
    });
    told.collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let gone = |_| StoreError::Unavailable("the embedded store's worker ended early".into());
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}

#[cfg(test)]
impl<C: Clock> EmbeddedStore<C> {
    /// A record and its history, to put back later as a store does that forgets.
    pub(crate) fn raw(&self, key: &TokenKey) -> Option<Raw> {
        self.inner.file.read_raw(key)
    }

    /// Between two steps, so that none that has begun writes over it.
    pub(crate) async fn set_raw(&self, key: &TokenKey, raw: Option<&Raw>) {
        let _turn = self.inner.turn.acquire().await.unwrap();
        self.inner.file.write_raw(key, raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{RecordState, Sealed};
    use crate::words::clock::{ManualClock, WallTime};
    use crate::words::ids::{AttemptId, ConsentId, Fingerprint, GrantId, ProviderId, Version};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn key() -> TokenKey {
        TokenKey::Consent(ConsentId::parse("c1").unwrap())
    }

    fn seed() -> Seed {
        Seed {
            provider: ProviderId::parse("bank").unwrap(),
            grant: GrantId::random(),
            expected: None,
            age: None,
            access: Sealed::from_bytes(*b"access"),
            refresh: Some(Sealed::from_bytes(*b"refresh")),
            refresh_fingerprint: Some(Fingerprint::from_bytes([1; 16])),
            remaining: HOUR,
            life: HOUR,
            scope: None,
            bank_consent_id: None,
            consent_expires_at: None,
            certificate: None,
        }
    }

    fn clock() -> ManualClock {
        ManualClock::new(WallTime::from_millis(1_760_000_000_000))
    }

    #[tokio::test]
    async fn records_outlive_the_process_and_age_meanwhile() {
        let home = tempfile::tempdir().unwrap();
        let (path, clock) = (home.path().join("s.redb"), clock());
        let store = EmbeddedStore::open(&path, clock.clone()).unwrap();
        store.seed(&key(), &seed()).await.unwrap();
        drop(store);
        clock.advance(Duration::from_secs(600));
        let store = EmbeddedStore::open(&path, clock).unwrap();
        let snapshot = store.read(&key()).await.unwrap().unwrap();
        assert_eq!(snapshot.remaining, Duration::from_secs(3_000));
    }

    #[tokio::test]
    async fn after_a_calendar_that_jumped_back_no_access_token_lives_and_no_lease_lasts_for_years() {
        let home = tempfile::tempdir().unwrap();
        let (path, clock) = (home.path().join("s.redb"), clock());
        let begin = |attempt| Begin {
            attempt: AttemptId::new("r", attempt),
            provider: ProviderId::parse("bank").unwrap(),
            wanted: HOUR * 2,
            rejected: None,
            rejection_pause: HOUR,
            lease: Duration::from_secs(10),
            quarantine: HOUR,
            grace: None,
            create: None,
        };
        let store = EmbeddedStore::open(&path, clock.clone()).unwrap();
        store.seed(&key(), &seed()).await.unwrap();
        assert!(matches!(store.begin(&key(), &begin(1)).await.unwrap(), BeginOutcome::Granted(..)));
        drop(store);
        clock.set_wall(WallTime::from_millis(1_500_000_000_000));
        let store = EmbeddedStore::open(&path, clock.clone()).unwrap();
        let snapshot = store.read(&key()).await.unwrap().unwrap();
        assert_eq!((snapshot.remaining, snapshot.state), (Duration::ZERO, RecordState::Leased));
        clock.advance(Duration::from_secs(11));
        assert!(matches!(store.begin(&key(), &begin(2)).await.unwrap(), BeginOutcome::Granted(..)));
    }

    #[tokio::test]
    async fn a_second_owner_is_told_whom_to_talk_to() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s.redb");
        let _owner = EmbeddedStore::open(&path, clock()).unwrap();
        let error = EmbeddedStore::open(&path, clock()).unwrap_err();
        assert_eq!(error, EmbeddedError::InUse(path));
        assert!(error.to_string().contains("admin listener"));
    }

    #[tokio::test]
    async fn a_file_of_another_kind_is_unusable_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s.redb");
        std::fs::write(&path, b"something else entirely").unwrap();
        assert!(matches!(EmbeddedStore::open(&path, clock()), Err(EmbeddedError::Unusable { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"something else entirely");
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_understood_is_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&home.path().join("s.redb"), clock()).unwrap();
        for garbage in [&b"CANARY garbage"[..], b"\0\0\0\0\0\0\0\x01v\0\0\0\0\0\0\0\x019"] {
            store.set_raw(&key(), Some(&(garbage.to_vec(), Vec::new()))).await;
            let errors = [
                store.read(&key()).await.unwrap_err(),
                store.seed(&key(), &seed()).await.unwrap_err(),
                store
                    .end(&key(), &End { grant: None, state: RecordState::Revoked, why: "x".into(), remembered: None })
                    .await
                    .unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(&error, StoreError::Unreadable(text) if !text.contains("CANARY")), "{error}");
            }
            assert_eq!(store.raw(&key()), Some((garbage.to_vec(), Vec::new())));
        }
    }

    #[tokio::test]
    async fn a_tombstone_is_forgotten_after_a_week() {
        let home = tempfile::tempdir().unwrap();
        let clock = clock();
        let store = EmbeddedStore::open(&home.path().join("s.redb"), clock.clone()).unwrap();
        let seed = seed();
        store.seed(&key(), &seed).await.unwrap();
        store
            .end(&key(), &End { grant: None, state: RecordState::Revoked, why: "asked".into(), remembered: None })
            .await
            .unwrap();
        clock.advance(HOUR * (24 * 7 - 1));
        assert!(store.read(&key()).await.unwrap().is_some());
        assert_eq!(store.history(&key()).await.unwrap().len(), 2);
        clock.advance(HOUR);
        assert!(store.read(&key()).await.unwrap().is_none());
        assert_eq!(store.history(&key()).await.unwrap(), [], "and its history with it");
        let expected = Some(Version::first(seed.grant));
        assert_eq!(store.seed(&key(), &Seed { expected, ..seed.clone() }).await.unwrap(), SeedOutcome::Missing);
        store.seed(&key(), &seed).await.unwrap();
        assert_eq!(store.history(&key()).await.unwrap().len(), 1, "a new life begins without the old one's history");
    }
}
