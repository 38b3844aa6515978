//! A SIGTERM in the middle of everything: what has begun is answered, in full.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::bank::Bank;
use crate::support::client::request;
use crate::support::sidecar::Replica;

/// More than the system keeps of an answer that is not taken.
const LARGE: u64 = 64 * 1024 * 1024;
/// How long the process would wait for what does not end.
const GRACE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn at_a_sigterm_under_load_every_call_that_reached_the_bank_is_answered() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let mut sidecar = replica.start().await;
    sidecar.import("busy", &bank.grant(7_200).await).await;
    let late = bank.grant(7_200).await;
    sidecar.import("late", &late).await;
    sidecar.expire(&bank, "late", &late).await;

    // A large answer that is taken only in the end.
    let client = Client::builder(TokioExecutor::new()).build_http();
    let down = Request::get(sidecar.url(&format!("/accounts/v1/bytes?n={LARGE}"))).header("consent-id", "busy");
    let large = client.request(down.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(large.status(), StatusCode::OK);

    // A refresh that takes a while.
    bank.fault("abn-token", 1, json!({ "delay_ms": 1_500 })).await;
    let before = bank.count("abn", "token_requests").await;
    let waiting = tokio::spawn({
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        async move { app.get(&url, &[("consent-id", "late")]).await }
    });
    sidecar.until("the token request has arrived", async || bank.count("abn", "token_requests").await > before).await;

    // Callers on kept connections, each until it finds nobody there any more.
    let mut calling = JoinSet::new();
    for _ in 0..8 {
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        calling.spawn(async move {
            let mut answered = 0;
            loop {
                let call = request(http::Method::GET, &url, &[("consent-id", "busy")], Bytes::new());
                let Ok(answer) = app.try_send(call).await else { return answered };
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                answered += 1;
            }
        });
    }
    sidecar.until("the callers are at it", async || bank.count("abn", "api_calls").await > 50).await;
    let told = Instant::now();
    sidecar.program.signal("TERM");

    let answered: u64 = calling.join_all().await.into_iter().sum();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    let taken = large.into_body().collect().await.expect("to its end").to_bytes();
    assert_eq!(taken.len() as u64, LARGE);
    assert!(sidecar.program.ended().await.success());
    assert!(told.elapsed() < GRACE, "new callers are sent away, and so nobody waits in vain until the grace is over");
    assert_eq!(bank.count("abn", "api_calls").await, answered + 2, "with the large one and the one that waited");
    assert_eq!(bank.reuse_events().await, 0);
}
