//! The quota of a consent through the real binary: replicas count together, and what was counted outlives a replica that is
//! killed and a store that is started again.

use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::bank::{Bank, IBAN};
use crate::support::client::{Answer, request};
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::sidecar::{Replica, Sidecar};

const PSU: (&str, &str) = ("psu-ip-address", "192.0.2.1");

/// A route with a quota of four.
fn under_quota(replica: Replica) -> Replica {
    let route = r#"{match: "/v1/**", token: consent}"#;
    replica.change(route, r#"{match: "/v1/**", token: consent, quota: {calls: 4}}"#)
}

/// A Redis that syncs every write.
async fn durable_redis() -> RedisServer {
    RedisServer::start_with(RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")).await
}

/// The status, and how many more calls there is room for.
fn left(answer: &Answer) -> (u16, Option<&str>) {
    let remaining = answer.headers.get("consentry-quota-remaining");
    (answer.status.as_u16(), remaining.map(|remaining| remaining.to_str().unwrap()))
}

async fn attended(sidecar: &Sidecar, consent: &str) -> Answer {
    sidecar.app.get(&sidecar.balances_url(), &[("consent-id", consent), PSU]).await
}

/// The answer to the first call that is counted again, or refused.
async fn first_counted(sidecar: &Sidecar) -> Answer {
    let counted = Mutex::new(None);
    let is_counted = async || {
        let answer = sidecar.balances("c-1").await;
        let is_counted = left(&answer) != (200, None);
        if is_counted {
            *counted.lock().unwrap() = Some(answer);
        }
        is_counted
    };
    sidecar.until("it counts again", is_counted).await;
    counted.into_inner().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_together_and_a_kill_and_a_restarted_redis_neither_lose_nor_double_a_call() {
    let (bank, mut redis) = (Bank::start().await, durable_redis().await);
    let (first, second) =
        (under_quota(Replica::with_redis(&bank, &redis)), under_quota(Replica::with_redis(&bank, &redis)));
    let (mut one, other) = (first.start().await, second.start().await);
    one.import("c-1", &bank.grant(7_200).await).await;
    assert_eq!(left(&one.balances("c-1").await), (200, Some("3")));
    assert_eq!(left(&other.balances("c-1").await), (200, Some("2")));

    // Killed while the bank has the call: it counts, and its app is not told.
    bank.fault("abn-api", 1, json!({ "delay_ms": 3_000 })).await;
    let calls = bank.count("abn", "api_calls").await;
    let calling = tokio::spawn({
        let (app, url) = (one.app.clone(), one.balances_url());
        async move {
            let call = request(Method::GET, &url, &[("consent-id", "c-1")], Bytes::new());
            app.try_send(call).await.is_ok()
        }
    });
    other.until("the bank has the call", async || bank.count("abn", "api_calls").await == calls + 1).await;
    one.program.kill();
    assert!(!calling.await.unwrap(), "nobody answers");

    redis.stop();
    redis.start_again().await;
    other.until_linked().await;
    assert_eq!(left(&first_counted(&other).await), (200, Some("0")), "three were counted");
    let one = first.start().await;
    for sidecar in [&one, &other] {
        let refused = sidecar.balances("c-1").await;
        assert_eq!((left(&refused), refused.problem().as_str()), ((429, Some("0")), "quota-exhausted"), "{refused:?}");
        let after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(after > 86_000 && after <= 86_400, "{after}");
        assert_eq!(left(&attended(sidecar, "c-1").await), (200, None), "with its customer it is served");
    }
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_to_two_replicas_at_once_as_many_reach_the_bank_as_may() {
    let (bank, redis) = (Bank::start().await, durable_redis().await);
    let (first, second) =
        (under_quota(Replica::with_redis(&bank, &redis)), under_quota(Replica::with_redis(&bank, &redis)));
    let (one, other) = (first.start().await, second.start().await);
    one.import("c-1", &bank.grant(7_200).await).await;
    let before = bank.count("abn", "api_calls").await;
    let mut calling = JoinSet::new();
    for nth in 0..40 {
        let sidecar = if nth % 2 == 0 { &one } else { &other };
        let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
        calling.spawn(async move { app.get(&url, &[("consent-id", "c-1")]).await.status });
    }
    let statuses = calling.join_all().await;
    let of = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((of(StatusCode::OK), of(StatusCode::TOO_MANY_REQUESTS)), (4, 36), "{statuses:?}");
    assert_eq!(bank.count("abn", "api_calls").await, before + 4);
    let metrics = one.metrics().await + &other.metrics().await;
    let counted: u64 = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(r#"consentry_quota_calls_total{api="accounts",outcome="counted"} "#))
        .map(|count| count.parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_calls_are_served_uncounted_and_counted_again_when_it_is_back() {
    let (bank, mut redis) = (Bank::start().await, durable_redis().await);
    let replica = under_quota(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    assert_eq!(left(&sidecar.balances("c-1").await), (200, Some("3")));
    redis.stop();
    for _ in 0..8 {
        assert_eq!(left(&sidecar.balances("c-1").await), (200, None));
    }
    redis.start_again().await;
    assert_eq!(left(&first_counted(&sidecar).await), (200, Some("2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_in_a_file_outlives_a_kill() {
    let bank = Bank::start().await;
    let replica = under_quota(Replica::embedded(&bank));
    let mut sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    for remaining in ["3", "2", "1"] {
        assert_eq!(left(&sidecar.balances("c-1").await), (200, Some(remaining)));
    }
    sidecar.program.kill();
    let sidecar = replica.start().await;
    assert_eq!(left(&sidecar.balances("c-1").await), (200, Some("0")));
    assert_eq!(left(&sidecar.balances("c-1").await), (429, Some("0")));
    let details = sidecar.url(&format!("/accounts/v1/accounts/{IBAN}/details"));
    assert_eq!(left(&sidecar.app.get(&details, &[("consent-id", "c-1")]).await), (200, Some("3")), "another path");
}
