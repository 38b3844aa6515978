//! What tests of consents stand on: the embedded store with faults on demand, and a bank that must not be called.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{ImportRequest, Received};
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenRequest};
use crate::store::embedded::EmbeddedStore;
use crate::store::seal::{Keyring, SealKey};
use crate::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Event, Fail, FailOutcome,
    FailTo, Freeze, Grace, Occasion, Pace, PermitAnswer, PermitAsk, ProviderStanding, Reassert, ReassertOutcome,
    RecordState, Renew, RenewOutcome, Report, Reported, Reprieve, ReprieveOutcome, Restore, RestoreOutcome, Revive,
    ReviveOutcome, Seed, SeedOutcome, Snapshot, Store, StoreError,
};
use crate::store::{
    Attempt, Attempts, Await, AwaitOutcome, Bind, BindOutcome, Claim, ClaimOutcome, Open, Settle, SettleOutcome, Tell,
    Term,
};
use crate::store::{Feeds, MoveFeed, MoveFeedOutcome, TakeFeed, TakeFeedOutcome};
use crate::store::{ListOutcome, Listing, Place};
use crate::token::settings::{ProviderSettings, TokenSettings};
use crate::token::timing::Timing;
use crate::token::{Parts, Tokens, Vault};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{ManualClock, WallTime};
use crate::words::ids::{AttemptId, BankNameDigest, ConsentId, ProviderId, StateDigest, TokenKey};
use crate::words::metrics::Metrics;
use crate::words::said::Said;

pub(crate) type TestTokens = Tokens<FaultyStore, SilentBank, ManualClock>;

/// Everything an import needs, in a folder that goes with it.
pub(crate) struct Bench {
    pub(crate) tokens: TestTokens,
    pub(crate) clock: ManualClock,
    pub(crate) faults: Faults,
    pub(crate) bank: SilentBank,
    _home: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::new(WallTime::from_millis(1_760_000_000_000));
        let faults = Faults::default();
        let inner = EmbeddedStore::open(&home.path().join("s.redb"), clock.clone()).expect("opens");
        let store = FaultyStore { inner, faults: faults.clone(), clock: clock.clone() };
        let bank = SilentBank::default();
        let provider = ProviderSettings {
            behaviour: BankBehaviour::default(),
            client_id: "client".to_owned(),
            max_in_flight: ProviderSettings::MAX_IN_FLIGHT,
            max_per_second: ProviderSettings::MAX_PER_SECOND,
        };
        let key = SealKey::from_bytes("k", &[7; 32]).expect("32 bytes");
        let client_ids = BTreeMap::from([(provider_id(), "client".to_owned())]);
        let tokens = Tokens::new(Parts {
            store,
            clock: clock.clone(),
            endpoints: BTreeMap::from([(provider_id(), bank.clone())]),
            vault: Vault::new(Keyring::new(vec![key]).expect("one key"), "consentry".to_owned(), client_ids),
            spill: None,
            spill_required: false,
            settings: TokenSettings {
                providers: BTreeMap::from([(provider_id(), provider)]),
                cache_capacity: 100,
                max_flights: 100,
            },
            timing: Timing::STANDARD,
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
            replica: "test".to_owned(),
        });
        Self { tokens, clock, faults, bank, _home: home }
    }

    /// A request with these tokens, received at this moment, whose access token lives for an hour.
    pub(crate) fn request(&self, access: &str, refresh: &str) -> ImportRequest {
        let json = serde_json::json!({"provider": "bank", "access_token": access, "refresh_token": refresh,
            "expires_in": 3600, "scope": "accounts", "bank_consent_id": "b-1"});
        ImportRequest::parse(json.to_string().as_bytes(), Received::now(&self.clock)).expect("valid")
    }

    /// Notes in the store that the refresh token of `consent` is being spent, as a flight does before it sends it.
    pub(crate) async fn spend(&self, consent: &ConsentId) {
        let attempt = AttemptId::new("other", 1);
        let hour = Duration::from_secs(3_600);
        let begin = Begin {
            attempt: attempt.clone(),
            provider: provider_id(),
            wanted: hour * 2,
            rejected: None,
            rejection_pause: hour,
            lease: hour,
            quarantine: hour,
            grace: Some(Grace { window: hour, pause: Duration::ZERO }),
            create: None,
        };
        let key = TokenKey::Consent(consent.clone());
        let granted = self.tokens.store().begin(&key, &begin).await.expect("the store answers");
        let BeginOutcome::Granted(lease, _) = granted else { panic!("no lease: {granted:?}") };
        let arm = Arm { attempt, fence: lease.fence, base: lease.base, lease: hour, probe: false };
        assert_eq!(self.tokens.store().arm(&key, &arm).await, Ok(ArmOutcome::Armed));
    }

    /// Notes in the store that the bank refused the refresh token of `consent`, where that is not noted yet.
    pub(crate) async fn suspend(&self, consent: &ConsentId) {
        let key = TokenKey::Consent(consent.clone());
        let record = self.tokens.store().inner.read(&key).await.expect("the store answers").expect("stored");
        if record.state == RecordState::ReauthorizationRequired {
            return;
        }
        let attempt = AttemptId::new("other", 2);
        let hour = Duration::from_secs(3_600);
        let begin = Begin {
            attempt: attempt.clone(),
            provider: provider_id(),
            wanted: hour * 2,
            rejected: None,
            rejection_pause: hour,
            lease: hour,
            quarantine: hour,
            grace: None,
            create: None,
        };
        let granted = self.tokens.store().begin(&key, &begin).await.expect("the store answers");
        let BeginOutcome::Granted(lease, _) = granted else { panic!("no lease: {granted:?}") };
        let to = FailTo::ReauthorizationRequired;
        let said = Said::default();
        let fail = Fail { attempt, fence: lease.fence, base: lease.base, to, why: "revoked_or_expired", said };
        assert_eq!(self.tokens.store().fail(&key, &fail).await, Ok(FailOutcome::Recorded));
    }

    /// Ends the consent as an operator or a bank would.
    pub(crate) async fn revoke(&self, consent: &ConsentId) {
        let end = End { grant: None, state: RecordState::Revoked, why: "asked".to_owned(), remembered: None };
        let ended = self.tokens.store().end(&TokenKey::Consent(consent.clone()), &end).await;
        assert_eq!(ended, Ok(EndOutcome::Ended));
    }
}

