//! Browsers that come and go, before the embedded store and a bank that says what it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Callback;
use super::settings::CallbackSettings;
use crate::consent::scopes::ScopeRules;
use crate::consent::settings::{AskSettings, Asking};
use crate::consent::{ConsentView, StartError, StartRequest, Started, history, show, start};
use crate::net::serve::Bind;
use crate::oauth::settings::{Authorization, Pkce};
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::EmbeddedStore;
use crate::store::seal::{Keyring, SealKey};
use crate::store::spill::{SpillContent, SpillDirectory};
use crate::token::settings::{ProviderSettings, TokenSettings};
use crate::token::timing::Timing;
use crate::token::{Ask, Parts, TokenError, Tokens, Vault};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{ManualClock, WallTime};
use crate::words::ids::{ConsentId, ProviderId, TokenKey};
use crate::words::metrics::{Metrics, OutcomeLabels};
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::{Scope, TokenSet};

const DONE: &str = "https://app.example/done?from=bank";

#[tokio::test]
async fn a_customer_who_consents_ends_at_the_app_and_the_consent_serves() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    assert_eq!((started.state, house.state("c-1").await), ("pending", "pending"));
    let asked = house.token("c-1").await;
    assert_eq!(asked.expect_err("not yet"), TokenError::Pending);

    let (to, cookie) = house.leave(&started).await;
    assert!(to.starts_with("https://bank.example/authorize?response_type=code&client_id=us&"), "{to}");
    assert!(cookie.starts_with("__Host-consentry-"), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    house.bank.next(tokens("one"));
    let back = house.back(&to, "code=the-code", &cookie).await;
    assert_eq!(
        (back.status(), location(&back).as_str()),
        (StatusCode::SEE_OTHER, "https://app.example/done?from=bank&consent_id=c-1&status=granted")
    );
    assert_eq!(back.headers()[header::REFERRER_POLICY], "no-referrer");
    let (code, redirect_uri, verifier) = house.bank.exchanges().remove(0);
    assert_eq!((code.as_str(), redirect_uri.as_str()), ("the-code", "https://us.example/callback"));
    assert_eq!(parameter(&to, "code_challenge"), challenge(&verifier.expect("PKCE")));

    let view = house.view("c-1").await;
    assert_eq!((view.state, view.generation, view.scope.as_ref().map(Scope::as_str)), ("active", 1, Some("accounts")));
    assert_eq!(view.consent_expires_at, Some(WallTime::from_millis(NOW + 90 * 86_400_000)));
    assert_eq!(house.token("c-1").await.expect("it serves"), "Bearer access-one");
    assert_eq!(house.counted("started"), 1);
    assert_eq!(house.counted("granted"), 1);
}

#[tokio::test]
async fn without_a_return_address_the_customer_sees_a_page_in_a_language_of_theirs() {
    let house = House::new();
    let started = house.start("c-1", None).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    let request = house.request(&back_path(&to, "code=x"), &[("cookie", &pair(&cookie)), ("accept-language", "nl")]);
    let back = house.callback.answer(&request).await;
    assert_eq!((back.status(), &back.headers()[header::CONTENT_LANGUAGE]), (StatusCode::OK, &"nl".parse().unwrap()));
    assert!(text(back).await.contains("U hebt toestemming gegeven"));
}

#[tokio::test]
async fn a_callback_that_is_repeated_says_the_same_and_sends_nothing() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    for query in ["code=x", "code=x", "code=another", "error=access_denied"] {
        let back = house.back(&to, query, &cookie).await;
        assert!(location(&back).ends_with("status=granted"), "{query}");
    }
    assert_eq!(house.bank.exchanges().len(), 1);
    let again = house.get(&started.start_url, &[("cookie", &pair(&cookie))]).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert!(text(again).await.contains("You have been at your bank already"));
    assert_eq!(house.state("c-1").await, "active");
}

#[tokio::test]
async fn of_two_callbacks_at_once_one_exchanges_and_both_learn_how_it_ended() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.hold();
    house.bank.next(tokens("one"));
    let first = house.back(&to, "code=x", &cookie);
    let second = async {
        house.bank.until_asked(1).await;
        let waiting = house.back(&to, "code=x", &cookie).await;
        house.bank.let_go();
        waiting
    };
    let (first, second) = tokio::join!(first, second);
    assert!(location(&first).ends_with("status=granted"));
    assert_eq!((second.status(), &second.headers()["refresh"]), (StatusCode::ACCEPTED, &"2".parse().unwrap()));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
    assert_eq!(house.bank.exchanges().len(), 1);
}

