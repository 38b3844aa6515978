//! F33 to F35: consents that end, or are granted anew, while a refresh of them is under way or in doubt.

use consentry::store::{End, RecordState, Store as _};
use consentry::words::ids::{ConsentId, TokenKey};
use http::Method;
use serde_json::{Value, json};

use crate::house::{
    FAILPOINTS, REAUTHORIZE, SERVED, Scene, UNCERTAIN, calling, failing, story, told, tolerant, until, until_told,
};
use crate::support::bank::Granted;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::{Replica, Sidecar};

/// At the pace of production the bank answers before the next renewal, which would end the refresh at once.
fn slow_paced(mut replica: Replica) -> Replica {
    replica.forget("CONSENTRY_TIME_SCALE");
    replica
}

const REVOKED: (u16, &str) = (403, "consent-revoked");

#[tokio::test(flavor = "multi_thread")]
async fn f33_a_consent_that_ends_while_it_is_refreshed_stays_ended_and_its_new_tokens_are_dropped() {
    let scene = Scene::set().await;
    let replica = slow_paced(scene.replica());
    let mut sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 1_200 })).await;
    let call = calling(&sidecar, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    let key = TokenKey::Consent(ConsentId::parse("c-1").unwrap());
    let why = "withdrawn".to_owned();
    let withdrawn = End { grant: None, state: RecordState::Revoked, why, remembered: None };
    scene.redis.store().end(&key, &withdrawn).await.unwrap();
    let answer = told(&call.await.unwrap().unwrap());
    assert_ne!(answer.0, 502, "{answer:?}");
    sidecar.program.logged("A consent ended while it was being refreshed. Its tokens are dropped.").await;
    assert_eq!(until_told(&sidecar, "c-1", REVOKED).await.last(), story(&[REVOKED]).first());
    let stored = scene.record("c-1");
    assert_eq!(stored["st"], "revoked");
    assert!(!stored.contains_key("rt") && !stored.contains_key("at"), "{stored:?}");
    // The spill of the dropped tokens brings nothing back either.
    sidecar.program.kill();
    let sidecar = replica.start().await;
    assert_eq!(until_told(&sidecar, "c-1", REVOKED).await, story(&[REVOKED]));
    assert_eq!(scene.record("c-1")["st"], "revoked");
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

/// Stores another grant under the id of a consent.
async fn grant_anew(scene: &Scene, sidecar: &Sidecar, consent: &str) -> Granted {
    let anew = scene.bank.grant(0).await;
    let answer = sidecar.put_tokens(consent, Some(&sidecar.version(consent).await), &anew.import).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    anew
}

#[tokio::test(flavor = "multi_thread")]
async fn f34_a_new_grant_ends_the_doubt_about_the_one_before_it() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    for (consent, fault) in [("uncertain", true), ("refused", false)] {
        let before = scene.bank.grant(0).await;
        sidecar.import(consent, &before).await;
        if fault {
            scene.bank.fault("abn-token", 1, json!({ "drop_after_processing": true })).await;
            assert_eq!(story(&[UNCERTAIN]), [told(&sidecar.balances(consent).await)]);
        } else {
            let path = format!("/abn-amro/consents/{}/revoke", before.bank_id);
            scene.bank.control(Method::POST, &path, &Value::Null).await;
            until_told(&sidecar, consent, REAUTHORIZE).await;
        }
        let asked = scene.asked(&before.bank_id).await;
        let anew = grant_anew(&scene, &sidecar, consent).await;
        until_told(&sidecar, consent, SERVED).await;
        assert_eq!(scene.asked(&anew.bank_id).await, ["granted"], "{consent}");
        assert_eq!(scene.asked(&before.bank_id).await, asked, "{consent}: the one before is left alone");
        assert_eq!(scene.record(consent)["st"], "active");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f34_a_commit_of_the_grant_before_is_turned_down_and_its_spill_kept_for_a_while() {
    let scene = Scene::set().await;
    let (slow, other) = (slow_paced(scene.replica()), slow_paced(scene.replica()));
    let (mut slow, other) = tokio::join!(slow.start(), other.start());
    let before = scene.bank.grant(0).await;
    other.import("c-1", &before).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 1_200 })).await;
    drop(calling(&slow, "c-1"));
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    let anew = grant_anew(&scene, &other, "c-1").await;
    slow.program.logged("A token set came after a newer one and is set aside.").await;
    let stored = scene.record("c-1");
    assert!(!stored.contains_key("alt_rt"), "of another grant it is of no use here: {stored:?}");
    assert!(!slow.spills().is_empty(), "the store may yet take its word back");
    for sidecar in [&slow, &other] {
        until_told(sidecar, "c-1", SERVED).await;
    }
    assert_eq!(scene.asked(&anew.bank_id).await, ["granted"]);
    assert_eq!(scene.asked(&before.bank_id).await, ["granted"]);
    slow.until_within(30, "the spill is removed", async || slow.spills().is_empty()).await;
}

