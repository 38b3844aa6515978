//! Norsk Gjeldsinformasjon's authorization server and APIs, answer by answer.

use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::{Bench, form_post};

const BOTH: &str = "debt.unsecured.presentation+debt.unsecured.processing";

/// A token for the debt API with both scopes.
async fn debt_token(bench: &Bench) -> String {
    token(bench, "/v1/debt", BOTH).await
}

async fn token(bench: &Bench, service: &str, scope: &str) -> String {
    let audience = format!("{}{service}", bench.endpoints.norsk_gjeld.api);
    let form = format!("grant_type=client_credentials&audience={audience}&scope={scope}");
    let reply = bench.nogi_token(&form).await.expect("answers");
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.tokens().1
}

async fn consent(bench: &Bench, wanted: Value) -> String {
    let created = bench.control("POST", "/norsk-gjeld/consents", wanted).await.json();
    created["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn client_credentials_answer_as_the_documents_show() {
    let bench = Bench::new().await;
    let audience = "https%3A%2F%2Fapi-preprod.norskgjeld.no%2Fv1%2Fdebt";
    let form = format!("grant_type=client_credentials&audience={audience}&scope={BOTH}");
    let reply = bench.nogi_token(&form).await.expect("answers");
    let access = reply.tokens().1;
    let scope = BOTH.replace('+', " ");
    let wanted = format!(r#"{{"access_token":"{access}","expires_in":3599,"scope":"{scope}","token_type":"bearer"}}"#);
    assert_eq!(reply.text(), wanted);
    assert_eq!(access.len(), 87);
    assert_eq!(reply.header("cache-control"), "no-store");
}

#[tokio::test]
async fn each_wrong_token_request_has_hydras_answer() {
    let bench = Bench::new().await;
    let cases = [
        (
            "grant_type=refresh_token&refresh_token=x",
            400,
            "unauthorized_client",
            "not allowed to use authorization grant 'refresh_token'.",
        ),
        ("grant_type=client_credentials&scope=x", 400, "invalid_scope", "not allowed to request scope 'x'."),
        (
            "grant_type=client_credentials&audience=https://x",
            400,
            "invalid_request",
            "Requested audience 'https://x' has not been whitelisted by the OAuth 2.0 Client.",
        ),
        ("grant_type=authorization_code&code=x", 400, "invalid_grant", "was issued to another client."),
        ("scope=x", 400, "invalid_request", "'grant_type' is missing"),
    ];
    for (form, status, error, ending) in cases {
        let reply = bench.nogi_token(form).await.expect("answers");
        let json = reply.json();
        assert_eq!((reply.status.as_u16(), &json["error"]), (status, &json!(error)), "{form}");
        let description = json["error_description"].as_str().expect("a description");
        assert!(description.ends_with(ending), "{description}");
    }
}

#[tokio::test]
async fn only_basic_with_the_right_secret_authenticates() {
    let settings = SandboxSettings { norsk_gjeld_client_secret: "a+b:c %".to_owned(), ..SandboxSettings::default() };
    let bench = Bench::with(settings).await;
    let url = bench.endpoints.norsk_gjeld.token_endpoint.clone();
    let basic = |pair: &str| {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        form_post().header("authorization", format!("Basic {encoded}"))
    };
    let form = "grant_type=client_credentials";
    let in_body = "grant_type=client_credentials&client_id=my-client&client_secret=x";
    let cases = [
        (basic("my-client:a%2Bb%3Ac+%25"), form, 200),
        (basic("my-client:wrong"), form, 401),
        (basic("other:a%2Bb%3Ac+%25"), form, 401),
        (form_post(), form, 401),
        (form_post(), in_body, 401),
    ];
    for (request, form, status) in cases {
        let reply = bench.send(None, &url, request, form).await.expect("answers");
        assert_eq!(reply.status, status, "{}", reply.text());
        let told = reply.text().contains("'client_secret_post' was requested");
        assert_eq!(told, form == in_body);
    }
}

#[tokio::test]
async fn discovery_names_no_refresh_token_grant() {
    let bench = Bench::new().await;
    let access = &bench.endpoints.norsk_gjeld.access;
    let url = format!("{access}/.well-known/openid-configuration");
    let found = bench.send(None, &url, Request::get("/"), "").await.expect("answers").json();
    assert_eq!(found["issuer"], json!(format!("{access}/")));
    assert_eq!(found["token_endpoint"], json!(bench.endpoints.norsk_gjeld.token_endpoint));
    assert_eq!(found["grant_types_supported"], json!(["authorization_code", "client_credentials"]));
}

#[tokio::test]
async fn a_lookup_shows_the_debt_of_the_synthetic_persons() {
    let bench = Bench::new().await;
    let token = debt_token(&bench).await;
    for (nin, loans) in [("14842249091", 1), ("29868099311", 2), ("01010112345", 0)] {
        let id = consent(&bench, json!({"nin": nin, "days": 30})).await;
        let path = format!("/v1/debt/{id}");
        for _ in 0..2 {
            let debt = bench.nogi_api("GET", &path, &token, &Value::Null).await.json();
            assert_eq!((&debt["ssn"], &debt["consent"]["id"]), (&json!(nin), &json!(id)));
            assert_eq!(debt["loans"].as_array().map(Vec::len), Some(loans));
            assert_eq!(debt["numberOfcreditorsMissing"], 0);
        }
    }
}

#[tokio::test]
async fn a_single_use_consent_is_used_up_by_a_lookup_or_by_ten_minutes() {
    let bench = Bench::new().await;
    let token = debt_token(&bench).await;
    let used = consent(&bench, Value::Null).await;
    let late = consent(&bench, Value::Null).await;
    let path = format!("/v1/debt/{used}");
    assert_eq!(bench.nogi_api("GET", &path, &token, &Value::Null).await.status, StatusCode::OK);
    let again = bench.nogi_api("GET", &path, &token, &Value::Null).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    assert_eq!(again.json()["error"], "invalid consent");
    bench.clock.advance(Duration::from_secs(600));
    let expired = bench.nogi_api("GET", &format!("/v1/debt/{late}"), &token, &Value::Null).await;
    let told = expired.json();
    assert_eq!(told["error_description"], "Consent expired at 2026-11-22T00:10:00Z");
    assert_eq!(told["trace_id"], "trace-1");
}

#[tokio::test]
async fn status_and_delete_tell_and_end_a_consent() {
    let bench = Bench::new().await;
    let token = debt_token(&bench).await;
    let id = consent(&bench, json!({"days": 1})).await;
    let path = format!("/v1/debt/{id}");
    let status = format!("{path}/status");
    let told = bench.nogi_api("GET", &status, &token, &Value::Null).await.json();
    let ends = super::TODAY.as_millis() / 1_000 + 86_400;
    assert_eq!(told, json!({"active": true, "expires_at": ends}));
    let gone = bench.nogi_api("DELETE", &path, &token, &Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (StatusCode::NO_CONTENT, 0));
    let told = bench.nogi_api("GET", &status, &token, &Value::Null).await.json();
    assert_eq!(told["active"], false);
    let again = bench.nogi_api("DELETE", &path, &token, &Value::Null).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let unknown = bench.nogi_api("GET", "/v1/debt/none/status", &token, &Value::Null).await.json();
    assert_eq!(unknown, json!({"active": false}));
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_a_403_in_the_services_words() {
    let bench = Bench::new().await;
    let id = consent(&bench, json!({"days": 1, "scope": "debt.unsecured.processing"})).await;
    let path = format!("/v1/debt/{id}");
    let wrong_scope = token(&bench, "/v1/debt", "debt.unsecured.presentation").await;
    let wrong_audience = token(&bench, "/v1/consent/agreement", BOTH).await;
    for token in [wrong_scope.as_str(), &wrong_audience, "unknown"] {
        let reply = bench.nogi_api("GET", &path, token, &Value::Null).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert_eq!(reply.json()["error"], "Invalid access token");
    }
    let good = debt_token(&bench).await;
    assert_eq!(bench.nogi_api("GET", &path, &good, &Value::Null).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(3_600));
    let expired = bench.nogi_api("GET", &path, &good, &Value::Null).await.json();
    assert_eq!(expired["error"], "invalid access token");
    assert_eq!(expired["error_description"], "Access token is expired");
    let fresh = debt_token(&bench).await;
    bench.control("POST", "/norsk-gjeld/expire-access-tokens", Value::Null).await;
    let expired = bench.nogi_api("GET", &path, &fresh, &Value::Null).await.json();
    assert_eq!(expired["error"], "invalid access token");
    let fresh = debt_token(&bench).await;
    let none = bench.nogi_api("GET", "/v1/debt/none", &fresh, &Value::Null).await.json();
    assert_eq!(none["error"], "no valid consent");
}

#[tokio::test]
async fn an_agreement_is_registered_once_and_conflicts_are_told() {
    let bench = Bench::new().await;
    let path = "/v1/consent/agreement";
    let token = token(&bench, path, "consent.create").await;
    let agreement = json!({
        "nin": "14842249091", "scope_of_consent": "debt.unsecured.processing",
        "consent_duration_days": "100", "client_consent_id": "mine-1",
    });
    let first = bench.nogi_api("PUT", path, &token, &agreement).await.json();
    assert_eq!(first["client_consent_id"], "mine-1");
    assert_eq!(first["consent"]["expires_at"], "2026-12-20T00:00:00Z", "cut to 28 days");
    let again = bench.nogi_api("PUT", path, &token, &agreement).await.json();
    assert_eq!(again["consent"]["id"], first["consent"]["id"]);

    let mut other = agreement.clone();
    other["nin"] = json!("29868099311");
    let conflict = bench.nogi_api("PUT", path, &token, &other).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    assert_eq!((&conflict.json()["status"], &conflict.json()["path"]), (&json!(409), &json!(path)));
    other["nin"] = json!("not a number");
    let bad = bench.nogi_api("PUT", path, &token, &other).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);

    let unknown = bench.nogi_api("PUT", path, "unknown", &agreement).await;
    assert_eq!((unknown.status, unknown.body.len()), (StatusCode::UNAUTHORIZED, 0));
    let foreign = debt_token(&bench).await;
    let refused = bench.nogi_api("PUT", path, &foreign, &agreement).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let id = first["consent"]["id"].as_str().expect("an id");
    let debt = bench.nogi_api("GET", &format!("/v1/debt/{id}"), &foreign, &Value::Null).await;
    assert_eq!(debt.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_token_is_unknown() {
    let bench = Bench::new().await;
    let token = debt_token(&bench).await;
    let url = format!("{}/oauth2/revoke", bench.endpoints.norsk_gjeld.access);
    let request = form_post().header("authorization", bench.basic());
    let revoked = bench.send(None, &url, request, format!("token={token}")).await;
    assert_eq!(revoked.expect("answers").status, StatusCode::OK);
    let reply = bench.nogi_api("GET", "/v1/debt/none", &token, &Value::Null).await.json();
    assert_eq!(reply["error"], "Invalid access token");
}
