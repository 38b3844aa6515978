//! Starting a consent over the admin listener.

use std::collections::BTreeMap;

use super::*;
use crate::consent::scopes::ScopeRules;
use crate::consent::settings::Asking;
use crate::consent::testing::Fault;
use crate::oauth::settings::{Authorization, Pkce};
use crate::words::token_set::Scope;

const CONSENTS: &str = "/v1/consents";

fn asking() -> AskSettings {
    let bank = Asking {
        authorization: Authorization {
            endpoint: http::Uri::from_static("https://bank.example/authorize"),
            client_id: "client".to_owned(),
            parameters: Vec::new(),
            pkce: Pkce::Allowed,
            issuer: None,
        },
        default_scope: Scope::parse("accounts"),
        rules: ScopeRules { one_of: vec!["accounts".to_owned()], ..ScopeRules::default() },
        consent_life: None,
        pasted_redirect_uri: Some("https://localhost/auth".to_owned()),
        denied_by: Vec::new(),
    };
    AskSettings {
        public_url: "https://us.example".to_owned(),
        path: "/callback".to_owned(),
        return_urls: vec!["https://app.example/done".to_owned()],
        providers: BTreeMap::from([(provider_id(), bank)]),
    }
}

async fn server() -> Server {
    let bench = Bench::new();
    let service = admin(&bench, Some(KEY), Writes::Guarded, Some(asking())).into_service();
    Server::start(bench, &"127.0.0.1:0".parse().unwrap(), service).await
}

#[tokio::test]
async fn a_start_answers_with_an_address_and_the_consent_is_pending() {
    let server = server().await;
    let body = json!({"provider": "bank", "consent_id": "customer-4711", "return_url": "https://app.example/done"});
    let answer = server.post(CONSENTS, &[], &body.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let started = answer.json();
    assert_eq!((started["consent_id"].as_str(), started["state"].as_str()), (Some("customer-4711"), Some("pending")));
    let url = started["start_url"].as_str().unwrap();
    assert!(url.starts_with("https://us.example/start/") && url.len() == 68, "{url}");
    assert_eq!(
        (started["expires_in"].as_u64(), started["expires_at"].as_str()),
        (Some(600), Some("2025-10-09T09:03:20Z"))
    );
    let shown = server.ask("GET", CONSENT, &[], "").await;
    assert_eq!((shown.json()["state"].as_str(), shown.json()["generation"].as_u64()), (Some("pending"), Some(0)));
    // With no id one is made up.
    let answer = server.post(CONSENTS, &[], r#"{"provider": "bank"}"#).await;
    assert_eq!(answer.json()["consent_id"].as_str().unwrap().len(), 32);
    assert_eq!(server.bench.bank.calls(), 0, "nothing is asked of the bank");
}

#[tokio::test]
async fn a_start_takes_the_key_and_json_and_a_section_for_the_callback() {
    let server = server().await;
    let body = r#"{"provider": "bank"}"#;
    server.ask("POST", CONSENTS, &[("Content-Type", "application/json")], body).await.problem("admin-key-needed");
    let typed = [("Authorization", "Bearer CANARY-admin-key"), ("Content-Type", "text/plain")];
    server.ask("POST", CONSENTS, &typed, body).await.problem("media-type-unsupported");
    server.ask("DELETE", CONSENTS, &[], "").await.problem("method-not-allowed");
    let bare = Server::admin(Bench::new()).await;
    bare.post(CONSENTS, &[], body).await.problem("start-not-offered");
}

#[tokio::test]
async fn every_fault_of_a_start_is_named_by_its_member() {
    let server = server().await;
    let rows = [
        ("[]", 400, "bad-request", None),
        (r#"{"provider": "nobody"}"#, 422, "provider-unknown", None),
        (r#"{"provider": "bank", "scope": "payments"}"#, 422, "start-invalid", Some("scope")),
        (r#"{"provider": "bank", "return_url": "https://evil.example/"}"#, 422, "start-invalid", Some("return_url")),
        (r#"{"provider": "bank", "consent_id": "a b"}"#, 422, "start-invalid", Some("consent_id")),
        (r#"{"provider": "bank", "access_token": "CANARY"}"#, 422, "start-invalid", Some("access_token")),
        ("{}", 422, "start-invalid", Some("provider")),
    ];
    for (body, status, kind, member) in rows {
        let answer = server.post(CONSENTS, &[], body).await;
        answer.problem(kind);
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.json()["faults"][0]["member"].as_str(), member, "{body}");
    }
    // A reply that is lost costs nothing: both steps are the same when they are asked for again.
    server.bench.faults.next([Fault::LostReply]);
    let body = json!({"provider": "bank", "consent_id": "customer-4711"}).to_string();
    assert_eq!(server.post(CONSENTS, &[], &body).await.status, 201);
    assert_eq!(server.bench.faults.left(), 0);
    let history = server.ask("GET", HISTORY, &[], "").await.json();
    assert_eq!(history["events"].as_array().unwrap().len(), 1, "{history}");
    server.bench.faults.next([Fault::Refused]);
    let answer = server.post(CONSENTS, &[], r#"{"provider": "bank"}"#).await;
    answer.problem("store-unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
}