#[tokio::test]
async fn a_browser_that_goes_away_does_not_end_the_exchange() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.hold();
    house.bank.next(tokens("one"));
    {
        let mut gone = std::pin::pin!(house.back(&to, "code=x", &cookie));
        tokio::select! {
            _ = &mut gone => panic!("the bank has not answered"),
            () = house.bank.until_asked(1) => {}
        }
    }
    house.bank.let_go();
    house.tokens.settled().await;
    assert_eq!(house.state("c-1").await, "active");
}

#[tokio::test]
async fn another_browser_can_neither_open_nor_finish_what_one_began() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    let other = house.get(&started.start_url, &[]).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert!(!other.headers().contains_key(header::SET_COOKIE));
    let again = house.get(&started.start_url, &[("cookie", &pair(&cookie))]).await;
    assert_eq!(location(&again), to, "the same browser may come again");

    let another = house.start("c-2", Some(DONE)).await;
    let (_, foreign) = house.leave(&another).await;
    let name = cookie.split('=').next().unwrap();
    let forged = format!("{name}={}", pair(&foreign).split_once('=').unwrap().1);
    for presented in ["", pair(&foreign).as_str(), forged.as_str()] {
        let back = house.get(&back_path(&to, "code=x"), &[("cookie", presented)]).await;
        assert_eq!(back.status(), StatusCode::FORBIDDEN, "{presented}");
        assert!(text(back).await.contains("another browser"));
    }
    assert!(house.bank.exchanges().is_empty());
    assert_eq!((house.state("c-1").await, house.counted("foreign")), ("pending", 3));
    house.bank.next(tokens("one"));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"), "and the first still may");
}

#[tokio::test]
async fn forged_expired_and_malformed_callbacks_change_nothing() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    let cookie = pair(&cookie);
    for (query, status) in [
        ("code=x&state=made-up".to_owned(), StatusCode::NOT_FOUND),
        ("code=x".to_owned(), StatusCode::BAD_REQUEST),
        (format!("state={}", parameter(&to, "state")), StatusCode::BAD_REQUEST),
        (format!("code=x&error=y&state={}", parameter(&to, "state")), StatusCode::BAD_REQUEST),
        (
            format!("code=x&iss=https%3A%2F%2Felsewhere.example&state={}", parameter(&to, "state")),
            StatusCode::BAD_REQUEST,
        ),
        (String::new(), StatusCode::BAD_REQUEST),
    ] {
        let answer = house.get(&format!("https://us.example/callback?{query}"), &[("cookie", &cookie)]).await;
        assert_eq!(answer.status(), status, "{query}");
        assert!(!text(answer).await.contains("made-up"), "nothing of a request is repeated");
    }
    for path in ["/start/made-up", "/start/%2e", "/start/", "/start", "/", "/callback/x", "/admin"] {
        let answer = house.get(&format!("https://us.example{path}"), &[]).await;
        assert!(answer.status().is_client_error(), "{path}");
    }
    assert_eq!((house.state("c-1").await, house.counted("wrong_issuer")), ("pending", 1));
    house.clock.advance(Duration::from_secs(601));
    let late = house.back(&to, "code=x", &cookie).await;
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
    assert!(text(late).await.contains("no longer valid"));
    assert!(house.bank.exchanges().is_empty());
    house.clock.advance(Duration::from_secs(1_000));
    assert!(show(&house.tokens, &house.clock, &id("c-1")).await.is_err(), "an abandoned attempt leaves nothing");
}

#[tokio::test]
async fn the_banks_own_name_is_accepted_where_it_is_the_one_that_is_known() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    let back = house.back(&to, "code=x&iss=https%3A%2F%2Fbank.example%2F", &cookie).await;
    assert!(location(&back).ends_with("status=granted"));
}

