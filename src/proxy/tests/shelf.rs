//! A store that is a table in memory. It never grants a lease: what is new is there, as if another replica had got it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::store::quota::{QuotaRecord, steps};
use crate::store::seal::{Keyring, SealKey};
use crate::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    Freeze, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Quotas, Reassert, ReassertOutcome, RecordState,
    Refund, Renew, RenewOutcome, Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive,
    ReviveOutcome, Seed, SeedOutcome, Snapshot, Spend, SpendOutcome, Store, StoreError, Waiting,
};
use crate::token::Vault;
use crate::words::ids::{AttemptId, ConsentId, GrantId, ProviderId, TokenKey, Version};
use crate::words::secrets::AccessToken;
use crate::words::token_set::Scope;

/// A table of records, each in a mood.
#[derive(Clone, Debug)]
pub(super) struct Shelf(Arc<Table>);

#[derive(Debug)]
struct Table {
    vault: Vault,
    records: Mutex<HashMap<TokenKey, Record>>,
    open: watch::Sender<bool>,
    reads: AtomicUsize,
    begins: AtomicUsize,
    ended: watch::Sender<Vec<TokenKey>>,
    quotas: Mutex<HashMap<ConsentId, QuotaRecord>>,
    counting: Mutex<Counting>,
    spends: AtomicUsize,
}

/// What the store does when a call is to be counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counting {
    /// It counts.
    Works,
    /// It fails.
    Fails,
    /// It does not answer.
    Hangs,
}

#[derive(Clone, Debug)]
struct Record {
    provider: ProviderId,
    version: Version,
    state: RecordState,
    scope: Option<&'static str>,
    mood: Mood,
}

/// What the store says when a token is asked for.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    /// Here it is; there is a newer one for whoever says that it was rejected.
    Renews,
    /// Here it is; there is no newer one.
    Stays,
    /// Wait, for this reason, after this failure.
    Wait(Waiting, &'static str),
    /// It fails.
    Fails(StoreError),
}

impl Default for Shelf {
    /// `c1` is active; `theirs` belongs to another provider.
    fn default() -> Self {
        let table = Table {
            vault: vault(),
            records: Mutex::default(),
            open: watch::Sender::new(true),
            reads: AtomicUsize::new(0),
            begins: AtomicUsize::new(0),
            ended: watch::Sender::new(Vec::new()),
            quotas: Mutex::default(),
            counting: Mutex::new(Counting::Works),
            spends: AtomicUsize::new(0),
        };
        let shelf = Self(Arc::new(table));
        shelf.put("c1", RecordState::Active, Mood::Renews);
        shelf.change("theirs", |record| record.provider = ProviderId::parse("other").expect("valid"));
        shelf
    }
}

impl Shelf {
    /// Puts a consent there, in this state and mood.
    pub(super) fn put(&self, id: &str, state: RecordState, mood: Mood) {
        self.change(id, |record| (record.state, record.mood) = (state, mood));
    }

    pub(super) fn scope(&self, id: &str, scope: &'static str) {
        self.change(id, |record| record.scope = Some(scope));
    }

    /// Whether it answers, or lets everybody wait.
    pub(super) fn answers(&self, answers: bool) {
        self.0.open.send_replace(answers);
    }

    /// How often a record was looked at.
    pub(super) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// How often the right to refresh was asked for.
    pub(super) fn begins(&self) -> usize {
        self.0.begins.load(Ordering::SeqCst)
    }

    /// How often a call was to be counted.
    pub(super) fn spends(&self) -> usize {
        self.0.spends.load(Ordering::SeqCst)
    }

    /// From here on calls are counted like this.
    pub(super) fn count(&self, how: Counting) {
        *self.0.counting.lock().expect("no panic") = how;
    }

    fn on_quota<T>(&self, consent: &ConsentId, step: impl FnOnce(&mut QuotaRecord) -> T) -> T {
        step(self.0.quotas.lock().expect("no panic").entry(consent.clone()).or_default())
    }

    /// Waits until this many consents were ended, and says which.
    pub(super) async fn ended(&self, count: usize) -> Vec<TokenKey> {
        let mut ended = self.0.ended.subscribe();
        super::within(ended.wait_for(|ended| ended.len() == count)).await.expect("it lives").clone()
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Record)) {
        let key = TokenKey::Consent(ConsentId::parse(id).expect("valid"));
        change(self.0.records.lock().expect("no panic").entry(key).or_insert_with(Record::new));
    }

    fn snapshot(&self, key: &TokenKey, record: &Record) -> Snapshot {
        let token = AccessToken::new(token_of(key, record.version.generation));
        let (access, _) =
            self.0.vault.seal(key, &record.provider, record.version, &token, None).expect("a known provider");
        let why = match &record.mood {
            Mood::Wait(_, why) => Some((*why).to_owned()),
            Mood::Renews | Mood::Stays | Mood::Fails(_) => None,
        };
        Snapshot {
            provider: record.provider.clone(),
            state: record.state,
            version: record.version,
            access: Some(access),
            remaining: match record.mood {
                Mood::Renews | Mood::Stays => Duration::from_secs(3_000),
                Mood::Wait(..) | Mood::Fails(_) => Duration::ZERO,
            },
            life: Duration::from_secs(3_600),
            refresh: None,
            refresh_fingerprint: None,
            granted_at: None,
            scope: record.scope.and_then(Scope::parse),
            bank_consent_id: None,
            consent_expires_at: None,
            consent_remaining: None,
            certificate: None,
            holder: None,
            lease_left: Duration::ZERO,
            uncertain_for: None,
            sends: 0,
            failures: 0,
            backoff: Duration::ZERO,
            why,
            replaced: None,
        }
    }
}

