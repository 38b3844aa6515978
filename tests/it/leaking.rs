//! Secrets are found nowhere they can be read: no log at any level, no metric, no error, no spill, no dump of the store.
//!
//! The canaries are the real ones: every token the bank issued while the test ran, the client's secret, the API key, the
//! admin key and the seal key.

use std::fs;

use base64::Engine as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::sidecar::{ADMIN_KEY, Replica};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_in_anything_the_program_leaves_behind() {
    let bank = Bank::start().await;
    let redis =
        RedisServer::start_with(RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")).await;
    let replica = Replica::with_redis(&bank, &redis)
        .change("level: info", "level: trace")
        .environment("CONSENTRY_LOG", "trace,hyper=trace,rustls=trace,redis=trace,h2=trace");
    let mut sidecar = replica.start().await;
    let mut canaries = vec![ADMIN_KEY.to_owned(), "CANARY-seal-key".to_owned()];
    canaries.push(bank.endpoints["abn_amro"]["api_key"].as_str().unwrap().to_owned());
    canaries.push(bank.endpoints["norsk_gjeld"]["client_secret"].as_str().unwrap().to_owned());
    let mut seen = Vec::new();

    // A life of a consent: imported, served, expired, refreshed, rejected, refused, lost; and imports that fail.
    let granted = bank.grant(0).await;
    canaries.extend([granted.access.clone(), granted.refresh.clone()]);
    sidecar.import("c-1", &granted).await;
    for _ in 0..3 {
        seen.push(text(&sidecar.balances("c-1").await));
        canaries.push(current(&bank, &granted.bank_id).await);
        bank.control(Method::POST, "/abn-amro/expire-access-tokens", &json!(null)).await;
    }
    let person = json!({ "nin": "14842249091", "days": 30 });
    let debt = bank.control(Method::POST, "/norsk-gjeld/consents", &person).await;
    let url = sidecar.url(&format!("/debt/v1/debt/{}", debt["id"].as_str().unwrap()));
    assert_eq!(sidecar.app.get(&url, &[]).await.status, StatusCode::OK);
    seen.push(text(&sidecar.put_tokens("c-1", None, &granted.import).await));
    let mut wrong = granted.import.clone();
    wrong["expires_in"] = json!("CANARY-not-a-number");
    canaries.push("CANARY-not-a-number".to_owned());
    seen.push(text(&sidecar.put_tokens("c-2", None, &wrong).await));
    bank.fault("abn-token", 1, json!({ "html_200": true })).await;
    let lost = bank.grant(0).await;
    canaries.extend([lost.access.clone(), lost.refresh.clone()]);
    sidecar.import("c-3", &lost).await;
    seen.push(text(&sidecar.balances("c-3").await));
    canaries.push(current(&bank, &lost.bank_id).await);
    // A refusal, taken back, and a replaced grant, put back: what is told of them, and how they came to be.
    let refusal = json!({ "status": { "code": 400, "body": "{\"error\":\"invalid_grant\"}" } });
    bank.fault("abn-token", 1, refusal).await;
    let refused = bank.grant(0).await;
    canaries.extend([refused.access.clone(), refused.refresh.clone()]);
    sidecar.import("c-4", &refused).await;
    seen.push(text(&sidecar.balances("c-4").await));
    seen.push(text(&sidecar.revive("c-4", None, &json!({})).await));
    let other = bank.grant(0).await;
    canaries.extend([other.access.clone(), other.refresh.clone()]);
    let replaced = sidecar.put_tokens("c-4", Some(&sidecar.version("c-4").await), &other.import).await;
    assert_eq!(replaced.status, StatusCode::OK, "{replaced:?}");
    let revived = sidecar.revive("c-4", Some(&sidecar.version("c-4").await), &json!({ "replaced": true })).await;
    assert_eq!(revived.status, StatusCode::OK, "{revived:?}");
    seen.push(text(&revived));
    seen.push(text(&sidecar.balances("c-4").await));
    canaries.push(current(&bank, &refused.bank_id).await);
    for consent in ["c-1", "c-3", "c-4"] {
        let history = sidecar.history(consent).await;
        // A fingerprint would let whoever has a token find its consent.
        let fingerprint = history["refresh_token_fingerprint"].as_str().unwrap().to_owned();
        let events = history["events"].to_string();
        assert!(events.len() > 500 && !events.contains(&fingerprint), "{history}");
        seen.push(history.to_string());
        let lines = redis.cli(&["lrange", &format!("consentry:c:{{{consent}}}:ev"), "0", "-1"]);
        assert!(lines.contains("armed") && !lines.contains(&fingerprint), "{lines}");
        seen.push(lines);
    }
    seen.push(sidecar.consent("c-1").await.to_string());
    seen.push(sidecar.metrics().await);
    for path in sidecar.spills() {
        seen.push(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
    }
    assert!(sidecar.spills().len() >= 2, "there is something to look at");
    sidecar.program.signal("TERM");
    sidecar.program.ended().await;
    let log = sidecar.program.output();
    assert!(log.contains("A token set was imported."), "there is a log to look at: {log}");
    seen.push(log);
    let dump = fs::read_dir(redis.home().join("appendonlydir")).unwrap();
    let stored = dump.map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned());
    let stored = stored.collect::<String>();
    assert!(stored.contains("c:{c-1}"), "the record is in the dump");
    seen.push(stored);

    for canary in canaries {
        assert!(canary.len() > 8);
        let encoded = base64::engine::general_purpose::STANDARD.encode(&canary);
        for place in &seen {
            assert!(!place.contains(&canary), "{canary} is in:\n{place}");
            assert!(!place.contains(&encoded), "{canary}, in base64, is in:\n{place}");
        }
    }
}

async fn current(bank: &Bank, id: &str) -> String {
    bank.consent(id).await["refresh_token"].as_str().unwrap().to_owned()
}

/// All of an answer, headers included.
fn text(answer: &crate::support::client::Answer) -> String {
    let body = serde_json::from_slice::<Value>(&answer.body)
        .map_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned(), |json| json.to_string());
    format!("{:?}\n{:?}\n{body}", answer.status, answer.headers)
}
