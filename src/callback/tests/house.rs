//! What the tests stand on: everything behind the listener, and a bank that says what it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::callback::Callback;
use crate::callback::settings::CallbackSettings;
use crate::consent::scopes::ScopeRules;
use crate::consent::settings::{AskSettings, Asking};
use crate::consent::{ConsentView, StartRequest, Started, history, show, start};
use crate::net::serve::Bind;
use crate::oauth::settings::{Authorization, Pkce};
use crate::oauth::{NotSent, Push, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::EmbeddedStore;
use crate::store::seal::{Keyring, SealKey};
use crate::store::spill::SpillDirectory;
use crate::token::settings::{ProviderSettings, TokenSettings};
use crate::token::timing::Timing;
use crate::token::{Ask, Parts, TokenError, Tokens, Vault};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{ManualClock, WallTime};
use crate::words::ids::{ConsentId, ProviderId, TokenKey};
use crate::words::metrics::{Metrics, OutcomeLabels};
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::{Scope, TokenSet};

pub(super) const DONE: &str = "https://app.example/done?from=bank";

pub(super) const NOW: u64 = 1_760_000_000_000;

/// Everything behind the listener.
pub(super) struct House {
    pub(super) callback: Callback<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    pub(super) tokens: Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    pub(super) asking: Arc<AskSettings>,
    pub(super) clock: ManualClock,
    pub(super) bank: Bank,
    pub(super) spill: SpillDirectory,
    metrics: Metrics,
    _home: tempfile::TempDir,
}

impl House {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::new(WallTime::from_millis(NOW));
        let store = EmbeddedStore::open(&home.path().join("s.redb"), clock.clone()).expect("opens");
        let spill = SpillDirectory::open(&home.path().join("spill")).expect("opens");
        let names = ["bank", "other", "silent"].map(|name| ProviderId::parse(name).expect("a name"));
        let settings = ProviderSettings {
            behaviour: BankBehaviour::default(),
            client_id: "us".to_owned(),
            max_in_flight: 8,
            max_per_second: 20,
        };
        let key = SealKey::from_bytes("k", &[7; 32]).expect("32 bytes");
        let bank = Bank::default();
        let each = |value: &str| names.iter().map(|name| (name.clone(), value.to_owned())).collect();
        let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default());
        let tokens = Tokens::new(Parts {
            store,
            clock: clock.clone(),
            endpoints: names.iter().map(|name| (name.clone(), bank.clone())).collect(),
            vault: Vault::new(Keyring::new(vec![key]).expect("one key"), "consentry".to_owned(), each("us")),
            spill: Some(spill.clone()),
            spill_required: false,
            settings: TokenSettings {
                providers: names.iter().map(|name| (name.clone(), settings.clone())).collect(),
                cache_capacity: 100,
                max_flights: 100,
            },
            timing: Timing::STANDARD,
            metrics: metrics.clone(),
            replica: "test".to_owned(),
        });
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let offered = Asking {
            authorization: Authorization {
                endpoint: http::Uri::from_static("https://bank.example/authorize"),
                client_id: "us".to_owned(),
                parameters: Vec::new(),
                pkce: Pkce::Allowed,
                issuer: Some("https://bank.example/".to_owned()),
            },
            default_scope: Scope::parse("accounts"),
            rules: ScopeRules {
                exclusive: vec![words(&["accounts"]), words(&["payments"])],
                one_of: Vec::new(),
                days: false,
            },
            consent_life: Some(Duration::from_secs(90 * 86_400)),
            pasted_redirect_uri: Some("https://localhost/auth".to_owned()),
            denied_by: words(&Asking::DENIED_BY),
        };
        let asking = Arc::new(AskSettings {
            public_url: "https://us.example".to_owned(),
            path: "/callback".to_owned(),
            return_urls: vec![DONE.to_owned()],
            providers: BTreeMap::from([(names[0].clone(), offered.clone()), (names[1].clone(), offered)]),
        });
        let bind = "127.0.0.1:0".parse::<Bind>().expect("an address");
        let listener = CallbackSettings { bind, hosts: vec!["inside.example".to_owned()] };
        let callback =
            Callback::new(tokens.clone(), clock.clone(), &listener, Arc::clone(&asking)).expect("names of hosts");
        Self { callback, tokens, asking, clock, bank, spill, metrics, _home: home }
    }

    pub(super) async fn start(&self, consent: &str, return_url: Option<&str>) -> Started {
        let json = json!({"provider": "bank", "consent_id": consent, "return_url": return_url});
        let request = StartRequest::parse(json.to_string().as_bytes()).expect("well-formed");
        start(&self.tokens, &self.asking, &self.clock, request).await.expect("started")
    }

    /// A visit to the start address: where it leads, and the cookie's line.
    pub(super) async fn leave(&self, started: &Started) -> (String, String) {
        let answer = self.get(&started.start_url, &[]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        (location(&answer), answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned())
    }

    /// The browser comes back with what the bank added to the state.
    pub(super) async fn back(&self, to: &str, query: &str, cookie: &str) -> Response<Full<Bytes>> {
        self.get(&back_path(to, query), &[("cookie", &pair(cookie))]).await
    }

    pub(super) async fn grant(&self, consent: &str, mark: &str) {
        let started = self.start(consent, Some(DONE)).await;
        let (to, cookie) = self.leave(&started).await;
        self.bank.next(tokens(mark));
        assert!(location(&self.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
    }

    pub(super) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        self.callback.answer(&Self::request(url, headers)).await
    }

    pub(super) fn request(url: &str, headers: &[(&str, &str)]) -> Request<()> {
        let path = url.strip_prefix("https://us.example").expect("ours");
        let mut request = Request::builder().uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "us.example");
        }
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(())
            .expect("a request")
    }

    pub(super) async fn view(&self, consent: &str) -> ConsentView {
        show(&self.tokens, &self.clock, &id(consent)).await.expect("stored")
    }

    pub(super) async fn state(&self, consent: &str) -> &'static str {
        self.view(consent).await.state
    }

    pub(super) async fn last_event(&self, consent: &str) -> (String, Option<String>) {
        let history = history(&self.tokens, &self.clock, &id(consent)).await.expect("stored");
        let event = history.events.last().expect("something happened");
        (event.event.to_owned(), event.why.clone())
    }

    pub(super) async fn token(&self, consent: &str) -> Result<String, TokenError> {
        let (key, provider) = (TokenKey::Consent(id(consent)), ProviderId::parse("bank").expect("a name"));
        let ask = Ask { key: &key, provider: &provider, client: None, wait: Duration::from_secs(5) };
        Ok(self.tokens.token(&ask).await?.bearer.to_str().expect("text").to_owned())
    }

    pub(super) fn counted(&self, outcome: &'static str) -> u64 {
        self.metrics.attempts.get_or_create(&OutcomeLabels { provider: "bank".to_owned(), outcome }).get()
    }
}

