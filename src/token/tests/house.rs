//! The token layer with a real store and spill in a directory of its own, before a bank that does as it is told.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use super::super::settings::{ProviderSettings, TokenSettings};
use super::super::*;
use super::bank::Bank;
use super::shaky::Shaky;
use crate::store::embedded::EmbeddedStore;
use crate::store::seal::{Keyring, SealKey};
use crate::store::{Begin, BeginOutcome, ProviderStanding, Seed, SeedOutcome, Snapshot};
use crate::words::clock::{BootInstant, ManualClock, WallTime};
use crate::words::ids::{Fence, GrantId};
use crate::words::secrets::{AccessToken, RefreshToken};

pub(super) const LIFE: Duration = Duration::from_secs(600);

/// The token layer under test.
pub(super) type TestTokens = Tokens<Shaky, Bank, ManualClock>;

/// What a test may want otherwise than it is.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) flights: usize,
    pub(super) timing: Timing,
    /// Token requests at once, over all processes.
    pub(super) in_flight: usize,
    /// Token requests a second. The clock stands still, so the second never ends by itself.
    pub(super) per_second: usize,
    pub(super) spill_required: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flights: 1_000, timing: Timing::STANDARD, in_flight: 8, per_second: 10_000, spill_required: false }
    }
}

/// The token layer with a real store and spill in a directory of its own.
pub(super) struct House {
    pub(super) tokens: TestTokens,
    pub(super) bank: Bank,
    pub(super) clock: ManualClock,
    pub(super) grant: GrantId,
    pub(super) behaviour: BankBehaviour,
    pub(super) limits: Limits,
    pub(super) directory: TempDir,
}

impl House {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn limited(limits: Limits) -> Self {
        Self::made(limits, |_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut BankBehaviour)) -> Self {
        Self::made(Limits::default(), change)
    }

