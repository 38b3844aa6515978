//! The token use case over the real embedded store and a scripted bank that rotates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use tempfile::TempDir;
use tokio::sync::watch;

use super::settings::{ProviderSettings, TokenSettings};
use super::*;
use crate::oauth::{NotSent, TokenOutcome, TokenRequest};
use crate::store::embedded::EmbeddedStore;
use crate::store::seal::{Keyring, SealKey};
use crate::store::{Seed, SeedOutcome, Snapshot};
use crate::words::bank::OldAccessToken;
use crate::words::clock::{ManualClock, WallTime};
use crate::words::ids::{ClientKey, GrantId};
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::TokenSet;

const LIFE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_of_an_expired_consent_cost_one_token_request() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let tokens = house.tokens.clone();
            tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_does_not_stop_the_refresh() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let gate = house.bank.hold_answers();
    let impatient = house.ask_for("c", "bank", Duration::from_millis(20)).await;
    assert_eq!(impatient.expect_err("the bank has not answered"), TokenError::WaitTimeout);
    gate.send_replace(true);
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_token_in_its_soft_window_is_served_and_replaced_behind_the_callers_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::from_secs(20)).await;
    house.connect_changes();
    assert_eq!(house.ask("c").await.expect("stored").version.generation, 1);
    assert_eq!(house.ask("c").await.expect("held").version.generation, 1, "nobody waits");
    house.until(|| house.held("c").is_some_and(|held| held.version.generation == 2)).await;
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_bank_that_kills_the_old_token_is_not_refreshed_early() {
    let house = House::with(|behaviour| behaviour.old_access_token = OldAccessToken::Revoked);
    house.seed("c", Some("rt-0"), Duration::from_secs(20)).await;
    house.connect_changes();
    for _ in 0..3 {
        assert_eq!(house.ask("c").await.expect("stored").version.generation, 1);
    }
    house.tokens.settled().await;
    assert!(house.bank.presented().is_empty());
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once_and_its_successor_is_believed_in() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let first = house.ask("c").await.expect("stored");
    house.tokens.reject(&key("c"), first.version);
    let second = house.ask("c").await.expect("refreshed");
    assert_eq!(second.version, first.version.next());
    house.tokens.reject(&key("c"), second.version);
    let third = house.ask("c").await.expect("the same, because a refresh would not help");
    assert_eq!(third.version, second.version);
    house.tokens.reject(&key("c"), first.version);
    assert_eq!(
        house.ask("c").await.expect("a late complaint about the old one changes nothing").version,
        second.version
    );
    assert_eq!(house.bank.presented(), ["rt-0"]);
    house.clock.advance(Duration::from_secs(61));
    house.tokens.reject(&key("c"), second.version);
    assert_eq!(house.ask("c").await.expect("refreshed").version, second.version.next());
}

#[tokio::test]
async fn a_consent_is_unknown_at_every_provider_but_its_own() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let wait = Duration::from_secs(5);
    assert_eq!(house.ask_for("c", "other", wait).await.expect_err("foreign"), TokenError::Unknown);
    assert!(house.ask("c").await.is_ok());
    assert_eq!(house.ask_for("c", "other", wait).await.expect_err("foreign, held or not"), TokenError::Unknown);
    assert_eq!(house.ask("d").await.expect_err("nothing is stored"), TokenError::Unknown);
}

#[tokio::test]
async fn invalid_grant_suspends_the_consent_and_keeps_its_refresh_token() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("refused"), TokenError::ReauthorizationRequired);
    assert_eq!(house.ask("c").await.expect_err("still"), TokenError::ReauthorizationRequired);
    assert_eq!(house.bank.presented(), ["rt-0"], "it is not asked again");
    let record = house.record("c").await;
    assert_eq!(record.state, RecordState::ReauthorizationRequired);
    assert!(record.refresh.is_some());
}

#[tokio::test]
async fn after_a_lost_answer_nobody_sends_within_the_quarantine_and_then_one_probe_goes_out() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Unknown { why: "connection_lost" });
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    for _ in 0..5 {
        assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    }
    assert_eq!(house.bank.presented(), ["rt-0"]);
    house.clock.advance(Timing::STANDARD.quarantine + Timing::STANDARD.armed_lease);
    assert_eq!(house.ask("c").await.expect("the bank had not processed it").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-0"], "one recorded probe");
}

