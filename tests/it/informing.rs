//! What the bank says of a consent: how it stands there, and when it ends, as opposed to its token.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::client::Answer;
use crate::support::redis::RedisServer;
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

async fn info(sidecar: &Sidecar, consent: &str) -> Answer {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url(&format!("/v1/consents/{consent}/info"));
    sidecar.app.get(&url, &[("authorization", &key)]).await
}

fn day(text: &Value) -> String {
    text.as_str().unwrap_or_else(|| panic!("no date: {text}")).chars().take(10).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn abn_amro_tells_of_a_consent_and_its_end_takes_the_place_of_what_was_reckoned() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    for replica in [Replica::with_redis(&bank, &redis), Replica::embedded(&bank)] {
        let sidecar = replica.start().await;
        let granted = bank.grant(0).await;
        sidecar.import("c-1", &granted).await;
        assert_eq!(sidecar.consent("c-1").await["consent_expires_at"], Value::Null);
        let asked = bank.count("abn", "api_calls").await;
        let told = info(&sidecar, "c-1").await;
        assert_eq!(told.status, StatusCode::OK, "{told:?}");
        let told = told.json();
        assert_eq!((&told["active"], &told["status"]), (&json!(true), &json!("FULLY_SIGNED")));
        assert_eq!(told["scope"], granted.import["scope"]);
        assert_eq!(told["answer"]["iban"], crate::support::bank::IBAN);
        assert!(told["bank_request_id"].is_string() && told["bank_status"] == 200, "{told}");
        let stored = sidecar.consent("c-1").await;
        assert_eq!(stored["consent_expires_at"], told["consent_expires_at"]);
        assert_ne!(day(&told["consent_expires_at"]), day(&told["token_expires_at"]), "they are two things");
        assert_eq!(stored["generation"], 2, "the token that it was asked with had to be renewed");

        // Whoever asks again is told the same, and the bank is not asked.
        assert_eq!(info(&sidecar, "c-1").await.json(), told);
        assert_eq!(bank.count("abn", "api_calls").await, asked + 1);
        assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
        assert_eq!(bank.reuse_events().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn norsk_gjeldsinformasjon_tells_whether_a_consent_is_active_and_until_when() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    let registered = bank.control(Method::POST, "/norsk-gjeld/consents", &json!({ "days": 30 })).await;
    let id = registered["id"].as_str().unwrap();
    for (consent, bank_id) in [("alive", id), ("unknown", "0dcec3d5-6844-4d2c-b972-83086064b111")] {
        let set =
            json!({"provider": "norsk-gjeld", "access_token": "x", "expires_in": 3_600, "bank_consent_id": bank_id});
        assert_eq!(sidecar.put_tokens(consent, None, &set).await.status, StatusCode::CREATED);
    }
    let alive = info(&sidecar, "alive").await.json();
    assert_eq!((&alive["active"], &alive["token_expires_at"]), (&json!(true), &Value::Null));
    assert_eq!(day(&alive["consent_expires_at"]), day(&registered["expires_at"]));
    assert_eq!(day(&sidecar.consent("alive").await["consent_expires_at"]), day(&registered["expires_at"]));
    let unknown = info(&sidecar, "unknown").await.json();
    assert_eq!((&unknown["active"], &unknown["consent_expires_at"]), (&json!(false), &Value::Null));
    assert_eq!(sidecar.consent("unknown").await["state"], "active", "what the bank says here ends nothing");

    // It ends, and says so with a date that is past: that is told, and what is stored stays.
    bank.control(Method::POST, &format!("/norsk-gjeld/consents/{id}/revoke"), &Value::Null).await;
    let set = json!({"provider": "norsk-gjeld", "access_token": "x", "expires_in": 3_600, "bank_consent_id": id});
    assert_eq!(sidecar.put_tokens("again", None, &set).await.status, StatusCode::CREATED);
    let ended = info(&sidecar, "again").await.json();
    assert_eq!(ended["active"], false);
    assert!(ended["consent_expires_at"].is_string(), "{ended}");
    assert_eq!(sidecar.consent("again").await["consent_expires_at"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_tells_nothing_is_asked_no_more_than_every_few_seconds_and_strangers_are_not_told() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    let asked = bank.count("abn", "api_calls").await;
    bank.fault("abn-api", 1, json!({"status": {"code": 500, "body": "<html>", "process": false}})).await;
    for _ in 0..3 {
        let failed = info(&sidecar, "c-1").await;
        assert_eq!((failed.status, failed.problem()), (StatusCode::BAD_GATEWAY, "info-failed".into()));
        assert_eq!(failed.json()["bank_status"], 500);
    }
    assert_eq!(bank.count("abn", "api_calls").await, asked + 1);
    sidecar.until("it is asked again", async || info(&sidecar, "c-1").await.status == StatusCode::OK).await;
    let url = sidecar.admin_url("/v1/consents/c-1/info");
    assert_eq!(sidecar.app.get(&url, &[]).await.problem(), "admin-key-needed");
    assert_eq!(info(&sidecar, "nobody").await.problem(), "consent-unknown");
    sidecar.import("over", &bank.grant(7_200).await).await;
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents/over?only_here=true");
    sidecar
        .app
        .send(crate::support::client::request(Method::DELETE, &url, &[("authorization", &key)], "".into()))
        .await;
    assert_eq!(info(&sidecar, "over").await.problem(), "consent-revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_whose_end_the_bank_has_told_is_over_then_though_its_token_would_live() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    bank.control(Method::PATCH, "/abn-amro/settings", &json!({ "consent_life_s": 12 })).await;
    sidecar.import("brief", &bank.grant(7_200).await).await;
    assert_eq!(sidecar.balances("brief").await.status, StatusCode::OK);
    let told = info(&sidecar, "brief").await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    assert_eq!(sidecar.balances("brief").await.status, StatusCode::OK, "until then it is served");
    sidecar
        .until_within(20, "its time is over", async || sidecar.balances("brief").await.problem() == "consent-expired")
        .await;
    sidecar.until("it is expired", async || sidecar.consent("brief").await["state"] == "expired").await;
    assert_eq!(sidecar.balances("brief").await.problem(), "consent-expired");
    assert_eq!(bank.refreshes().await, 0, "a refresh would not help");
}