/// A bank that says what it is told to, in that order.
#[derive(Clone, Debug)]
pub(super) struct Bank(Arc<Said>);

#[derive(Debug)]
struct Said {
    next: Mutex<VecDeque<TokenOutcome>>,
    exchanges: Mutex<Vec<(String, String, Option<String>)>>,
    shut: Mutex<bool>,
    /// What it says to requests that are pushed, and what was; `None` where they are not.
    pushes: Mutex<Option<VecDeque<Push>>>,
    pushed: Mutex<Vec<String>>,
    asked: Semaphore,
    gate: Semaphore,
    held: Mutex<bool>,
}

impl Default for Bank {
    fn default() -> Self {
        Self(Arc::new(Said {
            next: Mutex::default(),
            exchanges: Mutex::default(),
            shut: Mutex::new(false),
            pushes: Mutex::default(),
            pushed: Mutex::default(),
            asked: Semaphore::new(0),
            gate: Semaphore::new(0),
            held: Mutex::new(false),
        }))
    }
}

impl Bank {
    pub(super) fn next(&self, outcome: TokenOutcome) {
        self.0.next.lock().expect("no panic").push_back(outcome);
    }

    pub(super) fn exchanges(&self) -> Vec<(String, String, Option<String>)> {
        self.0.exchanges.lock().expect("no panic").clone()
    }