#[tokio::test]
async fn a_probe_that_is_refused_is_a_lost_consent_and_is_counted() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    house.bank.say(TokenOutcome::InvalidGrant);
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled_once().await;
    house.clock.advance(Timing::STANDARD.quarantine + Timing::STANDARD.armed_lease);
    assert_eq!(house.ask("c").await.expect_err("lost"), TokenError::ReauthorizationRequired);
    assert_eq!(house.record("c").await.why.as_deref(), Some("lost_reply"));
    let labels = LossLabels { provider: "bank".to_owned(), cause: "lost_reply" };
    assert_eq!(house.tokens.core.metrics.consents_lost.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn an_unreadable_yes_is_salvaged_into_the_spill() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let body = zeroize::Zeroizing::new(b"CANARY-answer".to_vec());
    house.bank.say(TokenOutcome::Unreadable { why: "unreadable_answer", body });
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled().await;
    let files: Vec<_> = std::fs::read_dir(house.directory.path().join("spill"))
        .expect("the spill is there")
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "spill"))
        .map(|file| std::fs::read(file.path()).expect("readable"))
        .collect();
    assert_eq!(files.len(), 1);
    assert!(!String::from_utf8_lossy(&files[0]).contains("CANARY"));
}

#[tokio::test]
async fn a_bank_that_cannot_be_reached_is_left_alone_for_a_while() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.refuse_connections(true);
    let Err(TokenError::EndpointUnavailable { retry_after, .. }) = house.ask("c").await else { panic!("unreachable") };
    assert!(retry_after >= Duration::from_millis(500));
    house.tokens.settled_once().await;
    house.bank.refuse_connections(false);
    assert!(matches!(house.ask("c").await, Err(TokenError::EndpointUnavailable { .. })), "backing off");
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn our_own_misconfiguration_touches_no_consent() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Misconfigured { why: "invalid_client" });
    let misconfigured = TokenError::Misconfigured { why: "invalid_client".to_owned() };
    assert_eq!(house.ask("c").await.expect_err("refused"), misconfigured);
    assert_eq!(house.ask("c").await.expect_err("backing off"), misconfigured);
    assert_eq!(house.record("c").await.state, RecordState::Active);
    house.clock.advance(Duration::from_secs(2));
    assert!(house.ask("c").await.is_ok());
}

#[tokio::test]
async fn a_bank_that_gives_no_new_refresh_token_means_the_old_one() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Granted(TokenSet {
        access: AccessToken::new("at-x"),
        expires_in: Duration::from_secs(1),
        refresh: None,
        scope: None,
    }));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 3);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-0"]);
}

#[tokio::test]
async fn a_consent_without_a_refresh_token_lives_as_long_as_its_access_token() {
    let house = House::new();
    house.seed("c", None, Duration::from_secs(20)).await;
    house.connect_changes();
    for _ in 0..3 {
        assert!(house.ask("c").await.is_ok(), "in its soft window, with nothing to refresh");
    }
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.state, RecordState::Active);
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(house.ask("c").await.expect_err("expired"), TokenError::ReauthorizationRequired);
    assert!(house.bank.presented().is_empty());
}

#[tokio::test]
async fn a_client_token_is_fetched_once_and_kept() {
    let house = House::new();
    let scope = Scope::parse("debt").expect("valid");
    let grant = Arc::new(ClientGrant { audience: Some("api".to_owned()), scope: Some(scope) });
    let provider = provider("bank");
    let key = TokenKey::Client(ClientKey::new(provider.clone(), Some("api"), Some("debt")));
    let ask = Ask { key: &key, provider: &provider, client: Some(&grant), wait: Duration::from_secs(5) };
    let first = house.tokens.token(&ask).await.expect("fetched");
    assert_eq!(house.tokens.token(&ask).await.expect("held").version, first.version);
    assert_eq!(house.bank.presented(), ["client"]);
    house.tokens.settled_once().await;
    house.tokens.core.cache.forget(&key);
    assert_eq!(house.tokens.token(&ask).await.expect("stored").version, first.version);
    assert_eq!(house.bank.presented(), ["client"], "another replica would have found it in the store");
}

