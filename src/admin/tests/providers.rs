//! Freezing a provider, thawing it, and looking at it.

use std::time::Duration;

use serde_json::json;

use super::{KEY, Server};
use crate::consent::testing::{Bench, Fault, provider_id};
use crate::store::{Freeze, FreezeReason, Lesson, Refusal, Report, Store as _};
use crate::words::ids::{AttemptId, ConsentId, GrantId, TokenKey, Version};

const PROVIDER: &str = "/v1/providers/bank";
const FREEZE: &str = "/v1/providers/bank/freeze";
const THAW: &str = "/v1/providers/bank/thaw";

#[tokio::test]
async fn a_freeze_is_shown_with_who_and_why_until_it_is_thawed() {
    let server = Server::admin(Bench::new()).await;
    let free = server.ask("GET", PROVIDER, &[], "").await;
    assert_eq!((free.status, free.header("cache-control")), (200, Some("no-store")));
    let view = free.json();
    assert_eq!((&view["provider"], &view["freeze"]), (&json!("bank"), &json!(null)));
    assert_eq!((&view["breaker"]["state"], &view["in_flight"]), (&json!("closed"), &json!(0)));

    let frozen = server.post(FREEZE, &[], r#"{"why": "their migration"}"#).await;
    assert_eq!(frozen.status, 200, "{frozen:?}");
    let all = server.ask("GET", "/v1/providers", &[], "").await.json();
    let freeze = &all["providers"][0]["freeze"];
    assert_eq!((&freeze["reason"], &freeze["why"]), (&json!("operator"), &json!("their migration")));
    assert!(freeze["by"].as_str().unwrap().starts_with("test/"), "{freeze}");
    assert!(freeze["since"].as_str().unwrap().ends_with('Z'), "{freeze}");
    assert_eq!(server.bench.tokens.frozen().len(), 1, "whoever looks at the process is told");
    assert_eq!(server.ask("HEAD", PROVIDER, &[], "").await.status, 200);

    // Both may be said twice, and a reason may be left out.
    assert_eq!(server.post(FREEZE, &[], "").await.json()["freeze"]["why"], json!(null));
    for body in ["", "{}"] {
        assert_eq!(server.post(THAW, &[], body).await.json()["freeze"], json!(null));
    }
    assert!(server.bench.tokens.frozen().is_empty());
    assert_eq!(server.bench.bank.calls(), 0);
}

#[tokio::test]
async fn an_operators_freeze_and_a_machines_are_both_shown_and_a_thaw_ends_both() {
    let server = Server::admin(Bench::new()).await;
    let order =
        Freeze { reason: FreezeReason::OldBackup, by: "elsewhere".into(), why: None, age: Duration::ZERO, over: None };
    server.bench.tokens.store().freeze(&provider_id(), Some(&order)).await.unwrap();
    assert_eq!(server.ask("GET", PROVIDER, &[], "").await.json()["frozen_besides"], json!(null));
    let both = server.post(FREEZE, &[], r#"{"why": "their migration"}"#).await.json();
    assert_eq!((&both["freeze"]["reason"], &both["freeze"]["by"]), (&json!("old_backup"), &json!("elsewhere")));
    let besides = both["frozen_besides"].as_array().unwrap();
    assert_eq!((besides.len(), &besides[0]["why"]), (1, &json!("their migration")));
    let thawed = server.post(THAW, &[], "").await.json();
    assert_eq!((&thawed["freeze"], &thawed["frozen_besides"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn whoever_may_not_write_freezes_nothing() {
    let server = Server::admin(Bench::new()).await;
    let json = [("Content-Type", "application/json")];
    for path in [FREEZE, THAW] {
        let refused = server.ask("POST", path, &json, "{}").await;
        refused.problem("admin-key-needed");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        let form = server.post(path, &[("Content-Type", "text/plain")], "{}").await;
        form.problem("media-type-unsupported");
        let read = server.ask("GET", path, &[], "").await;
        read.problem("method-not-allowed");
        assert_eq!(read.header("allow"), Some("POST"));
    }
    let elsewhere = format!("POST {FREEZE} HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    assert!(server.raw(&elsewhere).await.status >= 400);
    assert!(server.bench.tokens.provider_standing(&provider_id()).await.unwrap().freeze.is_none());
}

#[tokio::test]
async fn a_body_that_is_no_order_is_refused() {
    let server = Server::admin(Bench::new()).await;
    let long = json!({ "why": "x".repeat(501) }).to_string();
    for bad in ["[\"why\"]", "{\"because\": \"x\"}", "{\"why\": 7}", "{\"why\": \"a\\nb\"}", "nonsense", &long] {
        let refused = server.post(FREEZE, &[], bad).await;
        refused.problem("bad-request");
        assert_eq!(refused.status, 400, "{bad}");
    }
    server.post(THAW, &[], "{\"why\": \"x\"}").await.problem("bad-request");
    assert!(server.bench.tokens.provider_standing(&provider_id()).await.unwrap().freeze.is_none());
}

#[tokio::test]
async fn an_unknown_provider_is_not_there() {
    let server = Server::admin(Bench::new()).await;
    for path in ["/v1/providers/elsewhere", "/v1/providers/No%20Name", "/v1/providers/bank/melt", "/v1/providers/"] {
        let refused = server.ask("GET", path, &[], "").await;
        refused.problem("no-such-resource");
        assert_eq!(refused.status, 404, "{path}");
    }
    server.post("/v1/providers/elsewhere/freeze", &[], "{}").await.problem("no-such-resource");
}

#[tokio::test]
async fn the_consents_that_were_refused_are_named_to_those_who_may_write() {
    let server = Server::admin(Bench::new()).await;
    let key = TokenKey::Consent(ConsentId::parse("customer-4711").unwrap());
    let refusal = Refusal { version: Version::first(GrantId::random()), fence: 1, probe: false };
    let report = Report { permit: AttemptId::new("other", 1), key, lesson: Lesson::Refused(refusal), spread: 0 };
    server.bench.tokens.store().report(&provider_id(), &report).await.unwrap();
    let view = server.ask("GET", PROVIDER, &[], "").await.json();
    assert_eq!((&view["suspects"], view.get("suspect_consents")), (&json!(1), None));
    let authorization = format!("Bearer {KEY}");
    let view = server.ask("GET", PROVIDER, &[("Authorization", &authorization)], "").await.json();
    assert_eq!(view["suspect_consents"], json!([{ "consent_id": "customer-4711", "stage": "listed" }]));
}

#[tokio::test]
async fn a_store_that_fails_is_a_problem_and_no_standing() {
    let server = Server::admin(Bench::new()).await;
    let rows = [(Fault::Refused, "store-unavailable", 503), (Fault::Unreadable, "provider-unreadable", 500)];
    for (fault, slug, status) in rows {
        server.bench.faults.next([fault]);
        let refused = server.ask("GET", PROVIDER, &[], "").await;
        refused.problem(slug);
        assert_eq!(refused.status, status);
        server.bench.faults.next([fault]);
        server.post(FREEZE, &[], "{}").await.problem(slug);
    }
}
