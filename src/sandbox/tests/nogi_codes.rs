//! What becomes of Norsk Gjeldsinformasjon's authorization codes, and what their tokens are good for.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::browser::{Browser, SentTo};
use super::{Bench, Reply, form_post};

const CALLBACK: &str = "http://localhost:8090/callback";
const SCOPE: &str = "debt.unsecured.presentation";
/// The pair of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A service whose persons always agree.
async fn bench() -> Bench {
    let mut settings = SandboxSettings::default();
    settings.norsk_gjeld.auto_approve = true;
    Bench::with(settings).await
}

async fn code(bench: &Bench, scope: &str, more: &str) -> String {
    let endpoint = &bench.endpoints.norsk_gjeld.authorization_endpoint;
    let given = format!("client_id=my-client&response_type=code&state=12345678&redirect_uri={CALLBACK}");
    SentTo::of(&Browser::new(bench).get(&format!("{endpoint}?{given}&scope={scope}{more}")).await).code()
}

async fn exchange(bench: &Bench, code: &str, more: &str) -> Reply {
    let given = format!("grant_type=authorization_code&client_id=my-client&redirect_uri={CALLBACK}");
    bench.nogi_token(&format!("{given}&code={code}{more}")).await.expect("answers")
}

async fn lookup(bench: &Bench, path: &str, token: &str) -> Reply {
    bench.nogi_api("GET", path, token, &Value::Null).await
}

/// The end of the description of a code that is refused.
fn refused(reply: &Reply, ending: &str) {
    let told = reply.json();
    assert_eq!((reply.status, &told["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{told}");
    let description = told["error_description"].as_str().expect("a description");
    assert!(description.ends_with(ending), "{description}");
}

#[tokio::test]
async fn an_exchange_gives_a_token_for_one_consent_and_no_refresh_token() {
    let bench = bench().await;
    let reply = exchange(&bench, &code(&bench, "debt.unsecured.presentation.30", "").await, "").await;
    let access = reply.tokens().1;
    let wanted = format!(r#"{{"access_token":"{access}","expires_in":3599,"scope":"{SCOPE}","token_type":"bearer"}}"#);
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, wanted));
    for _ in 0..2 {
        let debt = lookup(&bench, "/v1/debt", &access).await;
        assert_eq!((debt.status, &debt.json()["ssn"]), (StatusCode::OK, &json!("14842249091")), "{}", debt.text());
    }
    bench.clock.advance(Duration::from_secs(3_600));
    assert_eq!(lookup(&bench, "/v1/debt", &access).await.json()["error_description"], "Access token is expired");
}

#[tokio::test]
async fn without_days_the_consent_is_used_up_by_one_lookup_and_lasts_ten_minutes() {
    let bench = bench().await;
    let used = exchange(&bench, &code(&bench, SCOPE, "").await, "").await.tokens().1;
    let late = exchange(&bench, &code(&bench, SCOPE, "").await, "").await.tokens().1;
    assert_eq!(lookup(&bench, "/v1/debt", &used).await.status, StatusCode::OK);
    let again = lookup(&bench, "/v1/debt", &used).await;
    assert_eq!((again.status, &again.json()["error"]), (StatusCode::FORBIDDEN, &json!("invalid consent")));
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(lookup(&bench, "/v1/debt", &late).await.json()["error"], "invalid consent");
}

#[tokio::test]
async fn a_consent_with_days_is_looked_up_by_its_id_with_the_clients_own_token() {
    let bench = bench().await;
    let access = exchange(&bench, &code(&bench, "debt.unsecured.processing.99", "").await, "").await.tokens().1;
    let debt = lookup(&bench, "/v1/debt", &access).await.json();
    assert_eq!(debt["consent"]["exp"], json!(super::TODAY.as_millis() / 1_000 + 28 * 86_400), "99 days are cut to 28");
    let path = format!("/v1/debt/{}", debt["consent"]["id"].as_str().expect("an id"));
    let audience = format!("{}/v1/debt", bench.endpoints.norsk_gjeld.api);
    let form = format!("grant_type=client_credentials&audience={audience}&scope=debt.unsecured.processing");
    let own = bench.nogi_token(&form).await.expect("answers").tokens().1;
    assert_eq!(lookup(&bench, &path, &own).await.status, StatusCode::OK);
    assert_eq!(lookup(&bench, "/v1/debt", &own).await.json()["error"], "no valid consent");
    assert_eq!(lookup(&bench, &path, &access).await.json()["error"], "Invalid access token");
}

#[tokio::test]
async fn openid_is_named_in_the_scope_and_the_days_are_not() {
    let bench = bench().await;
    let reply = exchange(&bench, &code(&bench, "debt.unsecured.presentation.7+openid", "").await, "").await.json();
    assert_eq!(reply["scope"], json!("debt.unsecured.presentation openid"));
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_its_token_and_is_counted() {
    let bench = bench().await;
    let code = code(&bench, "debt.unsecured.presentation.30", "").await;
    let access = exchange(&bench, &code, "").await.tokens().1;
    assert_eq!(lookup(&bench, "/v1/debt", &access).await.status, StatusCode::OK);
    refused(&exchange(&bench, &code, "").await, "The authorization code has already been used.");
    assert_eq!(lookup(&bench, "/v1/debt", &access).await.json()["error"], "Invalid access token");
    let counters = bench.control("GET", "/counters", Value::Null).await.json();
    let told = |name: &str| counters["norsk_gjeld"][name].clone();
    assert_eq!((told("code_exchanges"), told("code_reuses"), told("codes_issued")), (json!(1), json!(1), json!(1)));
    assert_eq!(told("client_credentials"), 0);
    let log = bench.control("GET", "/log", Value::Null).await;
    let outcomes = [log.json()[0]["outcome"].clone(), log.json()[1]["outcome"].clone()];
    assert_eq!(outcomes, [json!("granted"), json!("code-reuse")]);
    assert!(log.json()[0]["consent"].is_string() && !log.text().contains(&code));
}

#[tokio::test]
async fn a_code_is_refused_late_elsewhere_unproven_and_to_strangers_and_is_not_spent_by_that() {
    let bench = bench().await;
    let challenge = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256");
    let code = code(&bench, SCOPE, &challenge).await;
    let elsewhere =
        format!("grant_type=authorization_code&code={code}&redirect_uri=https://x&code_verifier={VERIFIER}");
    let told = "does not match the one from the authorize request.";
    refused(&bench.nogi_token(&elsewhere).await.expect("answers"), told);
    let without = format!("grant_type=authorization_code&code={code}&code_verifier={VERIFIER}");
    refused(&bench.nogi_token(&without).await.expect("answers"), told);
    for verifier in ["", &format!("&code_verifier={CHALLENGE}")] {
        refused(&exchange(&bench, &code, verifier).await, "did not match the code verifier.");
    }
    refused(&exchange(&bench, &"x".repeat(87), "").await, "was issued to another client.");
    let form = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}");
    let url = bench.endpoints.norsk_gjeld.token_endpoint.clone();
    let stranger = bench.send(None, &url, form_post(), form.clone()).await.expect("answers");
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.nogi_token(&form).await.expect("answers").status, StatusCode::OK);
    let late = self::code(&bench, SCOPE, "").await;
    bench.clock.advance(Duration::from_secs(600));
    refused(&exchange(&bench, &late, "").await, "The authorization code has expired.");
}

