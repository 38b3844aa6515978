//! The proxy under test, over a store that is a table in memory.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderName;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use super::app::{App, Reply};
use super::bank::Bank;
use crate::http::prefix::PathPrefix;
use crate::http::route::RouteMatch;
use crate::http::upstream_uri::UpstreamBase;
use crate::net::serve::{Bind, Listener, serve};
use crate::net::shutdown::Shutdown;
use crate::net::tls::Roots;
use crate::oauth::{NotSent, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::proxy::settings::{Api, Limits, ProxySettings, Route, TokenSource};
use crate::proxy::{Proxy, ProxyError};
use crate::store::seal::{Keyring, SealKey};
use crate::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Fail, FailOutcome,
    RecordState, Renew, RenewOutcome, Restore, RestoreOutcome, Seed, SeedOutcome, Snapshot, Store, StoreError, Waiting,
};
use crate::token::settings::{ProviderSettings, TokenSettings};
use crate::token::timing::Timing;
use crate::token::{Parts, Tokens, Vault};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{BootInstant, Clock, SystemClock, WallTime};
use crate::words::ids::{ConsentId, GrantId, ProviderId, TokenKey, Version};
use crate::words::metrics::Metrics;
use crate::words::secrets::{AccessToken, HeaderSecret};
use crate::words::token_set::Scope;

/// What a house is built from; a test changes what it is about.
pub(super) struct Plan {
    pub(super) settings: ProxySettings,
    pub(super) behaviour: BankBehaviour,
}

/// A running proxy.
pub(super) struct House {
    pub(super) address: SocketAddr,
    pub(super) shelf: Shelf,
    pub(super) metrics: Metrics,
    pub(super) clock: TestClock,
    shutdown: Shutdown,
}

impl Plan {
    /// The API `/api` of this bank, whose base has the path `/base`.
    pub(super) fn of(bank: &Bank) -> Self {
        Self::at(&format!("http://{}/base", bank.address))
    }

    pub(super) fn at(upstream: &str) -> Self {
        let api = Api {
            name: "accounts".to_owned(),
            prefix: PathPrefix::parse("/api").expect("a prefix"),
            upstream: UpstreamBase::parse(upstream).expect("a base"),
            provider: provider(),
            set_headers: vec![(HeaderName::from_static("api-key"), HeaderSecret::new("KEY-12345678"))],
            forward_cookies: false,
            roots: Roots::Pem(Vec::new()),
            identity: None,
            routes: routes(),
        };
        let settings = ProxySettings {
            bind: Bind::Tcp("127.0.0.1:0".parse().expect("an address")),
            hosts: vec!["proxy.example".to_owned()],
            consent_header: HeaderName::from_static("consent-id"),
            apis: vec![api],
            token_wait: Duration::from_millis(300),
            limits: Limits::default(),
        };
        Self { settings, behaviour: BankBehaviour::default() }
    }

    pub(super) fn limits(&mut self) -> &mut Limits {
        &mut self.settings.limits
    }

    pub(super) fn api(&mut self) -> &mut Api {
        &mut self.settings.apis[0]
    }

    /// What is wrong with it.
    pub(super) async fn fault(self) -> ProxyError {
        self.try_open().await.err().expect("it cannot be served")
    }

    pub(super) async fn open(self) -> House {
        self.try_open().await.expect("it can be served")
    }

