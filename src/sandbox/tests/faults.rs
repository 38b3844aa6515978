//! Each fault, seen from outside, and what it leaves at the bank.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Bench;

/// Sets a fault at ABN AMRO's token endpoint that strikes once.
async fn once(bench: &Bench, fault: Value) {
    bench.fault(json!({"target": "abn-token", "times": 1, "fault": fault})).await;
}

#[tokio::test]
async fn dropped_before_processing_the_refresh_token_is_unspent() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"drop_before_processing": true})).await;
    assert!(bench.refresh(&refresh).await.is_err());
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::OK);
    assert_eq!(bench.reuse_events().await, 0);
}

#[tokio::test]
async fn dropped_after_processing_the_refresh_token_is_spent() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"drop_after_processing": true})).await;
    assert!(bench.refresh(&refresh).await.is_err());
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::BAD_REQUEST);
    assert_eq!(bench.reuse_events().await, 1);
}

#[tokio::test]
async fn a_status_may_hide_that_the_request_was_processed() {
    for (process, left) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let bench = Bench::new().await;
        let (_, _, refresh) = bench.consent().await;
        let status = json!({"code": 503, "retry_after": 7, "body": "{}", "process": process});
        once(&bench, json!({ "status": status })).await;
        let reply = bench.refresh(&refresh).await.expect("answers");
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((reply.header("retry-after"), reply.text().as_str()), ("7", "{}"));
        assert_eq!(bench.refresh(&refresh).await.expect("answers").status, left);
    }
}

#[tokio::test]
async fn answers_can_be_html_truncated_or_slow() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"html_200": true})).await;
    let reply = bench.refresh(&refresh).await.expect("answers");
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.header("content-type").starts_with("text/html"));

    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"truncate_at": 40})).await;
    let reply = bench.refresh(&refresh).await.expect("a head");
    assert_eq!((reply.status, reply.body.len(), reply.whole), (StatusCode::OK, 40, false));
    assert!(reply.header("content-length").parse::<usize>().expect("a length") > 100);

    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"slow_body_ms_per_chunk": 30})).await;
    let begun = Instant::now();
    let reply = bench.refresh(&refresh).await.expect("answers");
    assert!(reply.whole && !reply.tokens().0.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_delayed_answer_comes_after_processing() {
    let bench = Bench::new().await;
    let (id, _, refresh) = bench.consent().await;
    once(&bench, json!({"delay_ms": 60_000})).await;
    let path = format!("/abn-amro/consents/{id}");
    let waiting = bench.refresh(&refresh);
    let processed = async {
        while bench.control("GET", &path, Value::Null).await.json()["sequence"] != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answered = waiting => panic!("answered without delay: {answered:?}"),
        () = super::within(processed) => {}
    }
}

#[tokio::test]
async fn expires_in_can_lie_or_be_left_out() {
    let bench = Bench::new().await;
    for (told, seen) in [(json!("missing"), Value::Null), (json!("7200"), json!("7200")), (json!(0), json!(0))] {
        let (_, _, refresh) = bench.consent().await;
        once(&bench, json!({ "expires_in": told })).await;
        let reply = bench.refresh(&refresh).await.expect("answers").json();
        assert_eq!(reply["expires_in"], seen);
    }
}

#[tokio::test]
async fn a_refresh_token_left_out_or_repeated_stays_good() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    once(&bench, json!({"omit_refresh_token": true})).await;
    let reply = bench.refresh(&refresh).await.expect("answers");
    assert!(reply.json().get("refresh_token").is_none());
    once(&bench, json!({"same_refresh_token": true})).await;
    assert_eq!(bench.refresh(&refresh).await.expect("answers").tokens().0, refresh);
    let (next, _) = bench.refresh(&refresh).await.expect("answers").tokens();
    assert_ne!(next, refresh);
    assert_eq!(bench.reuse_events().await, 0);
}

#[tokio::test]
async fn a_fault_of_one_consent_leaves_the_others_alone() {
    let bench = Bench::new().await;
    let (id, access, refresh) = bench.consent().await;
    let (_, other_access, other) = bench.consent().await;
    for target in ["abn-token", "abn-api"] {
        let fault = json!({"status": {"code": 500}});
        bench.fault(json!({"target": target, "consent": id, "fault": fault})).await;
    }
    for _ in 0..2 {
        let failed = bench.refresh(&refresh).await.expect("answers");
        assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(bench.refresh(&other).await.expect("answers").status, StatusCode::OK);
    let failed = bench.abn_api("/v1/consentinfo", &access).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    let fine = bench.abn_api("/v1/consentinfo", &other_access).await;
    assert_eq!(fine.status, StatusCode::OK);
    assert_eq!(bench.control("GET", "/faults", Value::Null).await.json()[0]["consent"], json!(id));
    bench.control("DELETE", "/faults", Value::Null).await;
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::OK);
}

#[tokio::test]
async fn norsk_gjelds_endpoints_fail_on_command_too() {
    let bench = Bench::new().await;
    for target in ["nogi-token", "nogi-api"] {
        let fault = json!({"status": {"code": 502, "body": "<html>"}});
        bench.fault(json!({"target": target, "times": 1, "fault": fault})).await;
    }
    let failed = bench.nogi_token("grant_type=client_credentials").await.expect("answers");
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    let failed = bench.nogi_api("GET", "/v1/debt/x", "t", &Value::Null).await;
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    bench.fault(json!({"target": "nogi-token", "fault": {"drop_after_processing": true}})).await;
    assert!(bench.nogi_token("grant_type=client_credentials").await.is_err());
}