    /// From now on requests are pushed to it; it says this to the next.
    pub(super) fn next_push(&self, push: Push) {
        self.0.pushes.lock().expect("no panic").get_or_insert_default().push_back(push);
    }

    pub(super) fn pushed(&self) -> Vec<String> {
        self.0.pushed.lock().expect("no panic").clone()
    }

    /// The next connection is refused.
    pub(super) fn shut(&self) {
        *self.0.shut.lock().expect("no panic") = true;
    }

    /// Answers wait until they are let go.
    pub(super) fn hold(&self) {
        *self.0.held.lock().expect("no panic") = true;
    }

    pub(super) fn let_go(&self) {
        self.0.gate.add_permits(1);
    }

    pub(super) async fn until_asked(&self, times: u32) {
        let asked = self.0.asked.acquire_many(times);
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect("in time").expect("open").forget();
    }
}

impl TokenEndpoint for Bank {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        let shut = std::mem::take(&mut *self.0.shut.lock().expect("no panic"));
        if shut { Err(NotSent::Unreachable("it is shut".to_owned())) } else { Ok(()) }
    }

    async fn send(&self, (): (), request: &TokenRequest<'_>) -> Reply {
        let TokenRequest::AuthorizationCode { code, redirect_uri, verifier } = request else { panic!("{request:?}") };
        let verifier = verifier.map(|verifier| verifier.expose().to_owned());
        let exchange = (code.expose().to_owned(), (*redirect_uri).to_owned(), verifier);
        self.0.exchanges.lock().expect("no panic").push(exchange);
        self.0.asked.add_permits(1);
        let held = *self.0.held.lock().expect("no panic");
        if held {
            self.0.gate.acquire().await.expect("open").forget();
        }
        self.0.next.lock().expect("no panic").pop_front().expect("somebody said what it answers").into()
    }

    fn takes_pushed(&self) -> bool {
        self.0.pushes.lock().expect("no panic").is_some()
    }

    async fn push(&self, form: &str) -> Push {
        self.0.pushed.lock().expect("no panic").push(form.to_owned());
        let mut pushes = self.0.pushes.lock().expect("no panic");
        pushes.as_mut().and_then(VecDeque::pop_front).expect("somebody said what it answers")
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}

pub(super) fn tokens(mark: &str) -> TokenOutcome {
    TokenOutcome::Granted(TokenSet {
        access: AccessToken::new(format!("access-{mark}")),
        expires_in: Duration::from_secs(3_600),
        refresh: Some(RefreshToken::new(format!("refresh-{mark}"))),
        scope: None,
    })
}

pub(super) fn id(consent: &str) -> ConsentId {
    ConsentId::parse(consent).expect("valid")
}

pub(super) fn location(response: &Response<Full<Bytes>>) -> String {
    let location = response.headers().get(header::LOCATION);
    location.unwrap_or_else(|| panic!("no redirect: {}", response.status())).to_str().expect("text").to_owned()
}

pub(super) fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').expect("a query").1;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{url} has no {name}")).to_owned()
}

/// Where the bank sends the browser, with `query` before the state.
pub(super) fn back_path(to: &str, query: &str) -> String {
    format!("https://us.example/callback?{query}&state={}", parameter(to, "state"))
}

/// `name=value` of a Set-Cookie line.
pub(super) fn pair(cookie: &str) -> String {
    cookie.split("; Path").next().unwrap_or_default().to_owned()
}

pub(super) fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

pub(super) async fn text(response: Response<Full<Bytes>>) -> String {
    let body = response.into_body().collect().await.expect("in memory").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}
