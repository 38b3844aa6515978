//! Every problem that can occur on the request path, once.

use std::time::Duration;

use super::app::Reply;
use super::bank::{Bank, OK, Say};
use super::house::{C1, Plan};
use super::shelf::Mood;
use crate::proxy::ApiFault;
use crate::proxy::ProxyError;
use crate::proxy::settings::TokenSource;
use crate::store::{RecordState, StoreError, Waiting};
use crate::words::ids::ProviderId;
use crate::words::metrics::CallLabels;
use crate::words::secrets::HeaderSecret;

fn told(reply: &Reply) -> (u16, String) {
    (reply.status(), reply.problem().unwrap_or_else(|| format!("the bank's: {}", reply.head)))
}

#[tokio::test]
async fn a_call_that_names_no_usable_consent_is_told_what_to_send() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let missing = house.ask("GET /api/v1/x", "", "").await;
    assert_eq!(told(&missing), (400, "consent-id-missing".into()));
    let json = missing.json();
    assert!(json["detail"].as_str().is_some_and(|detail| detail.contains("consent-id: <consent id>")));
    assert_eq!(json["example"], "curl -H 'consent-id: <consent id>' http://localhost:<port>/api/…");
    assert_eq!(json["request_id"].as_str(), missing.header("x-request-id"));
    for (path, headers) in [
        ("/api/v1/x", "Consent-ID: a b\r\n"),
        ("/api/v1/x", "Consent-ID: c1, c1\r\n"),
        ("/api/v1/x", "Consent-ID: c1\r\nConsent-ID: c1\r\n"),
        ("/api/v1/x", "Consent-ID:\r\n"),
        ("/api/path/c1/x", "Consent-ID: c2\r\n"),
        ("/api/path/c%31%21/x", ""),
        ("/api/own/x", "Consent-ID: c 1\r\n"),
    ] {
        let reply = house.ask(&format!("GET {path}"), headers, "").await;
        assert_eq!(told(&reply), (400, "consent-id-invalid".into()), "{path} {headers}");
    }
    assert!(bank.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    for (line, wanted) in [
        ("GET /apix/v1", (404, "no-such-api")),
        ("GET /", (404, "no-such-api")),
        ("GET /api/v2/x", (403, "route-not-allowed")),
        ("PATCH /api/v1/x", (405, "method-not-allowed")),
        ("get /api/v1/x", (405, "method-not-allowed")),
        ("TRACE /api/v1/x", (405, "method-not-allowed")),
        ("GET /api/v1/../x", (400, "bad-request")),
        ("GET /api/v1/%2e%2e/x", (400, "bad-request")),
        ("GET /api%2fv1/x", (400, "bad-request")),
        ("GET /api//v1", (400, "bad-request")),
        ("OPTIONS *", (400, "bad-request")),
        ("GET http://bank.example/api/v1/x", (400, "bad-request")),
    ] {
        let reply = house.ask(line, C1, "").await;
        assert_eq!(told(&reply), (wanted.0, wanted.1.into()), "{line}");
    }
    let reply = house.ask("PATCH /api/v1/x", C1, "").await;
    assert_eq!(reply.header("allow"), Some("GET, HEAD, POST, PUT, DELETE"));
    assert!(bank.seen().is_empty());
}

#[tokio::test]
async fn a_head_that_is_ambiguous_foreign_or_too_large_is_refused() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let many = "A: b\r\n".repeat(64);
    let large = format!("A: {}\r\n", "b".repeat(17_000));
    for (headers, wanted) in [
        ("Host: localhost\r\n", (400, "bad-request")),
        ("Origin: https://evil.example\r\n", (400, "bad-request")),
        ("Sec-Fetch-Site: cross-site\r\n", (400, "bad-request")),
        ("X: \u{e9}\r\n", (400, "bad-request")),
        ("Connection: host\r\n", (400, "bad-request")),
        ("Connection: content-length\r\n", (400, "bad-request")),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", (400, "bad-request")),
        ("Transfer-Encoding: gzip, chunked\r\n", (501, "not-supported")),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", (501, "not-supported")),
        ("Expect: 200-ok\r\n", (417, "expectation-failed")),
        ("Via: 1.1 consentry\r\n", (508, "loop-detected")),
        ("Via: 1.1 consentry\r\nConnection: via\r\n", (508, "loop-detected")),
        (many.as_str(), (431, "headers-too-large")),
        (large.as_str(), (431, "headers-too-large")),
    ] {
        let reply = house.ask("GET /api/v1/x", &format!("{C1}{headers}"), "").await;
        assert_eq!(told(&reply), (wanted.0, wanted.1.into()), "{headers:.60}");
    }
    let long = format!("GET /api/v1/{}", "x".repeat(8_200));
    assert_eq!(told(&house.ask(&long, C1, "").await), (414, "target-too-long".into()));
    for host in ["evil.example", "evil.example:80", "a@localhost", ""] {
        let request = format!("GET /api/v1/x HTTP/1.1\r\nHost: {host}\r\n{C1}\r\n");
        assert_eq!(told(&house.app().await.ask(request).await), (400, "bad-request".into()), "{host}");
    }
    let named = format!("GET /api/v1/x HTTP/1.1\r\nHost: proxy.example\r\n{C1}\r\n");
    assert_eq!(house.app().await.ask(named).await.status(), 200);
    assert_eq!(bank.seen().len(), 1);
}