pub(crate) fn provider_id() -> ProviderId {
    ProviderId::parse("bank").expect("valid")
}

pub(crate) fn consent_id() -> ConsentId {
    ConsentId::parse("customer-4711").expect("valid")
}

/// What the next seeds, reads and steps of attempts end in, first come, first served. When none is left, in what the store says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<VecDeque<Fault>>>);

/// How a step of the store goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It does not happen, and takes so long.
    Unavailable(Duration),
    /// It happens, and its answer is lost.
    LostReply,
    /// It is refused.
    Refused,
    /// The record cannot be understood.
    Unreadable,
    /// No answer ever comes.
    Silence,
}

impl Faults {
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().expect("no panic while held").extend(faults);
    }

    pub(crate) fn left(&self) -> usize {
        self.0.lock().expect("no panic while held").len()
    }
}

pub(crate) struct FaultyStore {
    inner: EmbeddedStore<ManualClock>,
    faults: Faults,
    clock: ManualClock,
}

impl FaultyStore {
    async fn faulty<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = self.faults.0.lock().expect("no panic while held").pop_front();
        match fault {
            None => step.await,
            Some(Fault::Unavailable(took)) => {
                self.clock.advance(took);
                Err(StoreError::Unavailable("the test said so".to_owned()))
            }
            Some(Fault::LostReply) => {
                step.await?;
                Err(StoreError::Unavailable("the reply was lost".to_owned()))
            }
            Some(Fault::Refused) => Err(StoreError::Refused("the test said so".to_owned())),
            Some(Fault::Unreadable) => Err(StoreError::Unreadable("the field x is missing".to_owned())),
            Some(Fault::Silence) => std::future::pending().await,
        }
    }
}

