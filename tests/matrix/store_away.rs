//! F9 to F14: the store's answers get lost, it goes away, it is full, or its replica is.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::house::{
    NO_STORE, ONE_REPLICA, SERVED, Scene, asked, at, calling, digest, durable, follower, record, story, told, until,
    until_followed, until_told,
};
use crate::support::bank::Bank;
use crate::support::link::{Flow, Link, Toward, Trap};

#[tokio::test(flavor = "multi_thread")]
async fn f09_a_step_whose_request_or_reply_is_lost_is_repeated_and_happens_once() {
    let scene = Scene::set().await;
    let link = Link::to(scene.redis.port()).await;
    let replica = at(&scene.bank, link.port(), "");
    let sidecar = replica.start().await;
    // The first refresh makes the scripts known; from then on what is lost is the step's own.
    sidecar.import("c-0", &scene.bank.grant(0).await).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 900 })).await;
    assert_eq!(told(&sidecar.balances("c-0").await), (200, String::new()));
    let mut n = 0;
    for step in ["begin", "arm", "renew", "commit"] {
        for trap in [Trap::CutRequest, Trap::CutReply] {
            n += 1;
            let (consent, row) = (format!("c-{n}"), format!("{step}, {trap:?}"));
            let granted = scene.bank.grant(0).await;
            sidecar.import(&consent, &granted).await;
            // Long enough for a renewal, where that is what is lost.
            let delay = if step == "renew" { 900 } else { 0 };
            scene.bank.fault("abn-token", 1, json!({ "delay_ms": delay })).await;
            link.trap(&digest(step), trap, 1);
            assert_eq!(told(&sidecar.balances(&consent).await), (200, String::new()), "{row}");
            sidecar.until(&row, async || scene.record(&consent)["gen"] == "2").await;
            assert_eq!(link.traps_left(), 0, "{row}: it was lost");
            let stored = scene.record(&consent);
            assert_eq!(
                (stored["st"].as_str(), stored.get("it_n").map_or("0", String::as_str)),
                ("active", "0"),
                "{row}"
            );
            assert_eq!(scene.asked(&granted.bank_id).await, ["granted"], "{row}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_with_the_store_down_valid_tokens_are_served_and_expired_ones_cost_no_request() {
    let mut scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    sidecar.import("valid", &scene.bank.grant(7_200).await).await;
    sidecar.import("expired", &scene.bank.grant(0).await).await;
    assert_eq!(sidecar.balances("valid").await.status, 200);
    scene.redis.stop();
    for _ in 0..20 {
        assert_eq!(told(&sidecar.balances("valid").await), (200, String::new()));
        let answer = sidecar.balances("expired").await;
        assert_eq!(story(&[NO_STORE]), [told(&answer)]);
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(scene.bank.count("abn", "token_requests").await, 0);
    scene.redis.start_again().await;
    until_told(&sidecar, "expired", SERVED).await;
    assert_eq!(scene.bank.count("abn", "token_requests").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_store_that_dies_between_the_intent_and_its_acknowledgement_keeps_the_request_from_being_sent() {
    let (bank, mut primary) = (Bank::start().await, durable().await);
    let second = follower(primary.port()).await;
    until_followed(&primary, 1).await;
    let link = Link::to(primary.port()).await;
    let replica = at(&bank, link.port(), ONE_REPLICA);
    let sidecar = replica.start().await;
    for consent in ["warm", "c-1"] {
        sidecar.import(consent, &bank.grant(0).await).await;
    }
    until_told(&sidecar, "warm", SERVED).await;
    link.trap(&digest("arm"), Trap::Mute, 1);
    let call = calling(&sidecar, "c-1");
    until("the intent has been written", async || record(&primary, "c-1")["st"] == "armed").await;
    primary.stop();
    assert_eq!(story(&[NO_STORE]), [told(&call.await.unwrap().unwrap())]);
    assert_eq!(bank.count("abn", "token_requests").await, 1, "that of the other consent");
    link.set(Toward::Server, Flow::Hold);
    link.sever();
    primary.start_again().await;
    until_followed(&primary, 1).await;
    assert_eq!(record(&primary, "c-1")["it_n"], "1", "the store remembers the intent");
    link.set(Toward::Server, Flow::Pass);
    until("the holder says that nothing was sent", async || record(&primary, "c-1")["st"] == "active").await;
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (2, 0));
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_with_the_store_down_after_the_answer_its_holder_serves_it_and_commits_it_when_the_store_is_back() {
    let mut scene = Scene::set().await;
    let (holder, other) = (scene.replica(), scene.replica());
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = scene.bank.grant(0).await;
    holder.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 700 })).await;
    let call = calling(&holder, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    scene.redis.stop();
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    assert_eq!(holder.spills().len(), 1);
    // Longer than armed lease and quarantine together.
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        assert_eq!(told(&holder.balances("c-1").await), (200, String::new()));
        assert_eq!(story(&[NO_STORE]), [told(&other.balances("c-1").await)]);
        sleep(Duration::from_millis(300)).await;
    }
    scene.redis.start_again().await;
    holder.until_within(30, "it is committed", async || scene.record("c-1")["gen"] == "2").await;
    until_told(&other, "c-1", SERVED).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    holder.until_within(30, "the spill is removed", async || holder.spills().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_store_without_memory_takes_the_commit_all_the_same() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 1_000 })).await;
    let call = calling(&sidecar, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    scene.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(scene.redis.cli(&["SET", "another", "value"]).contains("OOM"), "a plain write is refused");
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_while_no_replica_acknowledges_nothing_is_sent_and_valid_tokens_are_served() {
    let (bank, primary) = (Bank::start().await, durable().await);
    let replication = Link::to(primary.port()).await;
    let second = follower(replication.port()).await;
    until_followed(&primary, 1).await;
    let replica = at(&bank, primary.port(), ONE_REPLICA);
    let mut sidecar = replica.start().await;
    let (valid, expired) = (bank.grant(7_200).await, bank.grant(0).await);
    sidecar.import("valid", &valid).await;
    sidecar.import("expired", &expired).await;
    replication.set_both(Flow::Hold);
    for _ in 0..3 {
        assert_eq!(told(&sidecar.balances("valid").await), (200, String::new()));
        assert_eq!(sidecar.balances("expired").await.status, 503);
    }
    sidecar.program.logged("Too few replicas hold the intent: nothing is sent.").await;
    assert_eq!(record(&primary, "expired")["why"], "not_durable");
    assert_eq!(bank.count("abn", "token_requests").await, 0);
    replication.set_both(Flow::Pass);
    until_told(&sidecar, "expired", SERVED).await;
    assert_eq!(asked(&bank, &expired.bank_id).await, ["granted"]);
    assert!(replication.passed(Toward::Client) > 0);
    drop(second);
}
