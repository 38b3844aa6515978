//! F19 to F28: the bank is slow, answers rubbish, or says no.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::house::{
    REAUTHORIZE, SERVED, Scene, UNCERTAIN, asked, at, calling, digest, lost, provider, story, told, until, until_told,
};
use crate::support::bank::Bank;
use crate::support::link::{Flow, Link, Toward, Trap};
use crate::support::redis::RedisServer;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::{Replica, Sidecar};

/// A token set that no bank knows, with thirty seconds between import and the next refresh cut to none.
fn made_up(consent: &str) -> Value {
    json!({
        "provider": "abn-amro", "access_token": format!("access-of-{consent}"),
        "refresh_token": format!("refresh-of-{consent}"), "expires_in": 0, "scope": "a b",
    })
}

async fn import_made_up(sidecar: &Sidecar, consent: &str) {
    assert_eq!(sidecar.put_tokens(consent, None, &made_up(consent)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_bank_that_takes_thirty_seconds_is_waited_for_and_asked_once() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    // At the pace of production: nothing shorter than two minutes hangs up on a bank.
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = bank.grant(0).await;
    sidecars[0].import("c-1", &granted).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 30_000 })).await;
    let waiting = (503, "token-wait-timeout");
    let (one, other) = tokio::join!(until_told(&sidecars[0], "c-1", SERVED), until_told(&sidecars[1], "c-1", SERVED));
    assert_eq!((one, other), (story(&[waiting, SERVED]), story(&[waiting, SERVED])));
    assert_eq!(asked(&bank, &granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_bank_that_is_slower_than_a_lease_is_asked_once_because_the_lease_is_renewed() {
    let scene = Scene::set().await;
    let replicas = [scene.replica(), scene.replica()];
    let sidecars = [replicas[0].start().await, replicas[1].start().await];
    let granted = scene.bank.grant(0).await;
    sidecars[0].import("c-1", &granted).await;
    // Twice an armed lease.
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 8_000 })).await;
    let (one, other) = tokio::join!(until_told(&sidecars[0], "c-1", SERVED), until_told(&sidecars[1], "c-1", SERVED));
    for story in [one, other] {
        assert!(story.iter().all(|(_, problem)| problem != UNCERTAIN.1), "{story:?}");
    }
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_after_a_5xx_one_probe_tells_whether_the_bank_had_processed_the_request() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let error = |process| json!({ "status": { "code": 503, "body": "<html>", "process": process } });
    let (lucky, unlucky) = (scene.bank.grant(0).await, scene.bank.grant(0).await);
    for (consent, granted, process) in [("lucky", &lucky, false), ("unlucky", &unlucky, true)] {
        sidecar.import(consent, granted).await;
        scene.bank.fault("abn-token", 1, error(process)).await;
        assert_eq!(story(&[UNCERTAIN]), [told(&sidecar.balances(consent).await)]);
        sidecar.until("it is written down", async || scene.record(consent)["st"] == "uncertain").await;
        assert_eq!(scene.record(consent)["why"], "server_error");
    }
    assert_eq!(until_told(&sidecar, "lucky", SERVED).await, story(&[UNCERTAIN, SERVED]));
    assert_eq!(until_told(&sidecar, "unlucky", REAUTHORIZE).await.last(), story(&[REAUTHORIZE]).first());
    assert_eq!(scene.asked(&lucky.bank_id).await, ["not-processed", "granted"]);
    assert_eq!(scene.asked(&unlucky.bank_id).await, ["granted", "reuse"]);
    assert_eq!(lost(&sidecar, "lost_reply").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_a_yes_that_cannot_be_read_is_kept_sealed_for_a_person_and_its_consent_is_uncertain() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let mut sidecar = replica.start().await;
    let faults = [
        ("cut", json!({ "truncate_at": 40 }), "truncated_answer"),
        ("page", json!({ "html_200": true }), "unreadable_answer"),
    ];
    for (n, (consent, fault, why)) in faults.into_iter().enumerate() {
        let granted = scene.bank.grant(0).await;
        sidecar.import(consent, &granted).await;
        scene.bank.fault("abn-token", 1, fault).await;
        assert_eq!(story(&[UNCERTAIN]), [told(&sidecar.balances(consent).await)], "{why}");
        sidecar.until("it is written down", async || scene.record(consent)["st"] == "uncertain").await;
        assert_eq!(scene.record(consent)["why"], why);
        assert_eq!(sidecar.spills().len(), n + 1, "{why}: its bytes are kept");
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    }
    sidecar
        .program
        .logged("Nobody knows whether the bank processed a refresh. It is asked once more after the quarantine.")
        .await;
    until_told(&sidecar, "page", REAUTHORIZE).await;
    assert_eq!(sidecar.spills().len(), 2, "and nothing removes them");
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_an_answer_without_end_is_read_to_a_bound_and_kept_as_far() {
    let (scene, rogue) = (Scene::set().await, Rogue::start().await);
    let replica = scene.replica().before_rogue(&scene.bank, &rogue);
    let sidecar = replica.start().await;
    import_made_up(&sidecar, "c-1").await;
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(70_000));
    rogue.next_token_answer((answer(200, &long), Then::Hold));
    assert_eq!(story(&[UNCERTAIN]), [told(&sidecar.balances("c-1").await)]);
    sidecar.until("it is written down", async || scene.record("c-1")["st"] == "uncertain").await;
    assert_eq!((scene.record("c-1")["why"].as_str(), sidecar.spills().len()), ("oversized_answer", 1));
    assert_eq!(rogue.token_requests().len(), 1);
}