    async fn try_open(self) -> Result<House, ProxyError> {
        let listener = Listener::bind(&self.settings.bind).await.expect("binds");
        let Bind::Tcp(address) = *listener.local() else { panic!("a TCP listener") };
        let (shelf, clock, shutdown) = (Shelf::default(), TestClock::default(), Shutdown::new());
        let metrics = Metrics::new(&mut Registry::default());
        let settings = ProviderSettings {
            behaviour: self.behaviour.clone(),
            client_id: CLIENT_ID.to_owned(),
            max_in_flight: ProviderSettings::MAX_IN_FLIGHT,
        };
        let tokens = Tokens::new(Parts {
            store: shelf.clone(),
            clock: clock.clone(),
            endpoints: BTreeMap::from([(provider(), NoEndpoint)]),
            vault: vault(),
            spill: None,
            spill_required: false,
            settings: TokenSettings {
                providers: BTreeMap::from([(provider(), settings)]),
                cache_capacity: 100,
                max_flights: 100,
            },
            timing: Timing::STANDARD,
            metrics: metrics.clone(),
            replica: "test".to_owned(),
        });
        let behaviours = BTreeMap::from([(provider(), self.behaviour)]);
        let proxy = Proxy::new(self.settings, tokens.clone(), &behaviours, metrics.clone(), clock.clone())?;
        let following = tokens.clone();
        tokio::spawn(async move { following.follow().await });
        super::within(async {
            while !tokens.is_linked() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let (limits, service, stop) = (proxy.serve_settings(), proxy.service(), shutdown.clone());
        tokio::spawn(async move { serve(listener, None, &limits, service, stop).await });
        Ok(House { address, shelf, metrics, clock, shutdown })
    }
}

impl House {
    /// A new connection of an app.
    pub(super) async fn app(&self) -> App {
        App::connect(self.address).await
    }

    /// One request on a connection of its own: a request line, further header lines, and a body.
    pub(super) async fn ask(&self, line: &str, headers: &str, body: &str) -> Reply {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        self.app().await.ask(request).await
    }

    /// A request for the consent `c1`.
    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), C1, "").await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

pub(super) const C1: &str = "Consent-ID: c1\r\n";
const CLIENT_ID: &str = "tpp";

/// Routes of every kind. `/v1` is the common one.
fn routes() -> Vec<Route> {
    let client = TokenSource::Client { audience: Some("debt".to_owned()), scope: None };
    let route = |text: &str, source: TokenSource| Route {
        matcher: RouteMatch::parse(text).expect("a match"),
        source,
        needs: None,
        consent: None,
        single_use: false,
        replay_on_rejection: true,
        resend_on_lost_reply: true,
        forward_consent_header: false,
    };
    vec![
        route("GET,HEAD,POST,PUT,DELETE /v1/**", TokenSource::Consent),
        route("/path/{consent_id}/**", TokenSource::Consent),
        route("/client/{consent_id}/**", client.clone()),
        route("/own/**", client),
        route("/open/**", TokenSource::None),
        Route { single_use: true, resend_on_lost_reply: false, ..route("/once/**", TokenSource::Consent) },
        Route { replay_on_rejection: false, ..route("/still/**", TokenSource::Consent) },
        Route { needs: Scope::parse("read write"), ..route("/scoped/**", TokenSource::Consent) },
        Route { consent: ConsentId::parse("c1").ok(), ..route("/fixed/**", TokenSource::Consent) },
        Route { forward_consent_header: true, ..route("/named/**", TokenSource::Consent) },
    ]
}

pub(super) fn provider() -> ProviderId {
    ProviderId::parse("bank").expect("valid")
}

fn vault() -> Vault {
    let key = SealKey::from_bytes("test", &[7; 32]).expect("32 bytes");
    let keyring = Keyring::new(vec![key]).expect("a key");
    let other = ProviderId::parse("other").expect("valid");
    let clients = [provider(), other].map(|provider| (provider, CLIENT_ID.to_owned()));
    Vault::new(keyring, "test".to_owned(), BTreeMap::from(clients))
}

/// The machine's clock, or a clock that panics.
#[derive(Clone, Debug, Default)]
pub(super) struct TestClock(Arc<AtomicBool>);

impl TestClock {
    pub(super) fn panic(&self, panics: bool) {
        self.0.store(panics, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn boot(&self) -> BootInstant {
        assert!(!self.0.load(Ordering::SeqCst), "the test wants a panic");
        SystemClock.boot()
    }

    fn wall(&self) -> WallTime {
        SystemClock.wall()
    }
}

/// A token endpoint that is never there: what is new comes from the store, as if another replica had got it.
#[derive(Debug)]
struct NoEndpoint;

impl TokenEndpoint for NoEndpoint {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        Err(NotSent::Unreachable("there is none".to_owned()))
    }

    async fn send(&self, (): (), _: &TokenRequest<'_>) -> TokenOutcome {
        TokenOutcome::NotSent(NotSent::Unreachable("there is none".to_owned()))
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}

/// The store: a table of records, each in a mood.
#[derive(Clone, Debug)]
pub(super) struct Shelf(Arc<Table>);

#[derive(Debug)]
struct Table {
    vault: Vault,
    records: Mutex<HashMap<TokenKey, Record>>,
    open: watch::Sender<bool>,
    begins: AtomicUsize,
    ended: watch::Sender<Vec<TokenKey>>,
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
            begins: AtomicUsize::new(0),
            ended: watch::Sender::new(Vec::new()),
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

    /// How often a token was asked for.
    pub(super) fn begins(&self) -> usize {
        self.0.begins.load(Ordering::SeqCst)
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
            remaining: Duration::from_secs(3_000),
            life: Duration::from_secs(3_600),
            refresh: None,
            refresh_fingerprint: None,
            scope: record.scope.and_then(Scope::parse),
            bank_consent_id: None,
            consent_expires_at: None,
            consent_remaining: None,
            certificate: None,
            holder: None,
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

    async fn seed(&self, _: &TokenKey, _: &Seed) -> Result<SeedOutcome, StoreError> {
        Err(never())
    }
}

fn never() -> StoreError {
    StoreError::Refused("this store grants no lease".to_owned())
}