#[tokio::test]
async fn the_rules_of_the_token_endpoint_strike_an_exchange() {
    let bench = bench().await;
    let code = code(&bench, "debt.unsecured.presentation.30", "").await;
    let form = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}");
    let rule = json!({
        "target": "nogi-token", "grant_type": "authorization_code", "times": 1, "fault": {"drop_after_processing": true},
    });
    bench.fault(rule).await;
    let own = bench.nogi_token("grant_type=client_credentials").await.expect("not struck");
    assert_eq!(own.status, StatusCode::OK);
    assert!(bench.nogi_token(&form).await.is_err());
    refused(&exchange(&bench, &code, "").await, "has already been used.");
}

#[tokio::test]
async fn a_rule_for_a_consent_strikes_the_lookup_whose_token_carries_it() {
    let bench = bench().await;
    let access = exchange(&bench, &code(&bench, "debt.unsecured.presentation.30", "").await, "").await.tokens().1;
    let other = exchange(&bench, &code(&bench, "debt.unsecured.presentation.30", "").await, "").await.tokens().1;
    let id = lookup(&bench, "/v1/debt", &access).await.json()["consent"]["id"].clone();
    bench.fault(json!({"target": "nogi-api", "consent": id, "fault": {"status": {"code": 500}}})).await;
    assert_eq!(lookup(&bench, "/v1/debt", &other).await.status, StatusCode::OK);
    assert_eq!(lookup(&bench, "/v1/debt", &access).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}