#[tokio::test]
async fn after_an_ambiguous_head_the_connection_ends() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    let smuggled = format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n");
    let request = format!("POST /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}{twice}\r\n0\r\n\r\n{smuggled}");
    let reply = app.ask(request).await;
    assert_eq!((reply.status(), reply.header("connection")), (400, Some("close")));
    assert!(app.is_closed().await);
    assert!(bank.seen().is_empty());
}

#[tokio::test]
async fn a_consent_without_a_usable_token_is_answered_by_its_state() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let refused = |state| (state, Mood::Stays);
    let waits = |waiting, why| (RecordState::Active, Mood::Wait(waiting, why));
    let fails = |error| (RecordState::Active, Mood::Fails(error));
    for (n, ((state, mood), status, slug, retry_after)) in [
        (refused(RecordState::Pending), 403, "consent-pending", None),
        (refused(RecordState::Denied), 403, "consent-denied", None),
        (refused(RecordState::Revoked), 403, "consent-revoked", None),
        (refused(RecordState::Expired), 403, "consent-expired", None),
        (refused(RecordState::ReauthorizationRequired), 403, "consent-reauthorization-required", None),
        (waits(Waiting::Busy, "x"), 503, "token-wait-timeout", Some("1")),
        (waits(Waiting::Quarantine, "x"), 503, "token-refresh-uncertain", Some("7")),
        (waits(Waiting::Backoff, "unreachable"), 503, "token-endpoint-unavailable", Some("7")),
        (waits(Waiting::Backoff, "invalid_client"), 502, "provider-misconfigured", None),
        (fails(StoreError::Unavailable("away".into())), 503, "store-unavailable", Some("1")),
        (fails(StoreError::Unreadable("torn".into())), 503, "consent-unreadable", None),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("case-{n}");
        house.shelf.put(&id, state, mood);
        let reply = house.ask("GET /api/v1/x", &format!("Consent-ID: {id}\r\n"), "").await;
        assert_eq!(told(&reply), (status, slug.into()));
        assert_eq!(reply.header("retry-after"), retry_after, "{slug}");
    }
    let unknown = |id: &str| format!("Consent-ID: {id}\r\n");
    for id in ["nobody", "theirs"] {
        let reply = house.ask("GET /api/v1/x", &unknown(id), "").await;
        assert_eq!(told(&reply), (404, "consent-unknown".into()));
    }
    assert!(bank.seen().is_empty());
}

#[tokio::test]
async fn a_route_s_scope_must_be_covered_where_it_is_known() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    for (id, scope) in [("some", "read"), ("all", "write read more")] {
        house.shelf.put(id, RecordState::Active, Mood::Stays);
        house.shelf.scope(id, scope);
    }
    let lacking = house.ask("GET /api/scoped/x", "Consent-ID: some\r\n", "").await;
    assert_eq!(told(&lacking), (403, "scope-insufficient".into()));
    assert_eq!(lacking.json()["needs"], "read write");
    assert_eq!(house.ask("GET /api/scoped/x", "Consent-ID: all\r\n", "").await.status(), 200);
    assert_eq!(house.get("/api/scoped/x").await.status(), 200, "a scope that nobody told is not held against it");
}

#[tokio::test]
async fn what_the_bank_says_of_a_call_counts_under_the_base_s_path_where_the_route_says_nothing() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    house.shelf.put("some", RecordState::Active, Mood::Stays);
    house.shelf.scope("some", "processing read write");
    let get = async |path: &str| house.ask(&format!("GET /api{path}"), "Consent-ID: some\r\n", "").await;
    let lacking = get("/v1/balances/x").await;
    assert_eq!(told(&lacking), (403, "scope-insufficient".into()));
    assert_eq!(lacking.json()["needs"], "balance");
    for covered in ["/v1/balances", "/v1/balances/x/y", "/v1/debt/x", "/scoped/x", "/own/x"] {
        assert_eq!(get(covered).await.status(), 200, "{covered}");
    }
    house.shelf.scope("some", "balance");
    assert_eq!(house.ask("DELETE /api/v1/balances/x", "Consent-ID: some\r\n", "").await.status(), 200);
    house.shelf.put("other", RecordState::Active, Mood::Stays);
    house.shelf.scope("other", "balance");
    let neither = house.ask("GET /api/v1/debt/x", "Consent-ID: other\r\n", "").await;
    assert_eq!(neither.json()["needs_one_of"], serde_json::json!(["presentation", "processing"]));
}

