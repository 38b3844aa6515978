//! What an operator is told: the history of a consent, why it is as it is, and how a refusal is taken back.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::program::consentry;
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::Replica;

/// A replica whose admin listener the command line finds.
fn reachable(replica: Replica) -> Replica {
    replica.change("admin: {listen: \"127.0.0.1:0\"", &format!("admin: {{listen: \"127.0.0.1:{}\"", free_port()))
}

fn run(replica: &Replica, arguments: &[&str]) -> (i32, String) {
    let config = replica.write();
    let output = consentry().arg("consent").args(arguments).arg("--config").arg(config).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap(), text)
}

/// The kinds and classes of what is told, oldest first.
fn told(history: &Value) -> Vec<String> {
    let word = |event: &Value, name: &str| event[name].as_str().map(|word| format!(" {word}")).unwrap_or_default();
    let events = history["events"].as_array().unwrap();
    events.iter().map(|event| format!("{}{}", event["event"].as_str().unwrap(), word(event, "why"))).collect()
}

const REFUSED: &str = r#"{"error":"invalid_grant"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_told_with_the_banks_answer_and_what_comes_next() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reachable(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({ "status": { "code": 503, "body": "<html>", "process": true } })).await;
    assert_eq!(sidecar.balances("c-1").await.problem(), "token-refresh-uncertain");
    sidecar.until("it is stored", async || sidecar.consent("c-1").await["state"] == "uncertain").await;

    let view = sidecar.history("c-1").await;
    assert_eq!(told(&view), ["seeded", "armed", "uncertain server_error"]);
    assert_eq!(
        (&view["state"], &view["phase"], &view["who_acts"]),
        (&json!("uncertain"), &json!("uncertain"), &json!("nobody"))
    );
    assert!(view["next_attempt_at"].is_string() && view["events_missing"].is_null(), "{view}");
    let last = &view["events"][2];
    assert_eq!((&last["bank_status"], &last["sent_late"]), (&json!(503), &json!(false)));
    assert_eq!(last["attempt"], view["events"][1]["attempt"], "who armed is who reported");

    let (code, story) = run(&replica, &["why", "c-1"]);
    assert_eq!(code, 0, "{story}");
    for expected in [
        "c-1 at abn-amro: uncertain",
        "A refresh was sent and nobody knows whether the bank processed it: the bank answered with an error of its own",
        "(HTTP 503",
        "more; then the bank is asked once more.",
        "Who acts: nobody.",
        "wrote down that it spends the refresh token",
        last["attempt"].as_str().unwrap(),
        last["at"].as_str().unwrap(),
    ] {
        assert!(story.contains(expected), "{expected} is not in:\n{story}");
    }
    let (code, shown) = run(&replica, &["why", "c-1", "--json"]);
    assert_eq!((code, told(&serde_json::from_str(&shown).unwrap())), (0, told(&view)));
    let refused = sidecar.revive("c-1", None, &json!({})).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::CONFLICT, "consent-not-suspended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_was_a_mistake_is_taken_back() {
    let bank = Bank::start().await;
    let redis = RedisServer::start().await;
    for replica in [reachable(Replica::with_redis(&bank, &redis)), reachable(Replica::embedded(&bank))] {
        let sidecar = replica.start().await;
        let granted = bank.grant(0).await;
        sidecar.import("c-1", &granted).await;
        let fault = json!({ "status": { "code": 400, "body": REFUSED } });
        bank.fault("abn-token", 1, fault.clone()).await;
        assert_eq!(sidecar.balances("c-1").await.problem(), "consent-reauthorization-required");
        let (code, story) = run(&replica, &["why", "c-1"]);
        assert_eq!(code, 0, "{story}");
        for expected in [
            "can no longer be renewed: the bank no longer accepts the refresh token, and nothing on our side explains it (HTTP 400",
            "Who acts: app.",
            "Send the customer to the bank to consent again.",
            "`consentry consent revive`",
        ] {
            assert!(story.contains(expected), "{expected} is not in:\n{story}");
        }

        let version = sidecar.version("c-1").await;
        let foreign = version.replace(version.split_once('.').unwrap().0, &"0".repeat(32));
        let (code, said) = run(&replica, &["revive", "c-1", "--if-match", &foreign]);
        assert!(code == 1 && said.contains(&version), "{said}");
        let (code, said) = run(&replica, &["revive", "c-1", "--if-match", &version]);
        assert_eq!(code, 0, "{said}");
        let (_, story) = run(&replica, &["why", "c-1"]);
        assert!(story.contains("A person revived it, and the next call tries the refresh token."), "{story}");
        assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
        let refused = sidecar.revive("c-1", None, &json!({})).await;
        assert_eq!(refused.problem(), "consent-not-suspended");

        sidecar.until("it is committed", async || told(&sidecar.history("c-1").await).len() == 6).await;
        let view = sidecar.history("c-1").await;
        let expected = ["seeded", "armed", "suspended revoked_or_expired", "revived", "armed", "committed"];
        assert_eq!((told(&view), &view["who_acts"]), (expected.map(str::to_owned).to_vec(), &json!("nobody")));
        assert_eq!(view["events"][5]["bank_status"], 200);
    }
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_an_import_replaced_by_mistake_comes_back() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reachable(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    let granted = bank.grant(7_200).await;
    sidecar.import("c-1", &granted).await;
    let nothing = sidecar.revive("c-1", Some(&sidecar.version("c-1").await), &json!({ "replaced": true })).await;
    assert_eq!((nothing.status, nothing.problem().as_str()), (StatusCode::CONFLICT, "nothing-to-revive"));
    let wrong =
        json!({ "provider": "abn-amro", "access_token": "wrong", "refresh_token": "wrong", "expires_in": 7_200 });
    let replaced = sidecar.put_tokens("c-1", Some(&sidecar.version("c-1").await), &wrong).await;
    assert_eq!(replaced.status, StatusCode::OK, "{replaced:?}");

    let version = sidecar.version("c-1").await;
    let unnamed = sidecar.revive("c-1", None, &json!({ "replaced": true })).await;
    assert_eq!(
        (unnamed.status, unnamed.problem().as_str()),
        (StatusCode::PRECONDITION_REQUIRED, "precondition-required")
    );
    assert_eq!(unnamed.json()["current"], version.as_str());
    assert_eq!(
        run(&replica, &["revive", "c-1", "--replaced"]).0,
        64,
        "which version it takes the place of is to be said"
    );
    let (code, said) = run(&replica, &["revive", "c-1", "--replaced", "--if-match", &version]);
    assert_eq!(code, 0, "{said}");
    sidecar.until("the old one is tried", async || sidecar.balances("c-1").await.status == StatusCode::OK).await;
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (1, 0));
    sidecar.until("it is committed", async || told(&sidecar.history("c-1").await).len() == 5).await;
    let expected = ["seeded", "replaced", "revived replaced", "armed", "committed"];
    assert_eq!(told(&sidecar.history("c-1").await), expected);

    // Now the wrong one is kept, and a mistaken revival can be taken back in the same way.
    for _ in 0..2 {
        let again = sidecar.revive("c-1", Some(&sidecar.version("c-1").await), &json!({ "replaced": true })).await;
        assert_eq!(again.status, StatusCode::OK, "{again:?}");
    }
    let served = async || sidecar.balances("c-1").await.status == StatusCode::OK && bank.refreshes().await == 2;
    sidecar.until("the good one is tried", served).await;
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_process_the_store_itself_is_asked() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reachable(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({ "status": { "code": 400, "body": REFUSED } })).await;
    assert_eq!(sidecar.balances("c-1").await.problem(), "consent-reauthorization-required");
    drop(sidecar);
    let (code, story) = run(&replica, &["why", "c-1"]);
    assert!(code == 0 && story.contains("can no longer be renewed"), "{story}");
    let (code, shown) = run(&replica, &["revive", "c-1", "--json"]);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["state"], "active");
    assert_eq!(run(&replica, &["why", "nobody"]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_stay_at_zero_is_there_from_the_start() {
    let bank = Bank::start().await;
    let sidecar = Replica::embedded(&bank).start().await;
    let metrics = sidecar.metrics().await;
    for cause in ["lost_reply", "late_send", "double_send", "store_forgot"] {
        let line = format!("consentry_consents_lost_total{{provider=\"abn-amro\",cause=\"{cause}\"}} 0");
        assert!(metrics.contains(&line), "{line} is not in:\n{metrics}");
    }
    for line in [
        "consentry_late_send_detected_total{provider=\"abn-amro\"} 0",
        "consentry_store_rollback_total{kind=\"commit\"} 0",
        "consentry_store_rollback_total{kind=\"restore\"} 0",
        "consentry_refresh_overhead_seconds_count 0",
        "consentry_lease_wait_seconds_count 0",
        "consentry_quarantine_seconds_count 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
}