    pub(super) fn made(limits: Limits, change: impl FnOnce(&mut BankBehaviour)) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let clock = ManualClock::new(WallTime::from_millis(1_763_773_200_000));
        let bank = Bank::default();
        let mut behaviour = BankBehaviour::default();
        change(&mut behaviour);
        let tokens = build(&directory, &bank, &clock, &behaviour, limits);
        Self { tokens, bank, clock, grant: GrantId::random(), behaviour, limits, directory }
    }

    /// Another process with a copy of the spill directory and an empty store.
    pub(super) fn restart_with_store_as_before(&mut self) {
        let (old, new) = (self.directory.path().join("spill"), TempDir::new().expect("a temporary directory"));
        std::fs::create_dir(new.path().join("spill")).expect("writable");
        for file in std::fs::read_dir(old).expect("readable").map(|file| file.expect("readable")) {
            if file.path().extension().is_some_and(|ending| ending == "spill") {
                std::fs::copy(file.path(), new.path().join("spill").join(file.file_name())).expect("copied");
            }
        }
        self.tokens = build(&new, &self.bank, &self.clock, &self.behaviour, self.limits);
        self.directory = new;
    }

    /// Another process before the same store and the same bank.
    pub(super) fn another(&self) -> TestTokens {
        let spill = self.directory.path().join("spill-of-another");
        join(self.tokens.store().again(), &spill, &self.bank, &self.clock, &self.behaviour, self.limits)
    }

    /// How its provider stands in the store.
    pub(super) async fn standing(&self) -> ProviderStanding {
        self.tokens.store().standing(&provider("bank")).await.expect("the store works")
    }

    pub(super) async fn seed(&self, id: &str, refresh: Option<&str>, remaining: Duration) {
        self.seed_grant(id, refresh, remaining, GrantId::random()).await;
    }

    pub(super) async fn seed_grant(&self, id: &str, refresh: Option<&str>, remaining: Duration, grant: GrantId) {
        self.seed_at("bank", id, refresh, remaining, grant, None).await;
    }

    pub(super) async fn seed_at(
        &self,
        provider_name: &str,
        id: &str,
        refresh: Option<&str>,
        remaining: Duration,
        grant: GrantId,
        consent_expires_at: Option<WallTime>,
    ) {
        let seed = Seed { consent_expires_at, ..self.grant_of(provider_name, id, refresh, remaining, grant) };
        let seeded = self.tokens.store().seed(&key(id), &seed).await.expect("the store works");
        assert!(matches!(seeded, SeedOutcome::Created(_)));
    }

    /// A grant with a token set, as it is to be stored.
    pub(super) fn grant_of(
        &self,
        provider_name: &str,
        id: &str,
        refresh: Option<&str>,
        remaining: Duration,
        grant: GrantId,
    ) -> Seed {
        let (key, provider) = (key(id), provider(provider_name));
        let refresh = refresh.map(RefreshToken::new);
        let access = AccessToken::new("at-0");
        let vault = self.tokens.vault();
        let (access, sealed) =
            vault.seal(&key, &provider, Version::first(grant), &access, refresh.as_ref()).expect("seals");
        Seed {
            provider: provider.clone(),
            grant,
            expected: None,
            age: None,
            access,
            refresh: sealed,
            refresh_fingerprint: refresh.map(|token| vault.fingerprint(&provider, &token).expect("known")),
            remaining,
            life: LIFE,
            scope: None,
            bank_consent_id: None,
            consent_expires_at: None,
            certificate: None,
        }
    }

    pub(super) async fn record(&self, id: &str) -> Snapshot {
        self.tokens.store().read(&key(id)).await.expect("the store works").expect("stored")
    }

    pub(super) fn held(&self, id: &str) -> Option<Arc<Held>> {
        self.tokens.core.cache.get(&key(id))
    }

    pub(super) async fn ask(&self, id: &str) -> Result<Arc<Held>, TokenError> {
        ask(&self.tokens, id).await
    }

    pub(super) async fn ask_for(&self, id: &str, at: &str, wait: Duration) -> Result<Arc<Held>, TokenError> {
        self.tokens.token(&Ask { key: &key(id), provider: &provider(at), client: None, wait }).await
    }

    /// As if changes arrived from the store, so that what is held counts as verified.
    pub(super) fn connect_changes(&self) {
        self.tokens.core.link.connected(BootInstant::default());
    }

    pub(super) async fn until_record(&self, id: &str, condition: impl Fn(&Snapshot) -> bool) {
        for _ in 0..500 {
            if condition(&self.record(id).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the record did not become so within five seconds");
    }

    pub(super) async fn until_standing(&self, condition: impl Fn(&ProviderStanding) -> bool) {
        for _ in 0..500 {
            if condition(&self.standing().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the provider did not stand so within five seconds");
    }

    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        for _ in 0..500 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come true within five seconds");
    }
}

impl TestTokens {
    /// Waits for the flights of the moment, without closing the airport.
    pub(super) async fn settled_once(&self) {
        for _ in 0..500 {
            if self.under_way() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a flight is still under way after five seconds");
    }
}

pub(super) async fn ask(tokens: &TestTokens, id: &str) -> Result<Arc<Held>, TokenError> {
    let wait = Duration::from_secs(10);
    tokens.token(&Ask { key: &key(id), provider: &provider("bank"), client: None, wait }).await
}

pub(super) fn build(
    directory: &TempDir,
    bank: &Bank,
    clock: &ManualClock,
    behaviour: &BankBehaviour,
    limits: Limits,
) -> TestTokens {
    let store = EmbeddedStore::open(&directory.path().join("tokens.redb"), clock.clone());
    let store = Shaky::new(store.expect("the store opens"));
    join(store, &directory.path().join("spill"), bank, clock, behaviour, limits)
}

fn join(
    store: Shaky,
    spill: &Path,
    bank: &Bank,
    clock: &ManualClock,
    behaviour: &BankBehaviour,
    limits: Limits,
) -> TestTokens {
    let keyring = Keyring::new(vec![SealKey::from_bytes("test", &[7; 32]).expect("32 bytes")]).expect("one key");
    let names = ["bank", "other"].map(provider);
    let client_ids = names.iter().map(|name| (name.clone(), "tpp".to_owned())).collect();
    let settings = || ProviderSettings {
        behaviour: behaviour.clone(),
        client_id: "tpp".to_owned(),
        max_in_flight: limits.in_flight,
        max_per_second: limits.per_second,
    };
    Tokens::new(Parts {
        store,
        clock: clock.clone(),
        endpoints: names.iter().map(|name| (name.clone(), bank.clone())).collect(),
        vault: Vault::new(keyring, "test".to_owned(), client_ids),
        spill: Some(SpillDirectory::open(spill).expect("the spill opens")),
        spill_required: limits.spill_required,
        settings: TokenSettings {
            providers: names.iter().map(|name| (name.clone(), settings())).collect::<BTreeMap<_, _>>(),
            cache_capacity: 1_000,
            max_flights: limits.flights,
        },
        timing: limits.timing,
        metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
        replica: "test".to_owned(),
    })
}

pub(super) fn key(id: &str) -> TokenKey {
    TokenKey::Consent(ConsentId::parse(id).expect("a valid id"))
}

pub(super) fn provider(name: &str) -> ProviderId {
    ProviderId::parse(name).expect("a valid name")
}

/// Another replica takes the lease of `c`.
pub(super) async fn elsewhere(house: &House) -> (AttemptId, Fence, Version) {
    let begin = Begin {
        attempt: AttemptId::new("elsewhere", 0),
        provider: provider("bank"),
        wanted: Duration::from_secs(1),
        rejected: None,
        rejection_pause: Timing::STANDARD.rejection_pause,
        lease: Timing::STANDARD.lease,
        quarantine: Timing::STANDARD.quarantine,
        grace: None,
        create: None,
    };
    match house.tokens.store().begin(&key("c"), &begin).await.expect("the store works") {
        BeginOutcome::Granted(lease, _) => (begin.attempt, lease.fence, lease.base),
        other => panic!("granted: {other:?}"),
    }
}
