//! F29 to F32: processes that stand still, calendars that are wrong, apps that go away, and ends.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::house::{
    SERVED, Scene, UNCERTAIN, calling, failing, lost, metric, story, told, until, until_frozen, until_told,
};
use crate::support::bank::IBAN;
use crate::support::sidecar::Sidecar;

#[tokio::test(flavor = "multi_thread")]
async fn f29_a_holder_that_stands_still_within_lease_and_quarantine_sends_once_and_nobody_else_does() {
    let scene = Scene::set().await;
    let (holder, other) = (failing(scene.replica(), "after-arm=freeze"), scene.replica());
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    let call = calling(&holder, "c-1");
    until_frozen(&holder).await;
    // Its armed lease runs out, somebody notices, and the quarantine begins.
    let told_meanwhile = until_told(&other, "c-1", UNCERTAIN).await;
    assert_eq!(told_meanwhile, story(&[UNCERTAIN]));
    sleep(Duration::from_secs(2)).await;
    holder.program.signal("CONT");
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    until_told(&other, "c-1", SERVED).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    assert_eq!(scene.record("c-1")["gen"], "2");
}

/// The window that no client can close: the bank cannot be told that this holder's time is over.
#[tokio::test(flavor = "multi_thread")]
async fn f29_a_holder_that_stands_still_for_longer_sends_a_spent_token_and_says_so() {
    let scene = Scene::set().await;
    let (holder, other) = (failing(scene.replica(), "after-arm=freeze"), scene.replica());
    let (mut holder, other) = tokio::join!(holder.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    let call = calling(&holder, "c-1");
    until_frozen(&holder).await;
    assert_eq!(until_told(&other, "c-1", SERVED).await, story(&[UNCERTAIN, SERVED]));
    assert_eq!(scene.record("c-1")["gen"], "2");
    holder.program.signal("CONT");
    until("the bank has been asked twice", async || scene.asked(&granted.bank_id).await.len() >= 2).await;
    let _ = call.await.unwrap();
    assert_eq!(scene.asked(&granted.bank_id).await[..2], ["granted", "reuse"]);
    holder.program.logged(LATE).await;
    assert_eq!(late(&holder).await, 1);
    assert_eq!(lost(&other, "lost_reply").await, 0, "no answer was lost");
}

/// Refresh tokens that this process sent too late.
async fn late(sidecar: &Sidecar) -> u64 {
    metric(sidecar, "consentry_late_send_detected_total{provider=\"abn-amro\"}").await
}

const LATE: &str =
    "A refresh was under way while the right to it went to somebody else. The bank may have seen its token twice.";

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_calendar_that_is_an_hour_off_changes_nothing() {
    let scene = Scene::set().await;
    let hour = 3_600_000_i64;
    let shifted = |by: i64| scene.replica().environment("CONSENTRY_WALL_SHIFT", &by.to_string());
    let (late, early) = (shifted(-hour), shifted(hour));
    let (late, early) = tokio::join!(late.start(), early.start());
    let (valid, expired) = (scene.bank.grant(600).await, scene.bank.grant(0).await);
    early.import("valid", &valid).await;
    late.import("expired", &expired).await;
    for sidecar in [&late, &early] {
        for consent in ["valid", "expired"] {
            assert_eq!(until_told(sidecar, consent, SERVED).await, story(&[SERVED]), "{consent}");
        }
    }
    assert!(scene.asked(&valid.bank_id).await.is_empty(), "it has ten minutes to live, whatever the calendars say");
    assert_eq!(scene.asked(&expired.bank_id).await, ["granted"]);
}

/// A spill is the one thing that lasts by the calendar.
#[tokio::test(flavor = "multi_thread")]
async fn f30_a_spill_that_is_replayed_by_a_calendar_an_hour_off_loses_no_refresh_token() {
    for shift in [-3_600_000_i64, 3_600_000] {
        let scene = Scene::set().await;
        let mut replica = failing(scene.replica(), "before-commit,after-spill=kill");
        let mut sidecar = replica.start().await;
        let granted = scene.bank.grant(0).await;
        sidecar.import("c-1", &granted).await;
        drop(calling(&sidecar, "c-1"));
        crate::house::until_killed(&mut sidecar).await;
        replica.forget(crate::house::FAILPOINTS);
        let replica = replica.environment("CONSENTRY_WALL_SHIFT", &shift.to_string());
        let sidecar = replica.start().await;
        sidecar.until("it is replayed", async || scene.record("c-1")["gen"] == "2").await;
        until_told(&sidecar, "c-1", SERVED).await;
        sidecar.until("nothing is under way", async || scene.record("c-1")["st"] == "active").await;
        let asked = scene.asked(&granted.bank_id).await;
        assert!(asked.iter().all(|outcome| outcome == "granted"), "{shift}: {asked:?}");
    }
}

/// The proxy's listener speaks HTTP/1.1 alone: an app's ways to go are to close, to close its half, and to reset.
#[tokio::test(flavor = "multi_thread")]
async fn f31_an_app_that_goes_away_does_not_stop_the_refresh() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    for way in ["close", "half", "reset"] {
        let granted = scene.bank.grant(0).await;
        sidecar.import(way, &granted).await;
        scene.bank.fault("abn-token", 1, json!({ "delay_ms": 900 })).await;
        let mut app = TcpStream::connect(&address).await.unwrap();
        let head = format!("GET {} HTTP/1.1\r\nHost: {address}\r\nConsent-ID: {way}\r\n\r\n", path());
        app.write_all(head.as_bytes()).await.unwrap();
        until("the bank has been asked", async || scene.asked(&granted.bank_id).await == ["granted"]).await;
        match way {
            "half" => app.shutdown().await.unwrap(),
            "reset" => app.set_zero_linger().unwrap(),
            _ => {}
        }
        if way != "half" {
            drop(app);
        }
        sidecar.until("it is committed", async || scene.record(way)["gen"] == "2").await;
        assert_eq!(told(&sidecar.balances(way).await), (200, String::new()));
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    }
}

fn path() -> String {
    format!("/accounts/v1/accounts/{IBAN}/balances")
}

#[tokio::test(flavor = "multi_thread")]
async fn f32_at_a_sigterm_a_refresh_under_way_finishes_and_is_committed() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 2_000 })).await;
    let call = calling(&sidecar, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    sidecar.program.signal("TERM");
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    assert!(sidecar.program.ended().await.success());
    assert_eq!((scene.record("c-1")["gen"].as_str(), scene.record("c-1")["st"].as_str()), ("2", "active"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f32_a_second_sigterm_ends_at_once_and_what_was_spilled_is_committed_at_the_next_start() {
    let mut scene = Scene::set().await;
    let replica = scene.replica();
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 500 })).await;
    let call = calling(&sidecar, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    scene.redis.stop();
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    sidecar.program.signal("TERM");
    sidecar.program.logged("Ending: what is under way finishes first.").await;
    sidecar.program.signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(5), sidecar.program.ended()).await;
    assert!(ended.is_ok(), "it did not wait for the store");
    assert_eq!(sidecar.spills().len(), 1);
    scene.redis.start_again().await;
    let sidecar = replica.start().await;
    sidecar.until("it is replayed", async || scene.record("c-1")["gen"] == "2").await;
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}