#[tokio::test]
async fn a_spill_that_was_never_committed_is_replayed_by_the_next_process() {
    let mut house = House::new();
    house.seed_grant("c", Some("rt-0"), Duration::ZERO, house.grant).await;
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.tokens.settled().await;
    // As after a crash: the spill is still there, and the store has the record it had before the commit.
    house.restart_with_store_as_before();
    house.seed_grant("c", Some("rt-0"), Duration::ZERO, house.grant).await;
    let replay = house.tokens.recover(Duration::from_secs(5)).await;
    assert_eq!(replay, Replay { found: 1, ..Replay::default() });
    assert_eq!(house.record("c").await.version.generation, 2);
    assert_eq!(house.ask("c").await.expect("replayed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"], "no second request");
}

#[tokio::test]
async fn more_consents_than_a_bank_is_asked_for_at_once_all_get_their_turn() {
    let house = House::new();
    for n in 0..30 {
        house.seed(&format!("c{n}"), Some(&format!("rt-c{n}")), Duration::ZERO).await;
    }
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let tokens = house.tokens.clone();
            tokio::spawn(async move { ask(&tokens, &format!("c{n}")).await.map(|held| held.version.generation) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
    assert_eq!(house.bank.presented().len(), 30);
    assert!(house.bank.most_at_once() <= 8, "{}", house.bank.most_at_once());
}

/// The token layer with a real store and spill in a directory of its own.
struct House {
    tokens: Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    bank: Bank,
    clock: ManualClock,
    grant: GrantId,
    behaviour: BankBehaviour,
    directory: TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut BankBehaviour)) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let clock = ManualClock::new(WallTime::from_millis(1_763_773_200_000));
        let bank = Bank::default();
        let mut behaviour = BankBehaviour::default();
        change(&mut behaviour);
        let tokens = build(&directory, &bank, &clock, &behaviour);
        Self { tokens, bank, clock, grant: GrantId::random(), behaviour, directory }
    }

    /// Another process with a copy of the spill directory and an empty store.
    fn restart_with_store_as_before(&mut self) {
        let (old, new) = (self.directory.path().join("spill"), TempDir::new().expect("a temporary directory"));
        std::fs::create_dir(new.path().join("spill")).expect("writable");
        for file in std::fs::read_dir(old).expect("readable").map(|file| file.expect("readable")) {
            if file.path().extension().is_some_and(|ending| ending == "spill") {
                std::fs::copy(file.path(), new.path().join("spill").join(file.file_name())).expect("copied");
            }
        }
        self.tokens = build(&new, &self.bank, &self.clock, &self.behaviour);
        self.directory = new;
    }

    async fn seed(&self, id: &str, refresh: Option<&str>, remaining: Duration) {
        self.seed_grant(id, refresh, remaining, GrantId::random()).await;
    }

    async fn seed_grant(&self, id: &str, refresh: Option<&str>, remaining: Duration, grant: GrantId) {
        let (key, provider) = (key(id), provider("bank"));
        let refresh = refresh.map(RefreshToken::new);
        let access = AccessToken::new("at-0");
        let vault = self.tokens.vault();
        let (access, sealed) =
            vault.seal(&key, &provider, Version::first(grant), &access, refresh.as_ref()).expect("seals");
        let seed = Seed {
            provider: provider.clone(),
            grant,
            expected: None,
            access,
            refresh: sealed,
            refresh_fingerprint: refresh.map(|token| vault.fingerprint(&provider, &token).expect("known")),
            remaining,
            life: LIFE,
            scope: None,
            bank_consent_id: None,
            consent_expires_at: None,
            certificate: None,
        };
        let seeded = self.tokens.store().seed(&key, &seed).await.expect("the store works");
        assert!(matches!(seeded, SeedOutcome::Created(_)));
    }

    async fn record(&self, id: &str) -> Snapshot {
        self.tokens.store().read(&key(id)).await.expect("the store works").expect("stored")
    }

    fn held(&self, id: &str) -> Option<Arc<Held>> {
        self.tokens.core.cache.get(&key(id))
    }

    async fn ask(&self, id: &str) -> Result<Arc<Held>, TokenError> {
        ask(&self.tokens, id).await
    }

    async fn ask_for(&self, id: &str, at: &str, wait: Duration) -> Result<Arc<Held>, TokenError> {
        self.tokens.token(&Ask { key: &key(id), provider: &provider(at), client: None, wait }).await
    }

    /// As if changes arrived from the store, so that what is held counts as verified.
    fn connect_changes(&self) {
        self.tokens.core.link.connected();
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        for _ in 0..500 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come true within five seconds");
    }
}

