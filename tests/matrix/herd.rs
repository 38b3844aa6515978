//! F1 and F36: herds of callers, and storms of rejections.

use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::house::{SERVED, Scene, until_told};
use crate::support::client::App;
use crate::support::rogue::{Rogue, Then, answer};

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_thousand_calls_to_four_replicas_for_an_expired_token_cost_one_request() {
    let scene = Scene::set().await;
    let replicas = [scene.replica(), scene.replica(), scene.replica(), scene.replica()];
    let mut sidecars = Vec::new();
    for replica in &replicas {
        sidecars.push(replica.start().await);
    }
    let granted = scene.bank.grant(0).await;
    sidecars[0].import("c-1", &granted).await;
    let mut calls = JoinSet::new();
    let apps: Vec<App> = sidecars.iter().map(|sidecar| sidecar.app.clone()).collect();
    for n in 0..1_000 {
        let (app, url) = (apps[n % 4].clone(), sidecars[n % 4].balances_url());
        calls.spawn(async move { app.get(&url, &[("consent-id", "c-1")]).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_a_storm_of_rejections_costs_one_refresh_and_a_bank_that_always_rejects_costs_no_more() {
    let (scene, rogue) = (Scene::set().await, Rogue::start().await);
    // At the pace of production the second rejection is passed on for a minute.
    let replica = scene.replica().before_rogue(&scene.bank, &rogue);
    let mut replica = replica;
    replica.forget("CONSENTRY_TIME_SCALE");
    let sidecar = replica.start().await;
    let import = json!({
        "provider": "abn-amro", "access_token": "old-access", "refresh_token": "old-refresh",
        "expires_in": 3_600, "scope": "a b",
    });
    assert_eq!(sidecar.put_tokens("c-1", None, &import).await.status, 201);
    let no = r#"{"errors":[{"code":"ERR_2002_002","status":401}]}"#;
    for _ in 0..300 {
        rogue.next_api_answer((answer(401, no), Then::Hold));
    }
    let tokens = json!({ "access_token": "new-access", "refresh_token": "new-refresh", "expires_in": 3_600 });
    rogue.next_token_answer((answer(200, &tokens.to_string()), Then::Hold));
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        calls.spawn(async move { app.get(&url, &[("consent-id", "c-1")]).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::UNAUTHORIZED, "the bank's own answer, handed on");
    }
    for _ in 0..20 {
        assert_eq!(sidecar.balances("c-1").await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(rogue.token_requests().len(), 1, "one refresh for the first version, and none for the next");
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_a_storm_of_rejections_with_a_reason_costs_one_refresh_for_all_replicas() {
    let scene = Scene::set().await;
    let replicas = [scene.replica(), scene.replica()];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = scene.bank.grant(7_200).await;
    sidecars[0].import("c-1", &granted).await;
    for sidecar in &sidecars {
        until_told(sidecar, "c-1", SERVED).await;
    }
    scene.bank.control(Method::POST, "/abn-amro/expire-access-tokens", &serde_json::Value::Null).await;
    let mut calls = JoinSet::new();
    for n in 0..200 {
        let (app, url) = (sidecars[n % 2].app.clone(), sidecars[n % 2].balances_url());
        calls.spawn(async move { app.get(&url, &[("consent-id", "c-1")]).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}