/// The same where the network cuts it, in the middle of what TLS carries.
#[tokio::test(flavor = "multi_thread")]
async fn f22_an_answer_that_the_network_cuts_off_leaves_its_consent_uncertain_and_is_asked_for_once() {
    let scene = Scene::set().await;
    let endpoint = scene.bank.endpoints["abn_amro"]["token_endpoint"].as_str().unwrap().to_owned();
    let port = http::Uri::try_from(&endpoint).unwrap().port_u16().unwrap();
    let link = Link::to(port).await;
    let through = endpoint.replace(&format!(":{port}/"), &format!(":{}/", link.port()));
    let replica = scene.replica().change(&endpoint, &through);
    let sidecar = replica.start().await;
    let flows = [Flow::Reset, Flow::Truncate(60), Flow::HalfClose];
    for (n, flow) in flows.into_iter().enumerate() {
        let (consent, granted) = (format!("c-{n}"), scene.bank.grant(0).await);
        sidecar.import(&consent, &granted).await;
        scene.bank.fault("abn-token", 1, json!({ "delay_ms": 600 })).await;
        let call = calling(&sidecar, &consent);
        until("the bank has been asked", async || !scene.asked(&granted.bank_id).await.is_empty()).await;
        link.set(Toward::Client, flow);
        assert_eq!(story(&[UNCERTAIN]), [told(&call.await.unwrap().unwrap())], "{flow:?}");
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"], "{flow:?}");
        link.set(Toward::Client, Flow::Pass);
    }
    // Slow, and in pieces, it is whole.
    for (n, flow) in
        [Flow::Drip(7, Duration::from_millis(2)), Flow::Delay(Duration::from_millis(80))].into_iter().enumerate()
    {
        let (consent, granted) = (format!("d-{n}"), scene.bank.grant(0).await);
        sidecar.import(&consent, &granted).await;
        link.set(Toward::Server, flow);
        until_told(&sidecar, &consent, SERVED).await;
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"], "{flow:?}");
    }
    assert!(link.opened() >= 5, "each request had a connection of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_tokens_whose_identity_token_is_rubbish_are_stored_and_used() {
    let (scene, rogue) = (Scene::set().await, Rogue::start().await);
    let replica = scene.replica().before_rogue(&scene.bank, &rogue);
    let sidecar = replica.start().await;
    import_made_up(&sidecar, "c-1").await;
    let body = json!({
        "access_token": "new-access", "refresh_token": "new-refresh", "expires_in": 3600,
        "id_token": "eyJhbGciOiJub25lIn0.bm90IGpzb24.", "token_type": 7,
    });
    rogue.next_token_answer((answer(200, &body.to_string()), Then::Hold));
    until_told(&sidecar, "c-1", SERVED).await;
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    assert_eq!(rogue.token_requests().len(), 1);
    let sent = rogue.requests(&format!("/api/v1/accounts/{}/balances", crate::support::bank::IBAN));
    assert!(sent.last().unwrap().contains("Bearer new-access"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_answers_without_a_refresh_token_or_with_an_absurd_life_are_kept_within_bounds() {
    let scene = Scene::set().await;
    let replica = provider(scene.replica(), "default_expires_in: 90s");
    let sidecar = replica.start().await;
    let faults = [
        (json!({ "omit_refresh_token": true }), 7_200_000, true),
        (json!({ "same_refresh_token": true }), 7_200_000, true),
        (json!({ "expires_in": "missing" }), 90_000, false),
        (json!({ "expires_in": 0 }), 90_000, false),
        (json!({ "expires_in": -1 }), 90_000, false),
        (json!({ "expires_in": "3600" }), 3_600_000, false),
        (json!({ "expires_in": 1e18 }), 30 * 24 * 3_600_000_u64, false),
    ];
    for (n, (fault, life, same)) in faults.into_iter().enumerate() {
        let (consent, granted) = (format!("c-{n}"), scene.bank.grant(0).await);
        sidecar.import(&consent, &granted).await;
        let before = scene.record(&consent);
        scene.bank.fault("abn-token", 1, fault.clone()).await;
        until_told(&sidecar, &consent, SERVED).await;
        sidecar.until("it is committed", async || scene.record(&consent)["gen"] == "2").await;
        let after = scene.record(&consent);
        assert_eq!(after["life"], life.to_string(), "{fault}");
        assert_eq!(before["rt_fp"] == after["rt_fp"], same, "{fault}");
        sidecar.expire(&scene.bank, &consent, &granted).await;
        // Until the change is heard of, the token from before it serves.
        sidecar
            .until("what was kept works", async || {
                assert_eq!(sidecar.balances(&consent).await.status, 200, "{fault}");
                scene.asked(&granted.bank_id).await == ["granted", "granted"]
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_one_refusal_with_a_clean_history_suspends_its_consent_and_keeps_the_refresh_token() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let (ended, alive) = (scene.bank.grant(0).await, scene.bank.grant(0).await);
    sidecar.import("ended", &ended).await;
    sidecar.import("alive", &alive).await;
    let before = scene.record("ended");
    scene.bank.control(Method::POST, &format!("/abn-amro/consents/{}/revoke", ended.bank_id), &Value::Null).await;
    assert_eq!(until_told(&sidecar, "ended", REAUTHORIZE).await.last(), story(&[REAUTHORIZE]).first());
    sidecar.until("it is written down", async || scene.record("ended")["st"] == "reauthorization_required").await;
    let after = scene.record("ended");
    assert_eq!((after["why"].as_str(), &after["rt"]), ("revoked_or_expired", &before["rt"]));
    until_told(&sidecar, "alive", SERVED).await;
    assert_eq!(scene.asked(&alive.bank_id).await, ["granted"]);
    assert_eq!(lost(&sidecar, "lost_reply").await, 0, "the bank ended it, and nothing of ours did");
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_a_refusal_that_was_the_banks_mistake_is_taken_back_and_the_kept_refresh_token_tried_once_more() {
    let scene = Scene::set().await;
    let (one, two) = (scene.replica(), scene.replica());
    let (sidecar, other) = tokio::join!(one.start(), two.start());
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    let mistaken = json!({ "status": { "code": 400, "body": r#"{"error":"invalid_grant"}"# } });
    scene.bank.fault("abn-token", 1, mistaken).await;
    until_told(&sidecar, "c-1", REAUTHORIZE).await;
    sidecar.until("it is written down", async || scene.record("c-1")["st"] == "reauthorization_required").await;
    let refused = scene.record("c-1");
    assert_eq!(other.revive("c-1", None, &json!({})).await.status, 200);
    for replica in [&sidecar, &other] {
        until_told(replica, "c-1", SERVED).await;
    }
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    let revived = scene.record("c-1");
    assert_eq!((revived["st"].as_str(), &revived["grant"]), ("active", &refused["grant"]));
    assert_eq!(scene.asked(&granted.bank_id).await, ["not-processed", "granted"], "once more, and no more");
    assert_eq!(scene.bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_a_no_that_is_about_us_or_about_haste_touches_no_consent() {
    let (scene, rogue) = (Scene::set().await, Rogue::start().await);
    let replica = scene.replica().before_rogue(&scene.bank, &rogue);
    let sidecar = replica.start().await;
    let slow_down = "HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n";
    let error = |status, code: &str| answer(status, &format!(r#"{{"error":"{code}"}}"#));
    let rows = [
        ("invalid_client", error(401, "invalid_client"), (502, "provider-misconfigured")),
        ("invalid_request", error(400, "invalid_request"), (503, "token-endpoint-unavailable")),
        ("use_dpop_nonce", error(400, "use_dpop_nonce"), (503, "token-endpoint-unavailable")),
        // The last: it holds everybody at this bank for as long as the bank asks.
        ("rate_limited", slow_down.as_bytes().to_vec(), (503, "token-endpoint-unavailable")),
    ];
    for (n, (why, bytes, wanted)) in rows.into_iter().enumerate() {
        let consent = format!("c-{n}");
        import_made_up(&sidecar, &consent).await;
        let before = scene.record(&consent);
        rogue.next_token_answer((bytes, Then::Hold));
        let answer = sidecar.balances(&consent).await;
        assert_eq!(story(&[wanted]), [told(&answer)], "{why}");
        sidecar.until("it is written down", async || scene.record(&consent).contains_key("why")).await;
        let after = scene.record(&consent);
        assert_eq!((after["st"].as_str(), after["why"].as_str(), &after["rt"]), ("active", why, &before["rt"]));
        if why == "rate_limited" {
            let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=7).contains(&seconds), "what the bank asked for, and not {seconds}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f28_a_refusal_that_comes_after_another_replica_has_committed_is_not_believed() {
    let scene = Scene::set().await;
    let link = Link::to(scene.redis.port()).await;
    // Its caller waits as long as the bank lets it wait.
    let patient = at(&scene.bank, link.port(), "").change("proxy: {listen", "proxy: {token_wait: 50s, listen");
    let (patient, other) = (patient, scene.replica());
    let (patient, other) = tokio::join!(patient.start(), other.start());
    patient.import("warm", &scene.bank.grant(0).await).await;
    until_told(&patient, "warm", SERVED).await;
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    let refusal = json!({
        "delay_before_ms": 17_000, "status": { "code": 400, "body": r#"{"error":"invalid_grant"}"# },
    });
    scene.bank.fault("abn-token", 1, refusal).await;
    // The store does not hear of its renewals, so that its lease runs out.
    link.trap(&digest("renew"), Trap::CutRequest, 1_000);
    let call = calling(&patient, "c-1");
    until("it is armed", async || scene.record("c-1")["st"] == "armed").await;
    let seen = until_told(&other, "c-1", SERVED).await;
    assert_eq!(seen, story(&[UNCERTAIN, SERVED]), "another one takes over and succeeds");
    let answer = call.await.unwrap().unwrap();
    assert_eq!(told(&answer), (200, String::new()), "it reads again, and finds what the other one has");
    let stored = scene.record("c-1");
    assert_eq!((stored["st"].as_str(), stored["gen"].as_str()), ("active", "2"));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "not-processed"]);
}