impl Store for FaultyStore {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        self.faulty(self.inner.read(key)).await
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        self.inner.begin(key, begin).await
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        self.inner.arm(key, arm).await
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        self.inner.renew(key, renew).await
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.inner.commit(key, commit).await
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        self.inner.fail(key, fail).await
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        self.inner.restore(key, restore).await
    }

    async fn reassert(&self, key: &TokenKey, reassert: &Reassert) -> Result<ReassertOutcome, StoreError> {
        self.inner.reassert(key, reassert).await
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        self.faulty(self.inner.seed(key, seed)).await
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        self.inner.end(key, end).await
    }

    async fn revive(&self, key: &TokenKey, revive: &Revive) -> Result<ReviveOutcome, StoreError> {
        self.faulty(self.inner.revive(key, revive)).await
    }

    async fn history(&self, key: &TokenKey) -> Result<Vec<Event>, StoreError> {
        self.faulty(self.inner.history(key)).await
    }

    async fn reprieve(&self, key: &TokenKey, reprieve: &Reprieve) -> Result<ReprieveOutcome, StoreError> {
        self.inner.reprieve(key, reprieve).await
    }

    async fn permits(&self, provider: &ProviderId, ask: &PermitAsk) -> Result<PermitAnswer, StoreError> {
        self.inner.permits(provider, ask).await
    }

    async fn renew_permit(&self, provider: &ProviderId, id: &AttemptId, life: Duration) -> Result<(), StoreError> {
        self.inner.renew_permit(provider, id, life).await
    }

    async fn report(&self, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
        self.inner.report(provider, report).await
    }

    async fn freeze(&self, provider: &ProviderId, order: Option<&Freeze>) -> Result<ProviderStanding, StoreError> {
        self.faulty(self.inner.freeze(provider, order)).await
    }

    async fn standing(&self, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
        self.faulty(self.inner.standing(provider)).await
    }

    async fn reunite<F>(&self, process: &str, pace: Pace, known: u64, attend: impl Fn(Occasion) -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        self.inner.reunite(process, pace, known, attend).await;
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        self.inner.follow(changes).await;
    }
}

impl Attempts for FaultyStore {
    async fn await_grant(&self, key: &TokenKey, wait: &Await) -> Result<AwaitOutcome, StoreError> {
        self.faulty(self.inner.await_grant(key, wait)).await
    }

    async fn term(&self, key: &TokenKey, term: &Term) -> Result<bool, StoreError> {
        self.inner.term(key, term).await
    }

    async fn tell(&self, key: &TokenKey, tell: &Tell) -> Result<(), StoreError> {
        self.inner.tell(key, tell).await
    }

    async fn open(&self, state: &StateDigest, open: &Open) -> Result<(), StoreError> {
        self.faulty(self.inner.open(state, open)).await
    }

    async fn bind(&self, state: &StateDigest, bind: &Bind) -> Result<BindOutcome, StoreError> {
        self.faulty(self.inner.bind(state, bind)).await
    }

    async fn claim(&self, state: &StateDigest, claim: &Claim) -> Result<ClaimOutcome, StoreError> {
        self.faulty(self.inner.claim(state, claim)).await
    }

    async fn settle(&self, state: &StateDigest, settle: &Settle) -> Result<SettleOutcome, StoreError> {
        self.inner.settle(state, settle).await
    }

    async fn attempt(&self, state: &StateDigest) -> Result<Option<Attempt>, StoreError> {
        self.faulty(self.inner.attempt(state)).await
    }
}

impl Listing for FaultyStore {
    async fn list(&self, from: Option<&Place>, count: u32) -> Result<ListOutcome, StoreError> {
        self.faulty(self.inner.list(from, count)).await
    }
}

impl Feeds for FaultyStore {
    async fn take_feed(&self, provider: &ProviderId, take: &TakeFeed) -> Result<TakeFeedOutcome, StoreError> {
        self.faulty(self.inner.take_feed(provider, take)).await
    }

    async fn move_feed(&self, provider: &ProviderId, moved: &MoveFeed) -> Result<MoveFeedOutcome, StoreError> {
        self.faulty(self.inner.move_feed(provider, moved)).await
    }

    async fn name_consent(
        &self,
        provider: &ProviderId,
        name: &BankNameDigest,
        consent: &ConsentId,
        life: Duration,
    ) -> Result<(), StoreError> {
        self.faulty(self.inner.name_consent(provider, name, consent, life)).await
    }

    async fn consents_named(&self, provider: &ProviderId, name: &BankNameDigest) -> Result<Vec<ConsentId>, StoreError> {
        self.faulty(self.inner.consents_named(provider, name)).await
    }
}

/// A token endpoint that counts how often somebody turns to it, and gives nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct SilentBank(Arc<AtomicUsize>);

impl SilentBank {
    pub(crate) fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl TokenEndpoint for SilentBank {
    type Connection = Infallible;

    async fn connect(&self) -> Result<Infallible, NotSent> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(NotSent::Unreachable("nobody is there".to_owned()))
    }

    async fn send(&self, connection: Infallible, _: &TokenRequest<'_>) -> Reply {
        match connection {}
    }

    fn certificate(&self) -> Option<String> {
        Some("thumbprint".to_owned())
    }
}
