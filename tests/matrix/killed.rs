//! F2 to F8: the holder is killed as `kill -9` does, between any two lasting steps of a refresh.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::house::{
    FAILPOINTS, REAUTHORIZE, SERVED, Scene, UNCERTAIN, calling, failing, lost, story, tolerant, until_frozen,
    until_killed, until_told,
};
use crate::support::link::{Flow, Link, Toward};

#[tokio::test(flavor = "multi_thread")]
async fn f02_killed_after_the_lease_was_granted_the_next_one_refreshes_when_it_has_run_out() {
    let scene = Scene::set().await;
    let (doomed, other) = (failing(scene.replica(), "after-begin=kill"), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    let call = calling(&doomed, "c-1");
    until_killed(&mut doomed).await;
    assert!(call.await.unwrap().is_err(), "its app's connection breaks");
    assert_eq!(scene.record("c-1")["st"], "leased");
    assert_eq!(until_told(&other, "c-1", SERVED).await, story(&[SERVED]), "it only waits");
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f03_killed_between_the_intent_and_the_request_one_probe_finds_the_token_unspent() {
    let scene = Scene::set().await;
    let (doomed, other) = (failing(scene.replica(), "after-arm=kill"), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    let call = calling(&doomed, "c-1");
    until_killed(&mut doomed).await;
    assert!(call.await.unwrap().is_err());
    let stored = scene.record("c-1");
    assert_eq!((stored["st"].as_str(), stored["it_n"].as_str()), ("armed", "1"));
    assert!(scene.asked(&granted.bank_id).await.is_empty());
    assert_eq!(until_told(&other, "c-1", SERVED).await, story(&[UNCERTAIN, SERVED]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    other.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    assert_eq!(lost(&other, "lost_reply").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f03_killed_before_the_intent_nothing_is_uncertain() {
    let scene = Scene::set().await;
    let (doomed, other) = (failing(scene.replica(), "after-connect=kill"), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    drop(calling(&doomed, "c-1"));
    until_killed(&mut doomed).await;
    assert_eq!(until_told(&other, "c-1", SERVED).await, story(&[SERVED]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_killed_after_the_request_left_and_before_the_bank_read_it_one_probe_finds_the_token_unspent() {
    let scene = Scene::set().await;
    let endpoint = scene.bank.endpoints["abn_amro"]["token_endpoint"].as_str().unwrap().to_owned();
    let port = http::Uri::try_from(&endpoint).unwrap().port_u16().unwrap();
    let link = Link::to(port).await;
    let through = endpoint.replace(&format!(":{port}/"), &format!(":{}/", link.port()));
    let (doomed, other) = (failing(scene.replica(), "after-arm=freeze").change(&endpoint, &through), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    drop(calling(&doomed, "c-1"));
    // It is connected, and about to write.
    until_frozen(&doomed).await;
    link.set(Toward::Server, Flow::Swallow);
    doomed.program.signal("CONT");
    doomed.until("the request has left", async || link.swallowed(Toward::Server) > 100).await;
    doomed.program.kill();
    assert!(scene.asked(&granted.bank_id).await.is_empty(), "the bank has not seen it");
    assert_eq!(until_told(&other, "c-1", SERVED).await, story(&[UNCERTAIN, SERVED]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    assert_eq!(lost(&other, "lost_reply").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f05_killed_while_the_answer_was_on_its_way_the_old_token_serves_and_one_probe_names_the_loss() {
    let scene = Scene::set().await;
    let (doomed, other) = (scene.replica(), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    // A life of twelve seconds: its last four are the soft window.
    let granted = scene.bank.grant(12).await;
    other.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 60_000 })).await;
    doomed
        .until_within(30, "it refreshes behind its caller's back", async || {
            assert_eq!(doomed.balances("c-1").await.status, 200);
            scene.bank.refreshes().await == 1
        })
        .await;
    doomed.program.kill();
    let told = until_told(&other, "c-1", REAUTHORIZE).await;
    assert_eq!(told, story(&[SERVED, UNCERTAIN, REAUTHORIZE]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "reuse"], "one probe, and no more");
    assert_eq!(lost(&other, "lost_reply").await, 1, "it is named");
    let stored = scene.record("c-1");
    assert_eq!((stored["st"].as_str(), stored["why"].as_str()), ("reauthorization_required", "lost_reply"));
    assert!(stored.contains_key("rt"), "the refresh token is kept");
    assert!(other.program.output().contains("the customer has to consent again"), "and said");
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_killed_with_the_answer_in_memory_alone_one_probe_names_the_loss() {
    let scene = Scene::set().await;
    let (doomed, other) = (failing(scene.replica(), "after-reply=kill"), scene.replica());
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    drop(calling(&doomed, "c-1"));
    until_killed(&mut doomed).await;
    assert!(doomed.spills().is_empty());
    assert_eq!(until_told(&other, "c-1", REAUTHORIZE).await, story(&[UNCERTAIN, REAUTHORIZE]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "reuse"]);
    assert_eq!(lost(&other, "lost_reply").await, 1);
}

/// The window itself. The best of many, because a busy machine says nothing about the program.
#[tokio::test(flavor = "multi_thread")]
async fn f06_the_answer_is_on_disk_milliseconds_after_the_bank_has_processed_the_request() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let mut best = Duration::MAX;
    for n in 0..20 {
        let (granted, consent) = (scene.bank.grant(0).await, format!("c-{n}"));
        sidecar.import(&consent, &granted).await;
        let before = sidecar.spills();
        assert_eq!(sidecar.balances(&consent).await.status, 200);
        let written = sidecar.spills().into_iter().find(|spill| !before.contains(spill));
        let Some(written) = written.and_then(|spill| spill.metadata().ok()?.modified().ok()) else { continue };
        let log = scene.bank.control(http::Method::GET, "/log", &serde_json::Value::Null).await;
        let processed = Duration::from_millis(log.as_array().unwrap().last().unwrap()["time_ms"].as_u64().unwrap());
        let written = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        best = best.min(written.saturating_sub(processed));
    }
    assert!(best <= Duration::from_millis(10), "{best:?}, the way from the bank and rounding included");
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_killed_after_the_spill_and_before_the_commit_the_next_start_commits_it_and_nothing_is_sent_again() {
    let scene = Scene::set().await;
    let mut replica = failing(scene.replica(), "before-commit,after-spill=kill");
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    drop(calling(&sidecar, "c-1"));
    until_killed(&mut sidecar).await;
    assert_eq!((sidecar.spills().len(), scene.record("c-1")["gen"].as_str()), (1, "1"));

    replica.forget(FAILPOINTS);
    let sidecar = replica.start().await;
    sidecar.until("it is replayed", async || scene.record("c-1")["gen"] == "2").await;
    assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    sidecar.expire(&scene.bank, "c-1", &granted).await;
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "granted"], "it is the newest refresh token");
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_killed_after_the_commit_and_before_the_spill_was_removed_the_replay_changes_nothing() {
    let scene = Scene::set().await;
    let mut replica = failing(scene.replica(), "after-commit=kill");
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    drop(calling(&sidecar, "c-1"));
    until_killed(&mut sidecar).await;
    let committed = scene.record("c-1");
    assert_eq!((sidecar.spills().len(), committed["gen"].as_str()), (1, "2"));

    replica.forget(FAILPOINTS);
    let sidecar = replica.start().await;
    sidecar.until("the spill is removed", async || sidecar.spills().is_empty()).await;
    let now = scene.record("c-1");
    assert_eq!((&now["gen"], &now["rt"], &now["lc"]), (&committed["gen"], &committed["rt"], &committed["lc"]));
    assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

/// The embedded store takes the same deaths.
#[tokio::test(flavor = "multi_thread")]
async fn f07_with_the_embedded_store_the_next_start_commits_the_spill_too() {
    let scene = Scene::set().await;
    let replica = crate::house::paced(crate::support::sidecar::Replica::embedded(&scene.bank));
    let mut replica = failing(replica, "before-commit,after-spill=kill");
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    drop(calling(&sidecar, "c-1"));
    until_killed(&mut sidecar).await;
    replica.forget(FAILPOINTS);
    let sidecar = replica.start().await;
    sidecar.until("it is replayed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

/// A bank that takes a spent refresh token for a while gives the answer again.
#[tokio::test(flavor = "multi_thread")]
async fn f05_at_a_bank_with_a_grace_the_answer_that_was_lost_is_asked_for_again_and_nothing_is_lost() {
    let scene = Scene::set().await;
    scene.bank.control(http::Method::PATCH, "/abn-amro/settings", &json!({ "grace_s": 60 })).await;
    let (doomed, other) = (tolerant(scene.replica()), tolerant(scene.replica()));
    let (mut doomed, other) = tokio::join!(doomed.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 60_000 })).await;
    drop(calling(&doomed, "c-1"));
    other.until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    doomed.program.kill();
    until_told(&other, "c-1", SERVED).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "granted-in-grace"]);
    assert_eq!((scene.bank.reuse_events().await, lost(&other, "lost_reply").await), (0, 0));
    other.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
}