#[tokio::test]
async fn nobody_asks_for_the_right_to_refresh_for_a_call_that_is_not_covered() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    house.shelf.put("waits", RecordState::Active, Mood::Wait(Waiting::Busy, "x"));
    house.shelf.scope("waits", "read");
    let begins = house.shelf.begins();
    let lacking = house.ask("GET /api/scoped/x", "Consent-ID: waits\r\n", "").await;
    assert_eq!(told(&lacking), (403, "scope-insufficient".into()));
    assert_eq!(house.shelf.begins(), begins);
    for (state, slug) in [(RecordState::Revoked, "consent-revoked"), (RecordState::Expired, "consent-expired")] {
        house.shelf.put(slug, state, Mood::Stays);
        house.shelf.scope(slug, "read");
        let ended = house.ask("GET /api/scoped/x", &format!("Consent-ID: {slug}\r\n"), "").await;
        assert_eq!(told(&ended), (403, slug.into()), "that it has ended comes first");
    }
}

#[tokio::test]
async fn a_body_that_is_known_to_be_too_large_is_refused_unread() {
    let bank = Bank::saying(&[OK]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().max_body_bytes = Some(10);
    let house = plan.open().await;
    let request = format!("POST /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}Content-Length: 11\r\n\r\n");
    let reply = house.app().await.ask(request).await;
    assert_eq!(told(&reply), (413, "request-too-large".into()));
    assert_eq!(house.ask("POST /api/v1/x", C1, "0123456789").await.status(), 200);
    assert_eq!(house.shelf.reads(), 1);
}

#[tokio::test]
async fn a_call_without_a_place_is_turned_away_and_a_place_is_given_back() {
    let bank = Bank::saying(&[Say::Nothing, OK]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().max_in_flight = 1;
    let house = plan.open().await;
    let mut first = house.app().await;
    first.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
    bank.until(|seen| seen.len() == 1).await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!(told(&reply), (503, "overloaded".into()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(first);
    let mut status = 503;
    super::within(async {
        while status == 503 {
            status = house.get("/api/v1/x").await.status();
        }
    })
    .await;
    assert_eq!(status, 200);
    let labels = CallLabels { api: "accounts".to_owned(), answered_by: "consentry", outcome: "abandoned" };
    assert_eq!(house.metrics.calls.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_and_nothing_else() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    assert_eq!(house.get("/api/v1/x").await.status(), 200);
    house.clock.panic(true);
    let mut app = house.app().await;
    app.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
    assert!(app.is_closed().await);
    house.clock.panic(false);
    assert_eq!(house.get("/api/v1/x").await.status(), 200);
    assert_eq!(house.metrics.calls_in_flight.get(), 0);
}

#[tokio::test]
async fn settings_that_cannot_be_served_are_refused_by_name() {
    let plan = || Plan::at("http://127.0.0.1:1");
    let fault = async |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        plan.fault().await
    };
    let error = fault(|plan| plan.api().provider = ProviderId::parse("nobody").expect("valid")).await;
    assert_eq!(error.to_string(), "the API accounts: its provider nobody is not configured");
    let error = fault(|plan| plan.api().routes[5].resend_on_lost_reply = true).await;
    assert!(matches!(error, ProxyError::Api { fault: ApiFault::SingleUseResend(5), .. }), "{error}");
    let error = fault(|plan| plan.api().set_headers[0].0 = http::header::CONTENT_LENGTH).await;
    assert!(matches!(error, ProxyError::Api { fault: ApiFault::Header(_), .. }), "{error}");
    let error = fault(|plan| plan.api().set_headers[0].0 = http::header::AUTHORIZATION).await;
    assert!(matches!(error, ProxyError::Api { fault: ApiFault::Header(_), .. }), "{error}");
    let error = fault(|plan| plan.api().set_headers[0].1 = HeaderSecret::new("a\r\nb")).await;
    assert!(matches!(error, ProxyError::Api { fault: ApiFault::HeaderValue(..), .. }), "{error}");
    let error = fault(|plan| plan.settings.consent_header = http::header::HOST).await;
    assert!(matches!(error, ProxyError::ConsentHeader(_)), "{error}");
    let error = fault(|plan| plan.settings.hosts.push("a b".to_owned())).await;
    assert!(matches!(error, ProxyError::Host(_)), "{error}");
    let mut twice = plan();
    let again = plan().settings.apis.remove(0);
    twice.settings.apis.push(again);
    assert!(matches!(twice.fault().await, ProxyError::Prefix(_)));
    let mut open = plan();
    open.api().routes.retain(|route| route.source == TokenSource::None);
    open.api().set_headers[0].0 = http::header::AUTHORIZATION;
    open.settings.token_wait = Duration::ZERO;
    open.open().await;
}