#[tokio::test]
async fn a_customer_who_refuses_is_told_so_and_a_new_consent_is_denied() {
    for error in ["access_denied", "consent_denied", "login_cancelled"] {
        let house = House::new();
        let started = house.start("c-1", None).await;
        let (to, cookie) = house.leave(&started).await;
        let back = house.back(&to, &format!("error={error}&error_description=%3Cscript%3E"), &cookie).await;
        assert_eq!(back.status(), StatusCode::OK);
        let html = text(back).await;
        assert!(html.contains("You did not give your consent") && !html.contains("script"), "{html}");
        assert_eq!((house.state("c-1").await, house.counted("denied")), ("denied", 1));
        assert_eq!(house.last_event("c-1").await, ("ended".to_owned(), Some(error.to_owned())));
        assert_eq!(house.token("c-1").await.expect_err("denied"), TokenError::Denied);
        // The customer may think better of it.
        let started = house.start("c-1", None).await;
        assert_eq!(started.state, "pending");
        let (to, cookie) = house.leave(&started).await;
        house.bank.next(tokens("one"));
        house.back(&to, "code=x", &cookie).await;
        assert_eq!(house.state("c-1").await, "active");
    }
}

#[tokio::test]
async fn every_other_error_is_a_failure_that_is_written_down() {
    for (error, why) in [
        ("server_error", "server_error"),
        ("invalid_scopes", "invalid_scopes"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("granted", "other_error"),
        ("denied", "other_error"),
        ("%3Cb%3E", "other_error"),
        ("", "other_error"),
    ] {
        let house = House::new();
        let started = house.start("c-1", Some(DONE)).await;
        let (to, cookie) = house.leave(&started).await;
        let back = house.back(&to, &format!("error={error}"), &cookie).await;
        assert!(location(&back).ends_with("consent_id=c-1&status=failed"), "{error}");
        assert_eq!((house.state("c-1").await, house.counted("failed")), ("pending", 1), "{error}");
        assert_eq!(house.last_event("c-1").await, ("not_granted".to_owned(), Some(why.to_owned())));
    }
}

#[tokio::test]
async fn a_consent_in_use_stays_so_until_a_new_grant_takes_its_place() {
    let house = House::new();
    house.grant("c-1", "one").await;
    let before = house.view("c-1").await;
    let started = house.start("c-1", Some(DONE)).await;
    assert_eq!(started.state, "active");
    let (to, cookie) = house.leave(&started).await;
    assert!(location(&house.back(&to, "error=access_denied", &cookie).await).ends_with("status=denied"));
    assert_eq!(house.view("c-1").await.version(), before.version());
    assert_eq!(house.last_event("c-1").await, ("not_granted".to_owned(), Some("access_denied".to_owned())));

    for outcome in [
        TokenOutcome::InvalidGrant,
        TokenOutcome::Unknown { why: "server_error" },
        TokenOutcome::Misconfigured { why: "invalid_client" },
        TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None },
        TokenOutcome::NotSent(NotSent::Unreachable("it broke".to_owned())),
    ] {
        let what = format!("{outcome:?}");
        let started = house.start("c-1", Some(DONE)).await;
        let (to, cookie) = house.leave(&started).await;
        house.bank.next(outcome);
        for _ in 0..2 {
            assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=failed"), "{what}");
        }
        assert_eq!(house.view("c-1").await.version(), before.version(), "{what}");
        assert_eq!(house.token("c-1").await.expect("it serves"), "Bearer access-one");
    }
    assert_eq!(house.bank.exchanges().len(), 1 + 5, "each code is sent once");

    house.clock.advance(Duration::from_millis(1));
    house.grant("c-1", "two").await;
    let after = house.view("c-1").await;
    assert_ne!(after.grant, before.grant);
    assert_eq!(after.generation, 1);
}

#[tokio::test]
async fn a_yes_that_cannot_be_read_is_kept_for_a_person_and_the_customer_starts_again() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(TokenOutcome::Unreadable { why: "unreadable_answer", body: b"<html>".to_vec().into() });
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=failed"));
    let kept = house.spill.load().await.expect("readable");
    assert!(matches!(&kept[..], [(_, Ok(entry))] if matches!(entry.content, SpillContent::Salvage(_))), "{kept:?}");
    assert_eq!(house.state("c-1").await, "pending");
}

