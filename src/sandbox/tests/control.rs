//! The control API: what it sets, what it counts, what it refuses.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::Bench;

#[tokio::test]
async fn counters_and_log_tell_every_token_request_and_no_token() {
    let bench = Bench::new().await;
    let (id, access, first) = bench.consent().await;
    let (second, _) = bench.refresh(&first).await.expect("answers").tokens();
    bench.refresh(&first).await.expect("answers");
    bench.abn_api("/v1/consentinfo", &access).await;
    let counters = bench.control("GET", "/counters", Value::Null).await.json();
    let wanted = json!({
        "token_requests": 2, "in_flight": 0, "most_in_flight": 1, "refreshes": 1, "grace_uses": 0, "reuse_events": 1,
        "authorize_requests": 0, "codes_issued": 0, "code_exchanges": 0, "code_reuses": 0,
        "client_credentials": 0, "api_calls": 1, "revocations": 0, "consents_dead": 1,
    });
    assert_eq!(counters["abn"], wanted);
    let log = bench.control("GET", "/log", Value::Null).await;
    let entries = log.json();
    let outcomes: Vec<_> = entries
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            assert_eq!((&entry["consent"], &entry["sequence"]), (&json!(id), &json!(1)));
            (entry["outcome"].clone(), entry["status"].clone())
        })
        .collect();
    assert_eq!(outcomes, [(json!("granted"), json!(200)), (json!("reuse"), json!(400))]);
    assert!(!log.text().contains(&first) && !log.text().contains(&second));
    bench.control("POST", "/reset-counters", Value::Null).await;
    assert_eq!(bench.reuse_events().await, 0);
    assert_eq!(bench.control("GET", "/log", Value::Null).await.json(), json!([]));
}

#[tokio::test]
async fn settings_change_while_it_runs() {
    let bench = Bench::new().await;
    let patch = json!({"grace_s": 60, "old_access_token": "kill", "access_token_life_s": 5});
    let changed = bench.control("PATCH", "/abn-amro/settings", patch).await;
    assert_eq!((changed.status, &changed.json()["rotation"]), (StatusCode::OK, &json!(true)));
    let (_, access, first) = bench.consent().await;
    let reply = bench.refresh(&first).await.expect("answers").json();
    assert_eq!(reply["expires_in"], 5);
    let dead = bench.abn_api("/v1/consentinfo", &access).await;
    assert_eq!(dead.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.refresh(&first).await.expect("in its grace").status, StatusCode::OK);
    assert_eq!(bench.reuse_events().await, 0);
    let bad = bench.control("PATCH", "/abn-amro/settings", json!({"grace": 1})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let kept = bench.control("GET", "/abn-amro/settings", Value::Null).await.json();
    assert_eq!(kept["grace_s"], 60);
}

#[tokio::test]
async fn access_tokens_expire_and_consents_are_revoked_on_command() {
    let bench = Bench::new().await;
    let (id, access, refresh) = bench.consent().await;
    let (_, other, _) = bench.consent().await;
    let path = format!("/abn-amro/consents/{id}");
    bench.control("POST", &format!("{path}/expire-access-tokens"), Value::Null).await;
    let status = |reply: super::Reply| reply.status.as_u16();
    assert_eq!(status(bench.abn_api("/v1/consentinfo", &access).await), 401);
    assert_eq!(status(bench.abn_api("/v1/consentinfo", &other).await), 200);
    bench.control("POST", "/abn-amro/expire-access-tokens", Value::Null).await;
    assert_eq!(status(bench.abn_api("/v1/consentinfo", &other).await), 401);
    let (refresh, access) = bench.refresh(&refresh).await.expect("answers").tokens();
    bench.control("POST", &format!("{path}/revoke"), Value::Null).await;
    assert_eq!(status(bench.abn_api("/v1/consentinfo", &access).await), 401);
    assert_eq!(status(bench.refresh(&refresh).await.expect("answers")), 400);
    let view = bench.control("GET", &path, Value::Null).await.json();
    assert_eq!((&view["state"], &view["reuse_events"]), (&json!("revoked"), &json!(0)));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_reason() {
    let bench = Bench::with(SandboxSettings { max_consents: 1, ..SandboxSettings::default() }).await;
    let mixed = json!({"scope": "psd2:account:details:read psd2:payment:sepa:write"});
    let cases = [
        ("POST", "/abn-amro/consents", mixed, 400),
        ("POST", "/abn-amro/consents", json!({"ibann": "x"}), 400),
        ("POST", "/abn-amro/consents", json!({"iban": "NL1"}), 201),
        ("POST", "/abn-amro/consents", Value::Null, 507),
        ("GET", "/abn-amro/consents/none", Value::Null, 404),
        ("POST", "/abn-amro/consents/none/revoke", Value::Null, 404),
        ("POST", "/norsk-gjeld/consents", json!({"scope": "x"}), 400),
        ("POST", "/faults", json!({"target": "abn-token", "fault": {"delay": 1}}), 400),
        ("POST", "/faults", json!(["abn-token"]), 400),
        ("PATCH", "/abn-amro/settings", json!([]), 400),
        ("GET", "/nothing", Value::Null, 404),
    ];
    for (method, path, body, status) in cases {
        let shown = body.to_string();
        let reply = bench.control(method, path, body).await;
        assert_eq!(reply.status, status, "{method} {path} {shown}: {}", reply.text());
    }
}

#[tokio::test]
async fn hundreds_of_refreshes_at_once_are_each_answered() {
    let bench = std::sync::Arc::new(Bench::new().await);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let bench = std::sync::Arc::clone(&bench);
        running.spawn(async move {
            let (_, _, refresh) = bench.consent().await;
            bench.refresh(&refresh).await.expect("answers").status
        });
    }
    while let Some(status) = running.join_next().await {
        assert_eq!(status.expect("ran"), StatusCode::OK);
    }
    let counters = bench.control("GET", "/counters", Value::Null).await.json();
    assert_eq!((&counters["abn"]["refreshes"], bench.reuse_events().await), (&json!(200), 0));
}
