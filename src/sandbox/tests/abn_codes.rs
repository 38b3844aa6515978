//! What becomes of ABN AMRO's authorization codes.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::browser::{Browser, SentTo};
use super::{Bench, Reply, form_post};

const CALLBACK: &str = "http://localhost:8090/callback";
const NO_CODE: &str =
    "{\"error_description\":\"Authorization code is invalid or expired.\",\"error\":\"invalid_grant\"}\r\n";
/// The pair of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A bank whose customers always agree.
async fn bench() -> Bench {
    let mut settings = SandboxSettings::default();
    settings.abn_amro.auto_approve = true;
    Bench::with(settings).await
}

async fn code(bench: &Bench, more: &str) -> String {
    let endpoint = &bench.endpoints.abn_amro.authorization_endpoint;
    let scope = "psd2:account:details:read";
    let given = format!("response_type=code&client_id=TPP_test&scope={scope}&state=s&redirect_uri={CALLBACK}");
    SentTo::of(&Browser::new(bench).get(&format!("{endpoint}?{given}{more}")).await).code()
}

async fn counter(bench: &Bench, name: &str) -> Value {
    bench.control("GET", "/counters", Value::Null).await.json()["abn"][name].clone()
}

fn description(reply: &Reply) -> String {
    assert_eq!((reply.status, &reply.json()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    reply.json()["error_description"].as_str().expect("a description").to_owned()
}

#[tokio::test]
async fn an_exchange_answers_as_the_documents_show_and_its_tokens_work() {
    let bench = bench().await;
    let reply = bench.exchange(&code(&bench, "").await, CALLBACK, "").await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/json;charset=utf-8"));
    assert_eq!(reply.header("cache-control"), "no-cache, no-store");
    let (refresh, access) = reply.tokens();
    assert_eq!((access.len(), refresh.len()), (28, 42));
    let text =
        format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","token_type":"Bearer","expires_in":7200}}"#);
    assert_eq!(reply.text(), text);
    assert_eq!(bench.abn_api("/v1/consentinfo", &access).await.status, StatusCode::OK);
    let (next, _) = bench.refresh(&refresh).await.expect("answers").tokens();
    assert_eq!((next.len(), bench.reuse_events().await), (42, 0));
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_what_it_was_exchanged_for_and_is_counted() {
    let bench = bench().await;
    let code = code(&bench, "").await;
    let (refresh, access) = bench.exchange(&code, CALLBACK, "").await.tokens();
    let (next, _) = bench.refresh(&refresh).await.expect("answers").tokens();
    let again = bench.exchange(&code, CALLBACK, "").await;
    assert_eq!((again.status, again.text().as_str()), (StatusCode::BAD_REQUEST, NO_CODE));
    assert_eq!(bench.abn_api("/v1/consentinfo", &access).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.refresh(&next).await.expect("answers").status, StatusCode::BAD_REQUEST);
    let log = bench.control("GET", "/log", Value::Null).await;
    let entries = log.json();
    let told = |at: usize| (entries[at]["grant_type"].clone(), entries[at]["outcome"].clone());
    assert_eq!(told(0), (json!("authorization_code"), json!("granted")));
    assert_eq!(told(2), (json!("authorization_code"), json!("code-reuse")));
    assert_eq!(entries[0]["consent"], entries[2]["consent"]);
    assert!(!log.text().contains(&code));
    let id = entries[0]["consent"].as_str().expect("an id");
    let view = bench.control("GET", &format!("/abn-amro/consents/{id}"), Value::Null).await.json();
    assert_eq!(view["state"], "dead_by_code_reuse");
    for (name, value) in [("code_exchanges", 1), ("code_reuses", 1), ("consents_dead", 1), ("reuse_events", 0)] {
        assert_eq!(counter(&bench, name).await, json!(value), "{name}");
    }
}

#[tokio::test]
async fn with_the_milder_policy_a_second_exchange_is_only_refused() {
    let bench = bench().await;
    bench.control("PATCH", "/abn-amro/settings", json!({"reuse_policy": "reject"})).await;
    let code = code(&bench, "").await;
    let (_, access) = bench.exchange(&code, CALLBACK, "").await.tokens();
    assert_eq!(bench.exchange(&code, CALLBACK, "").await.text(), NO_CODE);
    assert_eq!(bench.abn_api("/v1/consentinfo", &access).await.status, StatusCode::OK);
    assert_eq!(counter(&bench, "code_reuses").await, json!(1));
}

#[tokio::test]
async fn a_code_lives_for_sixty_seconds() {
    let bench = bench().await;
    let (in_time, late) = (code(&bench, "").await, code(&bench, "").await);
    bench.clock.advance(Duration::from_millis(59_999));
    assert_eq!(bench.exchange(&in_time, CALLBACK, "").await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_millis(1));
    for _ in 0..2 {
        assert_eq!(bench.exchange(&late, CALLBACK, "").await.text(), NO_CODE);
    }
    assert_eq!(counter(&bench, "code_reuses").await, json!(0), "it was never exchanged");
    bench.control("PATCH", "/abn-amro/settings", json!({"code_life_s": 10})).await;
    let short = code(&bench, "").await;
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.exchange(&short, CALLBACK, "").await.text(), NO_CODE);
}

#[tokio::test]
async fn the_redirect_uri_must_come_along_and_be_the_same() {
    let bench = bench().await;
    let without = format!("grant_type=authorization_code&client_id=TPP_test&code={}", code(&bench, "").await);
    let told = description(&bench.abn_token(&without).await.expect("answers"));
    assert_eq!(told, "redirect_uri is required if it was included in the authorization request.");
    let spent = code(&bench, "").await;
    let told = description(&bench.exchange(&spent, "https://localhost/auth", "").await);
    assert!(told.starts_with("redirect_uri does not match"), "{told}");
    assert_eq!(bench.exchange(&spent, CALLBACK, "").await.text(), NO_CODE, "one try spends it");
}

#[tokio::test]
async fn a_challenge_asks_for_its_verifier() {
    let bench = bench().await;
    let challenge = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256");
    let reply = bench.exchange(&code(&bench, &challenge).await, CALLBACK, &format!("&code_verifier={VERIFIER}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    for verifier in ["", &format!("&code_verifier={CHALLENGE}"), "&code_verifier=x"] {
        let told = description(&bench.exchange(&code(&bench, &challenge).await, CALLBACK, verifier).await);
        assert!(told.starts_with("The code_verifier sent does not match code_challenge"), "{told}");
    }
    let unasked = bench.exchange(&code(&bench, "").await, CALLBACK, &format!("&code_verifier={VERIFIER}")).await;
    assert!(description(&unasked).starts_with("The code_verifier"));
}

#[tokio::test]
async fn a_code_is_its_clients_and_a_stranger_does_not_spend_it() {
    let bench = bench().await;
    let code = code(&bench, "").await;
    let url = bench.endpoints.abn_amro.token_endpoint.clone();
    let form = format!("grant_type=authorization_code&client_id=TPP_test&code={code}&redirect_uri={CALLBACK}");
    let stranger = bench.send(Some(&bench.stranger), &url, form_post(), form.clone()).await.expect("answers");
    assert_eq!((stranger.status, &stranger.json()["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    let other = form.replace("client_id=TPP_test", "client_id=other");
    assert_eq!(bench.abn_token(&other).await.expect("answers").status, StatusCode::UNAUTHORIZED);
    assert!(bench.send(None, &url, form_post(), form.clone()).await.is_err(), "no certificate, no connection");
    assert_eq!(bench.abn_token(&form).await.expect("answers").status, StatusCode::OK);
}

#[tokio::test]
async fn the_rules_of_the_token_endpoint_strike_an_exchange_and_can_leave_refreshes_alone() {
    let bench = bench().await;
    let rule =
        |fault: Value| json!({"target": "abn-token", "grant_type": "authorization_code", "times": 1, "fault": fault});
    bench.fault(rule(json!({"drop_before_processing": true}))).await;
    let (_, _, refresh) = bench.consent().await;
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::OK);
    let code = code(&bench, "").await;
    let form = format!("grant_type=authorization_code&client_id=TPP_test&code={code}&redirect_uri={CALLBACK}");
    assert!(bench.abn_token(&form).await.is_err());
    bench.fault(rule(json!({"drop_after_processing": true}))).await;
    assert!(bench.abn_token(&form).await.is_err());
    assert_eq!(counter(&bench, "code_exchanges").await, json!(1), "the answer was lost, not the exchange");
    bench.fault(rule(json!({"delay_before_ms": 30}))).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.abn_token(&form).await.expect("answers").text(), NO_CODE);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(counter(&bench, "code_reuses").await, json!(1));
}

#[tokio::test]
async fn an_exchange_may_leave_the_refresh_token_or_the_life_out() {
    let bench = bench().await;
    let fault = json!({"omit_refresh_token": true, "expires_in": "missing"});
    bench.fault(json!({"target": "abn-token", "times": 1, "fault": fault})).await;
    let reply = bench.exchange(&code(&bench, "").await, CALLBACK, "").await.json();
    assert!(reply.get("refresh_token").is_none() && reply.get("expires_in").is_none(), "{reply}");
    assert!(reply["access_token"].is_string());
}

#[tokio::test]
async fn a_consent_counts_its_days_from_the_customers_word() {
    let bench = bench().await;
    bench.control("PATCH", "/abn-amro/settings", json!({"consent_life_s": 100})).await;
    let code = code(&bench, "").await;
    bench.clock.advance(Duration::from_secs(59));
    let (refresh, access) = bench.exchange(&code, CALLBACK, "").await.tokens();
    bench.clock.advance(Duration::from_secs(41));
    assert_eq!(bench.abn_api("/v1/consentinfo", &access).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_full_sandbox_says_so_at_the_exchange() {
    let mut settings = SandboxSettings { max_consents: 0, ..SandboxSettings::default() };
    settings.abn_amro.auto_approve = true;
    let bench = Bench::with(settings).await;
    let reply = bench.exchange(&code(&bench, "").await, CALLBACK, "").await;
    assert_eq!((reply.status, &reply.json()["error"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("server_error")));
}