#[tokio::test]
async fn while_the_bank_cannot_be_reached_the_code_waits_for_a_reload() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.shut();
    let back = house.back(&to, "code=x", &cookie).await;
    assert_eq!(back.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(back.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(house.counted("bank_unavailable"), 1);
    house.bank.next(tokens("one"));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
}

#[tokio::test]
async fn two_attempts_at_one_consent_do_not_undo_each_other() {
    let house = House::new();
    let (one, two) = (house.start("c-1", Some(DONE)).await, house.start("c-1", Some(DONE)).await);
    let ((to_one, cookie_one), (to_two, cookie_two)) = (house.leave(&one).await, house.leave(&two).await);
    let both = format!("{}; {}", pair(&cookie_one), pair(&cookie_two));
    house.bank.next(tokens("two"));
    assert!(location(&house.back(&to_two, "code=x", &both).await).ends_with("status=granted"));
    assert!(location(&house.back(&to_one, "error=access_denied", &both).await).ends_with("status=denied"));
    assert_eq!(house.state("c-1").await, "active", "who refused the one did not take the other back");
}

#[tokio::test]
async fn what_the_bank_does_not_take_or_the_operator_did_not_allow_is_not_started() {
    let house = House::new();
    let asked = |json: serde_json::Value| {
        let request = StartRequest::parse(json.to_string().as_bytes()).expect("well-formed");
        let house = &house;
        async move { start(&house.tokens, &house.asking, &house.clock, request).await }
    };
    let error = asked(json!({"provider": "nobody"})).await.expect_err("unknown");
    assert_eq!(error, StartError::UnknownProvider);
    assert_eq!(asked(json!({"provider": "silent"})).await.expect_err("no endpoint"), StartError::NotOffered);
    let error = asked(json!({"provider": "bank", "scope": "accounts payments"})).await.expect_err("both");
    assert!(matches!(error, StartError::Scope(_)), "{error}");
    for url in ["https://app.example/done", "https://evil.example/", "https://app.example/done?from=bank&x"] {
        let error = asked(json!({"provider": "bank", "return_url": url})).await.expect_err(url);
        assert_eq!(error, StartError::ReturnUrl, "{url}");
    }
    let new = asked(json!({"provider": "bank"})).await.expect("an id of its own");
    assert_eq!(new.consent_id.as_str().len(), 32);
    house.grant("c-1", "one").await;
    let elsewhere = asked(json!({"provider": "other", "consent_id": "c-1"})).await.expect_err("in use");
    assert!(matches!(elsewhere, StartError::Elsewhere { .. }), "{elsewhere}");
}

#[tokio::test]
async fn what_is_no_visit_of_a_browser_is_refused() {
    let house = House::new();
    let started = house.start("c-1", None).await;
    let path = started.start_url.strip_prefix("https://us.example").unwrap();
    let mut rows: Vec<(Request<()>, StatusCode)> = Vec::new();
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let request = Request::builder().method(method).uri(path).header("host", "us.example").body(()).unwrap();
        rows.push((request, StatusCode::METHOD_NOT_ALLOWED));
    }
    let with = |headers: &[(&str, &str)]| {
        let request = Request::builder().uri(path);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    };
    rows.push((with(&[("host", "evil.example")]), StatusCode::BAD_REQUEST));
    rows.push((with(&[]), StatusCode::BAD_REQUEST));
    let prefetch = [("host", "us.example"), ("sec-fetch-site", "none"), ("sec-purpose", "prefetch")];
    rows.push((with(&prefetch), StatusCode::BAD_REQUEST));
    let long = format!("/start/{}", "x".repeat(9_000));
    rows.push((Request::builder().uri(long).header("host", "us.example").body(()).unwrap(), StatusCode::URI_TOO_LONG));
    for (request, status) in rows {
        let answer = house.callback.answer(&request).await;
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
    for host in ["us.example", "us.example:443", "us.example:8090", "inside.example"] {
        let answer = house.callback.answer(&house.request("https://us.example/nowhere", &[("host", host)])).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{host}");
    }
    house.leave(&started).await;
}

const NOW: u64 = 1_760_000_000_000;

/// Everything behind the listener.
struct House {
    callback: Callback<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    tokens: Tokens<EmbeddedStore<ManualClock>, Bank, ManualClock>,
    asking: Arc<AskSettings>,
    clock: ManualClock,
    bank: Bank,
    spill: SpillDirectory,
    metrics: Metrics,
    _home: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
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

    async fn start(&self, consent: &str, return_url: Option<&str>) -> Started {
        let json = json!({"provider": "bank", "consent_id": consent, "return_url": return_url});
        let request = StartRequest::parse(json.to_string().as_bytes()).expect("well-formed");
        start(&self.tokens, &self.asking, &self.clock, request).await.expect("started")
    }

    /// A visit to the start address: where it leads, and the cookie's line.
    async fn leave(&self, started: &Started) -> (String, String) {
        let answer = self.get(&started.start_url, &[]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        (location(&answer), answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned())
    }

    /// The browser comes back with what the bank added to the state.
    async fn back(&self, to: &str, query: &str, cookie: &str) -> Response<Full<Bytes>> {
        self.get(&back_path(to, query), &[("cookie", &pair(cookie))]).await
    }

    async fn grant(&self, consent: &str, mark: &str) {
        let started = self.start(consent, Some(DONE)).await;
        let (to, cookie) = self.leave(&started).await;
        self.bank.next(tokens(mark));
        assert!(location(&self.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
    }

    async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        self.callback.answer(&self.request(url, headers)).await
    }

    fn request(&self, url: &str, headers: &[(&str, &str)]) -> Request<()> {
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

    async fn view(&self, consent: &str) -> ConsentView {
        show(&self.tokens, &self.clock, &id(consent)).await.expect("stored")
    }

    async fn state(&self, consent: &str) -> &'static str {
        self.view(consent).await.state
    }

    async fn last_event(&self, consent: &str) -> (String, Option<String>) {
        let history = history(&self.tokens, &self.clock, &id(consent)).await.expect("stored");
        let event = history.events.last().expect("something happened");
        (event.event.to_owned(), event.why.clone())
    }

    async fn token(&self, consent: &str) -> Result<String, TokenError> {
        let (key, provider) = (TokenKey::Consent(id(consent)), ProviderId::parse("bank").expect("a name"));
        let ask = Ask { key: &key, provider: &provider, client: None, wait: Duration::from_secs(5) };
        Ok(self.tokens.token(&ask).await?.bearer.to_str().expect("text").to_owned())
    }

    fn counted(&self, outcome: &'static str) -> u64 {
        self.metrics.attempts.get_or_create(&OutcomeLabels { provider: "bank".to_owned(), outcome }).get()
    }
}

/// A bank that says what it is told to, in that order.
#[derive(Clone, Debug)]
struct Bank(Arc<Said>);

#[derive(Debug)]
struct Said {
    next: Mutex<VecDeque<TokenOutcome>>,
    exchanges: Mutex<Vec<(String, String, Option<String>)>>,
    shut: Mutex<bool>,
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
            asked: Semaphore::new(0),
            gate: Semaphore::new(0),
            held: Mutex::new(false),
        }))
    }
}