impl Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock> {
    /// Waits for the flights of the moment, without closing the airport.
    async fn settled_once(&self) {
        for _ in 0..500 {
            if self.under_way() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a flight is still under way after five seconds");
    }
}

async fn ask(
    tokens: &Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    id: &str,
) -> Result<Arc<Held>, TokenError> {
    let wait = Duration::from_secs(10);
    tokens.token(&Ask { key: &key(id), provider: &provider("bank"), client: None, wait }).await
}

fn build(
    directory: &TempDir,
    bank: &Bank,
    clock: &ManualClock,
    behaviour: &BankBehaviour,
) -> Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock> {
    let store = EmbeddedStore::open(&directory.path().join("tokens.redb"), clock.clone());
    let keyring = Keyring::new(vec![SealKey::from_bytes("test", &[7; 32]).expect("32 bytes")]).expect("one key");
    let names = ["bank", "other"].map(provider);
    let client_ids = names.iter().map(|name| (name.clone(), "tpp".to_owned())).collect();
    let settings = || ProviderSettings { behaviour: behaviour.clone(), client_id: "tpp".to_owned(), max_in_flight: 8 };
    Tokens::new(Parts {
        store: store.expect("the store opens"),
        clock: clock.clone(),
        endpoints: names.iter().map(|name| (name.clone(), bank.clone())).collect(),
        vault: Vault::new(keyring, "test".to_owned(), client_ids),
        spill: Some(SpillDirectory::open(&directory.path().join("spill")).expect("the spill opens")),
        spill_required: false,
        settings: TokenSettings {
            providers: names.iter().map(|name| (name.clone(), settings())).collect::<BTreeMap<_, _>>(),
            cache_capacity: 1_000,
            max_flights: 1_000,
        },
        timing: Timing::STANDARD,
        metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
        replica: "test".to_owned(),
    })
}

fn key(id: &str) -> TokenKey {
    TokenKey::Consent(ConsentId::parse(id).expect("a valid id"))
}

fn provider(name: &str) -> ProviderId {
    ProviderId::parse(name).expect("a valid name")
}

/// A bank that rotates: each answer is a new pair, unless the script says otherwise.
#[derive(Clone, Debug, Default)]
struct Bank(Arc<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    presented: Mutex<Vec<String>>,
    script: Mutex<VecDeque<TokenOutcome>>,
    gate: Mutex<Option<watch::Receiver<bool>>>,
    unreachable: AtomicBool,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Bank {
    fn presented(&self) -> Vec<String> {
        self.0.presented.lock().expect("no panic").clone()
    }

    fn say(&self, outcome: TokenOutcome) {
        self.0.script.lock().expect("no panic").push_back(outcome);
    }

    fn hold_answers(&self) -> watch::Sender<bool> {
        let (sender, receiver) = watch::channel(false);
        *self.0.gate.lock().expect("no panic") = Some(receiver);
        sender
    }

    fn refuse_connections(&self, refuse: bool) {
        self.0.unreachable.store(refuse, Ordering::Release);
    }

    fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::Acquire)
    }
}

impl TokenEndpoint for Bank {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        if self.0.unreachable.load(Ordering::Acquire) {
            return Err(NotSent::Unreachable("refused".to_owned()));
        }
        Ok(())
    }

    async fn send(&self, (): (), request: &TokenRequest<'_>) -> TokenOutcome {
        let presented = match request {
            TokenRequest::Refresh { refresh, .. } => refresh.expose().to_owned(),
            TokenRequest::ClientCredentials { .. } => "client".to_owned(),
        };
        let number = {
            let mut all = self.0.presented.lock().expect("no panic");
            all.push(presented);
            all.len()
        };
        let now = self.0.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.most.fetch_max(now, Ordering::AcqRel);
        let gate = self.0.gate.lock().expect("no panic").clone();
        match gate {
            Some(mut gate) => drop(gate.wait_for(|open| *open).await),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        self.0.now.fetch_sub(1, Ordering::AcqRel);
        let scripted = self.0.script.lock().expect("no panic").pop_front();
        scripted.unwrap_or_else(|| {
            TokenOutcome::Granted(TokenSet {
                access: AccessToken::new(format!("at-{number}")),
                expires_in: LIFE,
                refresh: Some(RefreshToken::new(format!("rt-{number}"))),
                scope: None,
            })
        })
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}
