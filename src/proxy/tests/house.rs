//! The proxy under test, between a raw app and a raw bank.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderName;
use prometheus_client::registry::Registry;

use super::app::{App, Reply};
use super::bank::Bank;
use super::shelf::{CLIENT_ID, Shelf, provider, vault};
use crate::http::prefix::PathPrefix;
use crate::http::route::RouteMatch;
use crate::http::upstream_uri::UpstreamBase;
use crate::net::names::Reachable;
use crate::net::serve::{Bind, Listener, serve};
use crate::net::shutdown::Shutdown;
use crate::net::tls::Roots;
use crate::oauth::{self, NotSent, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::proxy::settings::{Api, Limits, ProxySettings, Route, ScopeRule, TokenSource};
use crate::proxy::{Proxy, ProxyError};
use crate::token::settings::{ProviderSettings, TokenSettings};
use crate::token::timing::Timing;
use crate::token::{Parts, Tokens};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{BootInstant, Clock, SystemClock, WallTime};
use crate::words::ids::ConsentId;
use crate::words::metrics::Metrics;
use crate::words::secrets::HeaderSecret;
use crate::words::token_set::{Needs, Scope};

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
    pub(super) tokens: Tokens<Shelf, NoEndpoint, TestClock>,
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
            reachable: Reachable::Everything,
            identity: None,
            routes: routes(),
            scope_rules: scope_rules(),
            quotas: Vec::new(),
        };
        let settings = ProxySettings {
            bind: Bind::Tcp("127.0.0.1:0".parse().expect("an address")),
            hosts: vec!["proxy.example".to_owned()],
            http2: false,
            consent_header: HeaderName::from_static("consent-id"),
            apis: vec![api],
            token_wait: Duration::from_millis(300),
            workers: 1,
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
        let (store, clock, shutdown) = (Shelf::default(), TestClock::default(), Shutdown::new());
        let metrics = Metrics::new(&mut Registry::default());
        let settings = ProviderSettings {
            behaviour: self.behaviour.clone(),
            client_id: CLIENT_ID.to_owned(),
            max_in_flight: ProviderSettings::MAX_IN_FLIGHT,
            max_per_second: ProviderSettings::MAX_PER_SECOND,
        };
        let tokens = Tokens::new(Parts {
            store: store.clone(),
            clock: clock.clone(),
            endpoints: BTreeMap::from([(provider(), NoEndpoint(0))]),
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
        tokio::spawn(async move { serve(Arc::new(listener), None, &limits, service, stop).await });
        Ok(House { address, shelf: store, metrics, clock, tokens, shutdown })
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

/// Routes of every kind. `/v1` is the common one.
fn routes() -> Vec<Route> {
    let client = TokenSource::Client { audience: Some("debt".to_owned()), scope: None };
    let route = |text: &str, source: TokenSource| Route {
        matcher: RouteMatch::parse(text).expect("a match"),
        source,
        needs: None,
        quota: None,
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

/// What the bank says of calls that no route says anything of.
fn scope_rules() -> Vec<ScopeRule> {
    let rule = |text: &str, scopes: &[&str]| ScopeRule {
        matcher: RouteMatch::parse(text).expect("a match"),
        needs: Needs::one_of(scopes.iter().map(|scope| Scope::parse(scope).expect("a scope"))),
    };
    vec![
        rule("GET /base/v1/balances/*", &["balance"]),
        rule("/base/v1/debt/**", &["presentation", "processing"]),
        rule("/base/scoped/**", &["never asked: the route says it itself"]),
        rule("/base/own/**", &["never asked: the token is no consent's"]),
    ]
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
pub(super) struct NoEndpoint(#[expect(dead_code, reason = "a map of nothing is not what the proxy is given")] u8);

impl TokenEndpoint for NoEndpoint {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        Err(NotSent::Unreachable("there is none".to_owned()))
    }

    async fn send(&self, (): (), _: &TokenRequest<'_>) -> oauth::Reply {
        TokenOutcome::NotSent(NotSent::Unreachable("there is none".to_owned())).into()
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}