/// The access token of a record at this generation.
pub(super) fn token_of(key: &TokenKey, generation: u64) -> String {
    match key {
        TokenKey::Consent(id) => format!("CANARY-{}-{generation}", id.as_str()),
        TokenKey::Client(_) => format!("CANARY-client-{generation}"),
    }
}

impl Record {
    fn new() -> Self {
        Self {
            provider: provider(),
            version: Version::first(GrantId::random()),
            state: RecordState::Active,
            scope: None,
            mood: Mood::Renews,
        }
    }
}

impl Store for Shelf {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let mut open = self.0.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
        let record = self.0.records.lock().expect("no panic").get(key).cloned();
        Ok(record.map(|record| self.snapshot(key, &record)))
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        self.0.begins.fetch_add(1, Ordering::SeqCst);
        let mut open = self.0.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
        let record = {
            let mut records = self.0.records.lock().expect("no panic");
            if begin.create.is_some() {
                records.entry(key.clone()).or_insert_with(Record::new);
            }
            let Some(record) = records.get_mut(key) else { return Ok(BeginOutcome::Unknown) };
            if matches!(record.mood, Mood::Renews) && begin.rejected == Some(record.version) {
                record.version = record.version.next();
            }
            record.clone()
        };
        if record.provider != begin.provider {
            return Ok(BeginOutcome::Unknown);
        }
        let snapshot = self.snapshot(key, &record);
        if !record.state.is_usable() {
            return Ok(BeginOutcome::Refused(snapshot));
        }
        match record.mood {
            Mood::Renews | Mood::Stays => Ok(BeginOutcome::Fresh(snapshot)),
            Mood::Wait(waiting, _) => Ok(BeginOutcome::Wait(waiting, Duration::from_secs(7), snapshot)),
            Mood::Fails(error) => Err(error),
        }
    }

    async fn end(&self, key: &TokenKey, _: &End) -> Result<EndOutcome, StoreError> {
        self.0.ended.send_modify(|ended| ended.push(key.clone()));
        Err(StoreError::Unavailable("it was noted".to_owned()))
    }

    async fn reprieve(&self, _: &TokenKey, _: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        Err(never())
    }

    async fn permits(&self, _: &ProviderId, _: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        Err(never())
    }

    async fn renew_permit(&self, _: &ProviderId, _: &AttemptId, _: Duration) -> Result<(), StoreError> {
        Err(never())
    }

    async fn report(&self, _: &ProviderId, _: &Report) -> Result<Reported, StoreError> {
        Err(never())
    }

    async fn freeze(&self, _: &ProviderId, _: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        Err(never())
    }

    async fn standing(&self, _: &ProviderId) -> Result<ProviderStanding, StoreError> {
        Err(never())
    }

    async fn reunite<F>(&self, _: &str, _: Pace, _: u64, _: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        std::future::pending::<()>().await;
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        let _ = changes.send(Change::Connected).await;
        changes.closed().await;
    }

    async fn arm(&self, _: &TokenKey, _: &Arm) -> Result<ArmOutcome, StoreError> {
        Err(never())
    }

    async fn renew(&self, _: &TokenKey, _: &Renew) -> Result<RenewOutcome, StoreError> {
        Err(never())
    }

    async fn commit(&self, _: &TokenKey, _: &Commit) -> Result<CommitOutcome, StoreError> {
        Err(never())
    }

    async fn fail(&self, _: &TokenKey, _: &Fail) -> Result<FailOutcome, StoreError> {
        Err(never())
    }

    async fn restore(&self, _: &TokenKey, _: &Restore) -> Result<RestoreOutcome, StoreError> {
        Err(never())
    }

    async fn revive(&self, _: &TokenKey, _: &Revive) -> Result<ReviveOutcome, StoreError> {
        Err(never())
    }

    async fn history(&self, _: &TokenKey) -> Result<Vec<Event>, StoreError> {
        Err(never())
    }

    async fn reassert(&self, _: &TokenKey, _: &Reassert) -> Result<ReassertOutcome, StoreError> {
        Err(never())
    }

    async fn seed(&self, _: &TokenKey, _: &Seed) -> Result<SeedOutcome, StoreError> {
        Err(never())
    }
}

impl Quotas for Shelf {
    async fn spend(&self, consent: &ConsentId, spend: &Spend) -> Result<SpendOutcome, StoreError> {
        self.0.spends.fetch_add(1, Ordering::SeqCst);
        let counting = *self.0.counting.lock().expect("no panic");
        match counting {
            Counting::Works => Ok(self.on_quota(consent, |record| steps::spend(record, THEN, spend))),
            Counting::Fails => Err(StoreError::Unavailable("the test says so".to_owned())),
            Counting::Hangs => std::future::pending().await,
        }
    }

    async fn refund(&self, consent: &ConsentId, refund: &Refund) -> Result<(), StoreError> {
        self.on_quota(consent, |record| steps::refund(record, refund));
        Ok(())
    }
}

/// The time at which all calls are counted: 2025-10-09 08:53:20 UTC.
const THEN: u64 = 1_760_000_000_000;

fn never() -> StoreError {
    StoreError::Refused("this store grants no lease".to_owned())
}

/// The bank's name in the settings.
pub(super) fn provider() -> ProviderId {
    ProviderId::parse("bank").expect("valid")
}

/// Opens what a [`Shelf`] holds.
pub(super) fn vault() -> Vault {
    let key = SealKey::from_bytes("test", &[7; 32]).expect("32 bytes");
    let keyring = Keyring::new(vec![key]).expect("a key");
    let other = ProviderId::parse("other").expect("valid");
    let clients = [provider(), other].map(|provider| (provider, CLIENT_ID.to_owned()));
    Vault::new(keyring, "test".to_owned(), BTreeMap::from(clients))
}

pub(super) const CLIENT_ID: &str = "tpp";
