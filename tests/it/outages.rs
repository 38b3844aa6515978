//! A store that is away, an app that hangs up, a process that is killed: nothing is lost, and it heals by itself.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::bank::{Bank, IBAN};
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::sidecar::Replica;

/// A Redis that keeps what it acknowledged.
async fn durable_redis() -> RedisServer {
    RedisServer::start_with(RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_hangs_up_does_not_stop_the_refresh() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 800 })).await;
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    let mut app = TcpStream::connect(&address).await.unwrap();
    let head =
        format!("GET /accounts/v1/accounts/{IBAN}/balances HTTP/1.1\r\nHost: {address}\r\nConsent-ID: c-1\r\n\r\n");
    app.write_all(head.as_bytes()).await.unwrap();
    sidecar.until("the token request has arrived", async || bank.count("abn", "token_requests").await == 1).await;
    drop(app);
    sidecar.until("the refresh is committed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    let answer = sidecar.balances("c-1").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(bank.refreshes().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_valid_tokens_are_served_and_expired_ones_cost_no_request() {
    let bank = Bank::start().await;
    let mut redis = durable_redis().await;
    let replica = Replica::with_redis(&bank, &redis);
    let sidecar = replica.start().await;
    sidecar.import("valid", &bank.grant(7_200).await).await;
    sidecar.import("expired", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("valid").await.status, StatusCode::OK);

    redis.stop();
    for _ in 0..20 {
        let answer = sidecar.balances("valid").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = sidecar.balances("expired").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"),
            "{answer:?}"
        );
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(bank.count("abn", "token_requests").await, 0);

    redis.start_again().await;
    sidecar.until("it has healed", async || sidecar.balances("expired").await.status == StatusCode::OK).await;
    sidecar.until_linked().await;
    assert_eq!(sidecar.balances("valid").await.status, StatusCode::OK);
    assert_eq!(bank.refreshes().await, 1);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_came_while_the_store_was_away_is_used_and_committed_later() {
    let bank = Bank::start().await;
    let mut redis = durable_redis().await;
    let replica = Replica::with_redis(&bank, &redis);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 1_000 })).await;
    let call = tokio::spawn({
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        async move { app.get(&url, &[("consent-id", "c-1")]).await }
    });
    sidecar.until("the token request has arrived", async || bank.count("abn", "token_requests").await == 1).await;
    redis.stop();
    let answer = call.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "the spill is enough to go on: {answer:?}");
    assert_eq!(sidecar.spills().len(), 1);
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    redis.start_again().await;
    sidecar
        .until("it is committed", async || {
            let url = sidecar.admin_url("/v1/consents/c-1");
            let answer = sidecar.app.get(&url, &[]).await;
            answer.status == StatusCode::OK && answer.json()["generation"] == 2
        })
        .await;
    assert_eq!(bank.refreshes().await, 1);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_spill_and_commit_it_commits_at_the_next_start_and_the_bank_sees_nothing() {
    let bank = Bank::start().await;
    let redis = durable_redis().await;
    let mut replica = Replica::with_redis(&bank, &redis).environment("CONSENTRY_FAILPOINTS", "before-commit");
    let mut sidecar = replica.start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    let answer = sidecar.balances("c-1").await;
    assert_eq!(answer.status, StatusCode::OK, "served from what is spilled: {answer:?}");
    assert_eq!(sidecar.spills().len(), 1);
    assert_eq!(sidecar.consent("c-1").await["generation"], 1, "the store has not heard of it");
    sidecar.program.kill();

    replica.forget_environment();
    let sidecar = replica.start().await;
    sidecar.until("the spill is replayed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    assert_eq!(bank.count("abn", "token_requests").await, 1);
    assert_eq!(bank.reuse_events().await, 0);
    sidecar.expire(&bank, "c-1", &granted).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK, "the refresh token is the newest");
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_store_away_serves_what_was_spilled_and_never_refreshes_it() {
    let bank = Bank::start().await;
    let mut redis = durable_redis().await;
    let mut replica = Replica::with_redis(&bank, &redis).environment("CONSENTRY_FAILPOINTS", "before-commit");
    let mut sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    sidecar.program.kill();
    redis.stop();

    replica.forget_environment();
    let sidecar = replica.start_unlinked().await;
    sidecar.until("the listeners are open", async || sidecar.balances("c-1").await.status == StatusCode::OK).await;
    assert_eq!(sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    redis.start_again().await;
    sidecar.until_linked().await;
    sidecar.until("the spill is replayed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    let ready = async || sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await.status == StatusCode::OK;
    sidecar.until("it is ready", ready).await;
    assert_eq!(bank.count("abn", "token_requests").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_sigterm_a_refresh_under_way_finishes_and_its_caller_is_answered() {
    let bank = Bank::start().await;
    let redis = durable_redis().await;
    let replica = Replica::with_redis(&bank, &redis);
    let mut sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 700 })).await;
    let call = tokio::spawn({
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        async move { app.get(&url, &[("consent-id", "c-1")]).await }
    });
    sidecar.until("the token request has arrived", async || bank.count("abn", "token_requests").await == 1).await;
    sidecar.program.signal("TERM");
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert!(sidecar.program.ended().await.success());
    let sidecar = replica.start().await;
    assert_eq!(sidecar.consent("c-1").await["generation"], 2);
    assert_eq!(bank.refreshes().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_on_the_wire_makes_the_consent_uncertain_and_nobody_sends_again() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({ "drop_after_processing": true })).await;
    for _ in 0..5 {
        let answer = sidecar.balances("c-1").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "token-refresh-uncertain"),
            "{answer:?}"
        );
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(sidecar.consent("c-1").await["state"], "uncertain");
    assert_eq!(bank.count("abn", "token_requests").await, 1);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_is_slow_is_not_hung_up_on() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank).change("proxy: {listen", "proxy: {token_wait: 500ms, listen");
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    // Longer than a lease lasts without renewal.
    bank.fault("abn-token", 1, json!({ "delay_ms": 8_000 })).await;
    let answer = sidecar.balances("c-1").await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "token-wait-timeout"));
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    sidecar.until("the refresh is committed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    assert_eq!(bank.count("abn", "token_requests").await, 1);
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
}