/// What a killed process had spilled of the grant before, too.
#[tokio::test(flavor = "multi_thread")]
async fn f34_a_spill_of_the_grant_before_is_replayed_to_no_effect() {
    let scene = Scene::set().await;
    let mut replica = failing(scene.replica(), "before-commit,after-spill=kill");
    let (mut doomed, other) = (replica.start().await, scene.replica());
    let other = other.start().await;
    other.import("c-1", &scene.bank.grant(0).await).await;
    drop(calling(&doomed, "c-1"));
    crate::house::until_killed(&mut doomed).await;
    let anew = grant_anew(&scene, &other, "c-1").await;
    replica.forget(FAILPOINTS);
    let mut sidecar = replica.start().await;
    sidecar.program.logged("A token set came after a newer one and is set aside.").await;
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!(scene.asked(&anew.bank_id).await, ["granted"]);
    assert_eq!(scene.bank.reuse_events().await, 0);
}

/// A holder whose renewal tells it that its time is over hangs up; the bank may have processed its request all the same.
#[tokio::test(flavor = "multi_thread")]
async fn f34_a_new_grant_ends_a_refresh_of_the_one_before_at_its_next_renewal() {
    let scene = Scene::set().await;
    let (slow, other) = (scene.replica(), scene.replica());
    let (slow, other) = tokio::join!(slow.start(), other.start());
    other.import("c-1", &scene.bank.grant(0).await).await;
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 60_000 })).await;
    let call = calling(&slow, "c-1");
    until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    let anew = grant_anew(&scene, &other, "c-1").await;
    call.await.unwrap().unwrap();
    for sidecar in [&slow, &other] {
        until_told(sidecar, "c-1", SERVED).await;
    }
    assert_eq!(scene.asked(&anew.bank_id).await, ["granted"]);
    assert_eq!(scene.record("c-1")["st"], "active");
}

/// Two answers to one refresh token, at a bank that allows it for a while.
#[tokio::test(flavor = "multi_thread")]
async fn f35_of_two_commits_from_one_base_the_second_is_kept_and_tried_once_when_the_first_is_refused() {
    let (scene, rogue) = (Scene::set().await, Rogue::start().await);
    let before = || tolerant(scene.replica().before_rogue(&scene.bank, &rogue));
    let tokens = |name: &str| {
        let body = json!({ "access_token": format!("access-{name}"), "refresh_token": format!("refresh-{name}"), "expires_in": 3_600 });
        (answer(200, &body.to_string()), Then::Hold)
    };
    let mut late = failing(before(), "before-commit");
    let (mut second, first) = (late.start().await, before());
    let first = first.start().await;
    let import = json!({
        "provider": "abn-amro", "access_token": "access-0", "refresh_token": "refresh-0", "expires_in": 0, "scope": "a b",
    });
    assert_eq!(first.put_tokens("c-1", None, &import).await.status, 201);
    rogue.next_token_answer(tokens("second"));
    assert_eq!(told(&second.balances("c-1").await), (200, String::new()), "from its spill");
    rogue.next_token_answer(tokens("first"));
    until_told(&first, "c-1", SERVED).await;
    first.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    second.program.kill();
    late.forget(FAILPOINTS);
    let second = late.start().await;
    second.until("what came second is kept", async || scene.record("c-1").contains_key("alt_rt")).await;

    rogue.next_api_answer((answer(401, r#"{"errors":[{"code":"ERR_2002_002"}]}"#), Then::Hold));
    rogue.next_token_answer((answer(400, r#"{"error":"invalid_grant"}"#), Then::Hold));
    rogue.next_token_answer(tokens("third"));
    until_told(&first, "c-1", SERVED).await;
    first.until("it is committed", async || scene.record("c-1")["gen"] == "3").await;
    let presented: Vec<_> = rogue.token_requests().iter().map(|body| presented(body)).collect();
    assert_eq!(presented, ["refresh-0", "refresh-0", "refresh-first", "refresh-second"]);
    let stored = scene.record("c-1");
    assert!(stored["st"] == "active" && !stored.contains_key("alt_rt"), "{stored:?}");
}

fn presented(body: &str) -> String {
    body.split('&').find_map(|pair| pair.strip_prefix("refresh_token=")).unwrap().to_owned()
}
