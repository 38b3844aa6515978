//! F15 to F18: another Redis takes over, and what the first one acknowledged may be gone.
//!
//! A link leads to whichever server is the primary, as a virtual address or a proxy does; where a Sentinel chooses, the
//! rows are the same from there on.

use serde_json::json;

use crate::house::{
    ONE_REPLICA, REAUTHORIZE, SERVED, asked, at, calling, durable, failing, follower, record, told, until,
    until_followed, until_frozen, until_told,
};
use crate::support::bank::Bank;
use crate::support::link::{Flow, Link};
use crate::support::redis::RedisServer;

/// Makes a follower the primary, and leads there whatever led to the one before it.
fn promote(server: &RedisServer, links: &[&Link]) {
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    for link in links {
        link.lead_to(server.port());
        link.sever();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_failover_that_loses_a_lease_leads_to_one_request() {
    let (bank, mut first) = (Bank::start().await, durable().await);
    let replication = Link::to(first.port()).await;
    let second = follower(replication.port()).await;
    until_followed(&first, 1).await;
    let (to_holder, to_other) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (holder, other) = (
        failing(at(&bank, to_holder.port(), ONE_REPLICA), "after-begin=freeze"),
        at(&bank, to_other.port(), ONE_REPLICA),
    );
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = bank.grant(0).await;
    other.import("c-1", &granted).await;
    replication.set_both(Flow::Hold);
    let call = calling(&holder, "c-1");
    until_frozen(&holder).await;
    assert_eq!((record(&first, "c-1")["st"].as_str(), record(&second, "c-1")["st"].as_str()), ("leased", "active"));
    first.stop();
    promote(&second, &[&to_holder, &to_other]);
    let third = follower(second.port()).await;
    until_followed(&second, 1).await;
    until_told(&other, "c-1", SERVED).await;
    holder.program.signal("CONT");
    let _ = call.await.unwrap();
    until_told(&holder, "c-1", SERVED).await;
    assert_eq!(asked(&bank, &granted.bank_id).await, ["granted"]);
    assert_eq!(record(&second, "c-1")["gen"], "2");
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_failover_that_loses_a_commit_is_told_again_by_its_holder() {
    let (bank, mut first) = (Bank::start().await, durable().await);
    let replication = Link::to(first.port()).await;
    let second = follower(replication.port()).await;
    until_followed(&first, 1).await;
    let (to_holder, to_other) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (holder, other) = (at(&bank, to_holder.port(), ONE_REPLICA), at(&bank, to_other.port(), ONE_REPLICA));
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = bank.grant(0).await;
    other.import("c-1", &granted).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 1_000 })).await;
    let call = calling(&holder, "c-1");
    until("the bank has been asked", async || bank.refreshes().await == 1).await;
    replication.set_both(Flow::Hold);
    assert_eq!(call.await.unwrap().unwrap().status, 200, "it is on disk");
    until("the first server has the commit", async || record(&first, "c-1")["gen"] == "2").await;
    first.stop();
    promote(&second, &[&to_holder, &to_other]);
    assert_eq!(record(&second, "c-1")["gen"], "1", "the second one lacks it");
    let third = follower(second.port()).await;
    until("the second server is told", async || record(&second, "c-1")["gen"] == "2").await;
    until_told(&other, "c-1", SERVED).await;
    assert_eq!(asked(&bank, &granted.bank_id).await, ["granted"]);
    other.expire(&bank, "c-1", &granted).await;
    until_told(&other, "c-1", SERVED).await;
    assert_eq!(asked(&bank, &granted.bank_id).await, ["granted", "granted"], "it is the newest refresh token");
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_at_a_primary_that_was_cut_off_nothing_is_sent_and_its_replica_of_ours_finds_the_new_one() {
    let (bank, first) = (Bank::start().await, durable().await);
    let replication = Link::to(first.port()).await;
    let (second, third) = (follower(replication.port()).await, follower(replication.port()).await);
    until_followed(&first, 2).await;
    let (to_stale, to_other) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (stale, other) = (at(&bank, to_stale.port(), ONE_REPLICA), at(&bank, to_other.port(), ONE_REPLICA));
    let (stale, other) = tokio::join!(stale.start(), other.start());
    let granted = bank.grant(0).await;
    other.import("c-1", &granted).await;
    until("both followers have the consent", async || {
        [&second, &third].iter().all(|server| record(server, "c-1").contains_key("rt"))
    })
    .await;
    replication.set_both(Flow::Hold);
    promote(&second, &[&to_other]);
    third.cli(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    until_followed(&second, 1).await;
    for _ in 0..3 {
        assert_eq!(stale.balances("c-1").await.status, 503, "its primary has no follower");
    }
    assert!(asked(&bank, &granted.bank_id).await.is_empty());
    until_told(&other, "c-1", SERVED).await;
    // It heals: the first server follows the second, and keeps its connections.
    to_stale.lead_to(second.port());
    first.cli(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    until_told(&stale, "c-1", SERVED).await;
    assert_eq!(asked(&bank, &granted.bank_id).await, ["granted"]);
}

/// Where no acknowledgement is asked for, whoever remembers the commit tells the new primary.
#[tokio::test(flavor = "multi_thread")]
async fn f16_a_commit_that_a_failover_forgot_is_restored_from_a_process_that_remembers_it() {
    let (bank, mut first) = (Bank::start().await, durable().await);
    let replication = Link::to(first.port()).await;
    let second = follower(replication.port()).await;
    until_followed(&first, 1).await;
    let (to_holder, to_other) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (holder, other) = (at(&bank, to_holder.port(), ""), at(&bank, to_other.port(), ""));
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = bank.grant(0).await;
    other.import("c-1", &granted).await;
    until("the second server has the consent", async || record(&second, "c-1").contains_key("rt")).await;
    replication.set_both(Flow::Hold);
    until_told(&holder, "c-1", SERVED).await;
    until("the first server has the commit", async || record(&first, "c-1")["gen"] == "2").await;
    // Longer than its spill is kept: only memory is left.
    holder.until("its spill is gone", async || holder.spills().is_empty()).await;
    first.stop();
    promote(&second, &[&to_holder, &to_other]);
    assert_eq!(record(&second, "c-1")["gen"], "1");
    until("the second server is told", async || record(&second, "c-1")["gen"] == "2").await;
    until_told(&other, "c-1", SERVED).await;
    other.expire(&bank, "c-1", &granted).await;
    until("what was restored works", async || {
        assert_eq!(other.balances("c-1").await.status, 200);
        asked(&bank, &granted.bank_id).await == ["granted", "granted"]
    })
    .await;
}

/// Who is left that knows of an intent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Witness {
    Holder,
    Other,
    Nobody,
}

/// Two followers, of which the one is promoted that had not acknowledged the intent.
async fn mispromoted(witness: Witness) {
    let (bank, mut first) = (Bank::start().await, durable().await);
    let (kept_up, lagging) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (second, third) = (follower(kept_up.port()).await, follower(lagging.port()).await);
    until_followed(&first, 2).await;
    let (to_holder, to_other) = (Link::to(first.port()).await, Link::to(first.port()).await);
    let (holder, other) = (at(&bank, to_holder.port(), ONE_REPLICA), at(&bank, to_other.port(), ONE_REPLICA));
    let other = other.change("proxy: {listen", "proxy: {token_wait: 1s, listen");
    let (mut holder, other) = tokio::join!(holder.start(), other.start());
    let granted = bank.grant(0).await;
    other.import("c-1", &granted).await;
    until("both followers have the consent", async || {
        [&second, &third].iter().all(|server| record(server, "c-1").contains_key("rt"))
    })
    .await;
    lagging.set_both(Flow::Hold);
    bank.fault("abn-token", 1, json!({ "delay_ms": 9_000 })).await;
    let call = calling(&holder, "c-1");
    until("the bank has been asked", async || bank.refreshes().await == 1).await;
    if witness == Witness::Other {
        assert_eq!(told(&other.balances("c-1").await), (503, "token-wait-timeout".to_owned()));
    }
    if witness != Witness::Holder {
        holder.program.kill();
    }
    assert_eq!((record(&second, "c-1")["st"].as_str(), record(&third, "c-1")["st"].as_str()), ("armed", "active"));
    first.stop();
    promote(&third, &[&to_holder, &to_other]);
    second.cli(&["REPLICAOF", "127.0.0.1", &third.port().to_string()]);
    if witness == Witness::Holder {
        until_told(&other, "c-1", SERVED).await;
        let _ = call.await.unwrap();
        until_told(&holder, "c-1", SERVED).await;
        assert_eq!(asked(&bank, &granted.bank_id).await, ["granted"]);
    } else {
        until_told(&other, "c-1", REAUTHORIZE).await;
        assert_eq!(asked(&bank, &granted.bank_id).await, ["granted", "reuse"]);
        until("it is written down", async || record(&third, "c-1")["st"] == "reauthorization_required").await;
        let why = if witness == Witness::Other { "double_send" } else { "revoked_or_expired" };
        assert_eq!(record(&third, "c-1")["why"], why);
        assert!(other.program.output().contains("The bank no longer accepts the refresh token."));
        assert!(record(&third, "c-1").contains_key("rt"), "the refresh token is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_an_intent_that_the_new_primary_never_saw_is_told_again_by_its_holder_before_anybody_is_granted() {
    mispromoted(Witness::Holder).await;
}

/// The window that is left: the store lost what it had acknowledged, and the process that wrote it is dead.
#[tokio::test(flavor = "multi_thread")]
async fn f17_an_intent_that_only_another_process_saw_costs_its_consent_and_is_named() {
    mispromoted(Witness::Other).await;
}

/// Nothing that is left tells this from a consent that the bank ended while nobody was refreshing it.
#[tokio::test(flavor = "multi_thread")]
async fn f17_an_intent_that_neither_store_nor_process_remembers_costs_its_consent_and_is_reported() {
    mispromoted(Witness::Nobody).await;
}