impl Bank {
    fn next(&self, outcome: TokenOutcome) {
        self.0.next.lock().expect("no panic").push_back(outcome);
    }

    fn exchanges(&self) -> Vec<(String, String, Option<String>)> {
        self.0.exchanges.lock().expect("no panic").clone()
    }

    /// The next connection is refused.
    fn shut(&self) {
        *self.0.shut.lock().expect("no panic") = true;
    }

    /// Answers wait until they are let go.
    fn hold(&self) {
        *self.0.held.lock().expect("no panic") = true;
    }

    fn let_go(&self) {
        self.0.gate.add_permits(1);
    }

    async fn until_asked(&self, times: u32) {
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

    fn certificate(&self) -> Option<String> {
        None
    }
}

fn tokens(mark: &str) -> TokenOutcome {
    TokenOutcome::Granted(TokenSet {
        access: AccessToken::new(format!("access-{mark}")),
        expires_in: Duration::from_secs(3_600),
        refresh: Some(RefreshToken::new(format!("refresh-{mark}"))),
        scope: None,
    })
}

fn id(consent: &str) -> ConsentId {
    ConsentId::parse(consent).expect("valid")
}

fn location(response: &Response<Full<Bytes>>) -> String {
    let location = response.headers().get(header::LOCATION);
    location.unwrap_or_else(|| panic!("no redirect: {}", response.status())).to_str().expect("text").to_owned()
}

fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').expect("a query").1;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{url} has no {name}")).to_owned()
}

/// Where the bank sends the browser, with `query` before the state.
fn back_path(to: &str, query: &str) -> String {
    format!("https://us.example/callback?{query}&state={}", parameter(to, "state"))
}

/// `name=value` of a Set-Cookie line.
fn pair(cookie: &str) -> String {
    cookie.split("; Path").next().unwrap_or_default().to_owned()
}

fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

async fn text(response: Response<Full<Bytes>>) -> String {
    let body = response.into_body().collect().await.expect("in memory").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}
