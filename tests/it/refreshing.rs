//! However many ask, however many replicas there are: one token request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::bank::Bank;
use crate::support::redis::RedisServer;
use crate::support::sidecar::{Replica, Sidecar};

/// Calls of it wait longer for their tokens: a bank is asked twenty times a second at most, and not at once by a machine
/// that has other work.
fn patient(replica: Replica) -> Replica {
    replica.change("proxy: {listen", "proxy: {token_wait: 50s, listen")
}

/// `calls` calls for these consents in turn, all let go at once and spread over the replicas; every one must be answered
/// 200 by the bank.
async fn burst(sidecars: &[&Sidecar], consents: &[String], calls: usize) {
    let start = Arc::new(Barrier::new(calls));
    let mut tasks = JoinSet::new();
    for n in 0..calls {
        let sidecar = sidecars[n % sidecars.len()];
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        let (consent, start) = (consents[n / sidecars.len() % consents.len()].clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let answer = app.get(&url, &[("consent-id", &consent)]).await;
            (answer.status, answer.problem())
        });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = tasks.join_next().await {
        *outcomes.entry(outcome.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(outcomes, BTreeMap::from([((StatusCode::OK, String::new()), calls)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_to_four_replicas_cost_one_token_request_fifty_times_over() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas: [Replica; 4] = std::array::from_fn(|_| Replica::with_redis(&bank, &redis));
    let mut sidecars = Vec::new();
    for replica in &replicas {
        sidecars.push(replica.start().await);
    }
    let all: Vec<&Sidecar> = sidecars.iter().collect();
    let granted = bank.grant(0).await;
    sidecars[0].import("c-1", &granted).await;
    for round in 1..=50 {
        if round > 1 {
            sidecars[round % 4].expire(&bank, "c-1", &granted).await;
        }
        burst(&all, &["c-1".to_owned()], 1_000).await;
        assert_eq!(bank.refreshes().await, u64::try_from(round).unwrap(), "in round {round}");
    }
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_expired_consents_at_once_cost_a_hundred_token_requests() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas: [Replica; 4] = std::array::from_fn(|_| patient(Replica::with_redis(&bank, &redis)));
    let mut sidecars = Vec::new();
    for replica in &replicas {
        sidecars.push(replica.start().await);
    }
    let mut consents = Vec::new();
    for n in 0..100 {
        let granted = bank.grant(0).await;
        let id = format!("c-{n}");
        sidecars[n % 4].import(&id, &granted).await;
        consents.push(id);
    }
    burst(&sidecars.iter().collect::<Vec<_>>(), &consents, 1_000).await;
    assert_eq!(bank.refreshes().await, 100);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_embedded_store_one_replica_does_the_same() {
    let bank = Bank::start().await;
    let replica = patient(Replica::embedded(&bank));
    let sidecar = replica.start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    for round in 1..=50 {
        if round > 1 {
            sidecar.expire(&bank, "c-1", &granted).await;
        }
        burst(&[&sidecar], &["c-1".to_owned()], 1_000).await;
        assert_eq!(bank.refreshes().await, round, "in round {round}");
    }
    let mut consents = Vec::new();
    for n in 0..100 {
        let id = format!("many-{n}");
        sidecar.import(&id, &bank.grant(0).await).await;
        consents.push(id);
    }
    burst(&[&sidecar], &consents, 1_000).await;
    assert_eq!(bank.refreshes().await, 50 + 100);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_by_itself_is_replaced_while_calls_go_on() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    bank.control(http::Method::PATCH, "/abn-amro/settings", &json!({ "access_token_life_s": 2 })).await;
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = bank.grant(2).await;
    sidecars[0].import("c-1", &granted).await;
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        for sidecar in &sidecars {
            let answer = sidecar.balances("c-1").await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    let refreshes = bank.refreshes().await;
    assert!((2..=12).contains(&refreshes), "a life of two seconds, seven seconds, two replicas: {refreshes}");
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_the_bank_no_longer_takes_is_refreshed_once_and_the_calls_are_sent_again() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = bank.grant(7_200).await;
    sidecars[0].import("c-1", &granted).await;
    burst(&[&sidecars[0], &sidecars[1]], &["c-1".to_owned()], 20).await;
    assert_eq!(bank.refreshes().await, 0);
    bank.control(http::Method::POST, "/abn-amro/expire-access-tokens", &json!(null)).await;
    burst(&[&sidecars[0], &sidecars[1]], &["c-1".to_owned()], 200).await;
    assert_eq!(bank.refreshes().await, 1);
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_refreshed_another_serves_without_asking_the_bank() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    bank.control(http::Method::PATCH, "/abn-amro/settings", &json!({ "old_access_token": "kill" })).await;
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = bank.grant(7_200).await;
    sidecars[0].import("c-1", &granted).await;
    assert_eq!(sidecars[1].balances("c-1").await.status, StatusCode::OK);
    sidecars[0].expire(&bank, "c-1", &granted).await;
    assert_eq!(sidecars[0].balances("c-1").await.status, StatusCode::OK);
    let calls = bank.count("abn", "api_calls").await;
    assert_eq!(sidecars[1].balances("c-1").await.status, StatusCode::OK);
    assert_eq!(bank.count("abn", "api_calls").await, calls + 1, "its first token was the new one");
    assert_eq!(bank.refreshes().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_tokens_are_fetched_once_for_all_replicas() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let person = json!({ "nin": "14842249091", "days": 30 });
    let debt = bank.control(http::Method::POST, "/norsk-gjeld/consents", &person).await;
    let path = format!("/debt/v1/debt/{}", debt["id"].as_str().unwrap());
    for _ in 0..5 {
        for sidecar in &sidecars {
            let answer = sidecar.app.get(&sidecar.url(&path), &[]).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            assert_eq!(answer.json()["ssn"], "14842249091");
        }
    }
    assert_eq!(bank.count("norsk_gjeld", "token_requests").await, 1);
    bank.control(http::Method::POST, "/norsk-gjeld/expire-access-tokens", &json!(null)).await;
    for sidecar in &sidecars {
        assert_eq!(sidecar.app.get(&sidecar.url(&path), &[]).await.status, StatusCode::OK);
    }
    assert_eq!(bank.count("norsk_gjeld", "token_requests").await, 2);
    let register = json!({
        "nin": "29868099311", "scope_of_consent": "debt.unsecured.presentation",
        "consent_duration_days": 30, "client_consent_id": "ours-1",
    });
    let url = sidecars[0].url("/debt/v1/consent/agreement");
    let answer = sidecars[0].app.json(http::Method::PUT, &url, &[], &register).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(bank.count("norsk_gjeld", "token_requests").await, 3, "another audience is another token");
    let id = answer.json()["consent"]["id"].as_str().unwrap().to_owned();
    let status = sidecars[1].app.get(&sidecars[1].url(&format!("/debt/v1/debt/{id}/status")), &[]).await;
    assert_eq!(status.json()["active"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_of_one_bank_never_works_at_the_other() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    let granted = bank.grant(7_200).await;
    sidecar.import("c-1", &granted).await;
    let person = json!({ "nin": "14842249091", "days": 30 });
    let debt = bank.control(http::Method::POST, "/norsk-gjeld/consents", &person).await;
    let answer = sidecar.balances(debt["id"].as_str().unwrap()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "consent-unknown"));
    let answer = sidecar.app.get(&sidecar.url("/debt/v1/debt/c-1"), &[]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "consent-unknown"));
    assert_eq!(bank.count("norsk_gjeld", "token_requests").await, 0, "no token was even asked for");
}
