//! A bank's feed of events: what has ended there ends here before an app runs into it, whoever reads and whatever happens.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::client::Answer;
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

/// Reads the feed every second; a lease of a reader that died is over after some five.
fn reading(replica: Replica) -> Replica {
    replica
        .change("  norsk-gjeld:\n", "  norsk-gjeld:\n    feed: {read: true, every: 1s}\n")
        .environment("CONSENTRY_TIME_SCALE", "10")
}

/// A Redis that keeps what it acknowledged.
async fn durable_redis() -> RedisServer {
    RedisServer::start_with(RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")).await
}

/// A consent at Norsk Gjeldsinformasjon for some days; the bank's name for it.
async fn agree(bank: &Bank) -> String {
    let registered = bank.control(Method::POST, "/norsk-gjeld/consents", &json!({ "days": 30 })).await;
    registered["id"].as_str().unwrap().to_owned()
}

async fn archive(bank: &Bank, bank_id: &str) {
    bank.control(Method::POST, &format!("/norsk-gjeld/consents/{bank_id}/revoke"), &Value::Null).await;
}

/// Stored here under a name of its own, or the bank's.
async fn store(sidecar: &Sidecar, consent: &str, bank_id: Option<&str>) {
    let mut set = json!({"provider": "norsk-gjeld", "access_token": "x", "expires_in": 3_600});
    if let Some(bank_id) = bank_id {
        set["bank_consent_id"] = json!(bank_id);
    }
    assert_eq!(sidecar.put_tokens(consent, None, &set).await.status, StatusCode::CREATED);
}

async fn debt(sidecar: &Sidecar, consent: &str) -> Answer {
    sidecar.app.get(&sidecar.url(&format!("/debt/v1/debt/{consent}")), &[]).await
}

async fn is_revoked(sidecar: &Sidecar, consent: &str) -> bool {
    sidecar.consent(consent).await["state"] == "revoked"
}

/// The sum of a metric's series that have all of these in their labels.
async fn metric(sidecar: &Sidecar, name: &str, labels: &[&str]) -> u64 {
    let metrics = sidecar.metrics().await;
    let lines =
        metrics.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

async fn events(sidecar: &Sidecar, outcome: &str) -> u64 {
    metric(sidecar, "consentry_feed_events_total", &[&format!("outcome=\"{outcome}\"")]).await
}

async fn reads(sidecar: &Sidecar, outcome: &str) -> u64 {
    metric(sidecar, "consentry_feed_reads_total", &[&format!("outcome=\"{outcome}\"")]).await
}

async fn until_it_reads(sidecar: &Sidecar) {
    sidecar.until("it has read the feed", async || reads(sidecar, "read").await > 0).await;
}

/// The events of a consent's history, and their words.
async fn told(sidecar: &Sidecar, consent: &str) -> Vec<(String, String)> {
    let history = sidecar.history(consent).await;
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    history["events"].as_array().unwrap().iter().map(|event| (text(event, "event"), text(event, "why"))).collect()
}

fn seeded_and_ended() -> Vec<(String, String)> {
    vec![("seeded".into(), String::new()), ("ended".into(), "bank_says_ended".into())]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_consent_is_revoked_here_before_an_app_asks_the_bank() {
    for embedded in [false, true] {
        let (bank, redis) = (Bank::start().await, RedisServer::start().await);
        let replica = if embedded { Replica::embedded(&bank) } else { Replica::with_redis(&bank, &redis) };
        let replica = reading(replica);
        let sidecar = replica.start().await;
        let (named, own, stays) = (agree(&bank).await, agree(&bank).await, agree(&bank).await);
        store(&sidecar, "by-another-name", Some(&named)).await;
        store(&sidecar, &own, None).await;
        store(&sidecar, "stays", Some(&stays)).await;
        // The bank's name of one consent is our name of another, which is not meant.
        let innocent = agree(&bank).await;
        store(&sidecar, &innocent, Some(&stays)).await;
        assert_eq!(debt(&sidecar, &own).await.status, StatusCode::OK);
        for bank_id in [&named, &own, &innocent] {
            archive(&bank, bank_id).await;
        }
        // Of this one nothing is stored, and nothing is afterwards.
        let stranger = agree(&bank).await;
        archive(&bank, &stranger).await;
        for consent in ["by-another-name", &own] {
            sidecar.until("it is revoked", async || is_revoked(&sidecar, consent).await).await;
            assert_eq!(told(&sidecar, consent).await, seeded_and_ended());
            assert_eq!(debt(&sidecar, consent).await.problem(), "consent-revoked");
        }
        sidecar.until("all were applied", async || events(&sidecar, "unknown").await == 2).await;
        for consent in ["stays", &innocent] {
            assert_eq!(sidecar.consent(consent).await["state"], "active");
        }
        let url = sidecar.admin_url(&format!("/v1/consents/{stranger}"));
        assert_eq!(sidecar.app.get(&url, &[]).await.problem(), "consent-unknown");
        assert_eq!(events(&sidecar, "ended").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_reads_at_a_time_and_all_know_at_once() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas = [reading(Replica::with_redis(&bank, &redis)), reading(Replica::with_redis(&bank, &redis))];
    let first = replicas[0].start().await;
    until_it_reads(&first).await;
    let second = replicas[1].start().await;
    second.until("it knows that it is not its turn", async || reads(&second, "elsewhere").await > 0).await;
    let bank_id = agree(&bank).await;
    store(&second, &bank_id, None).await;
    assert_eq!(debt(&second, &bank_id).await.status, StatusCode::OK);
    archive(&bank, &bank_id).await;
    second.until("it is revoked", async || is_revoked(&second, &bank_id).await).await;
    second.until("it answers so", async || debt(&second, &bank_id).await.problem() == "consent-revoked").await;
    assert_eq!((reads(&second, "read").await, events(&second, "ended").await), (0, 0));
    assert_eq!(events(&first, "ended").await, 1);

    // It ends in peace, and gives the right back: the other goes on at once, and reads nothing twice.
    first.program.signal("TERM");
    let next = agree(&bank).await;
    store(&second, "next", Some(&next)).await;
    archive(&bank, &next).await;
    second.until("it is revoked", async || is_revoked(&second, "next").await).await;
    assert_eq!((events(&second, "ended").await, events(&second, "ended_before").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_before_it_could_say_how_far_it_came_is_replaced_and_nothing_is_passed_over() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let doomed = reading(Replica::with_redis(&bank, &redis)).environment("CONSENTRY_FAILPOINTS", "after-feed=kill");
    let mut first = doomed.start().await;
    until_it_reads(&first).await;
    let (early, late) = (agree(&bank).await, agree(&bank).await);
    store(&first, "early", Some(&early)).await;
    store(&first, "late", Some(&late)).await;
    archive(&bank, &early).await;
    first.program.ended().await;
    let replica = reading(Replica::with_redis(&bank, &redis));
    let second = replica.start().await;
    assert!(is_revoked(&second, "early").await, "it was applied");
    archive(&bank, &late).await;
    second.until_within(20, "it is revoked", async || is_revoked(&second, "late").await).await;
    for consent in ["early", "late"] {
        assert_eq!(told(&second, consent).await, seeded_and_ended(), "{consent}");
    }
    assert_eq!((events(&second, "ended").await, events(&second, "ended_before").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_in_between_costs_no_event() {
    let (bank, mut redis) = (Bank::start().await, durable_redis().await);
    let replica = reading(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    until_it_reads(&sidecar).await;
    let (before, after) = (agree(&bank).await, agree(&bank).await);
    store(&sidecar, "before", Some(&before)).await;
    store(&sidecar, "after", Some(&after)).await;
    redis.stop();
    archive(&bank, &before).await;
    sidecar.until("it has noticed", async || reads(&sidecar, "store_failed").await > 0).await;
    redis.start_again().await;
    archive(&bank, &after).await;
    for consent in ["before", "after"] {
        let revoked = async || {
            let answer = sidecar.app.get(&sidecar.admin_url(&format!("/v1/consents/{consent}")), &[]).await;
            answer.status == StatusCode::OK && answer.json()["state"] == "revoked"
        };
        sidecar.until_within(20, "it is revoked", revoked).await;
        assert_eq!(told(&sidecar, consent).await, seeded_and_ended(), "{consent}");
    }
    let position = redis.cli(&["HGET", "consentry:f:{norsk-gjeld}", "pos"]);
    sidecar.until("nothing is read twice", async || reads(&sidecar, "read").await > 3).await;
    assert_eq!(redis.cli(&["HGET", "consentry:f:{norsk-gjeld}", "pos"]), position);
    assert_eq!(events(&sidecar, "ended").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_page_moves_nothing_and_the_next_that_is_one_does() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reading(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    until_it_reads(&sidecar).await;
    let bank_id = agree(&bank).await;
    store(&sidecar, "c-1", Some(&bank_id)).await;
    let says = |code: u16, body: &str| json!({"status": {"code": code, "body": body, "process": false}});
    let rubbish = r#"{"result": [{"sequenceNr": 77, "eventType": "SAMTYKKE_ARKIVERT"}, {"sequenceNr": "x"}]}"#;
    for (fault, outcome) in [
        (says(200, "<html>"), "no_page"),
        (says(200, rubbish), "no_page"),
        (says(500, "{}"), "no_answer"),
        (says(404, "{}"), "refused"),
        (json!({"drop_before_processing": true}), "no_answer"),
    ] {
        let seen = reads(&sidecar, outcome).await;
        bank.fault("nogi-api", 1, fault).await;
        sidecar.until_within(30, outcome, async || reads(&sidecar, outcome).await > seen).await;
    }
    archive(&bank, &bank_id).await;
    sidecar.until_within(60, "it is revoked", async || is_revoked(&sidecar, "c-1").await).await;
    assert_eq!(told(&sidecar, "c-1").await, seeded_and_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_at_a_provider_that_is_frozen_and_all_of_it_after_a_thaw() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reading(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    until_it_reads(&sidecar).await;
    let order = async |what: &str| {
        let url = sidecar.admin_url(&format!("/v1/providers/norsk-gjeld/{what}"));
        let key = format!("Bearer {ADMIN_KEY}");
        let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    let bank_id = agree(&bank).await;
    store(&sidecar, "c-1", Some(&bank_id)).await;
    order("freeze").await;
    sidecar.until("it has noticed", async || reads(&sidecar, "frozen").await > 0).await;
    archive(&bank, &bank_id).await;
    let asked = bank.count("norsk_gjeld", "api_calls").await;
    let seen = reads(&sidecar, "frozen").await;
    sidecar.until("it has looked again", async || reads(&sidecar, "frozen").await > seen + 1).await;
    assert_eq!(bank.count("norsk_gjeld", "api_calls").await, asked);
    assert!(!is_revoked(&sidecar, "c-1").await);
    order("thaw").await;
    sidecar.until("it is revoked", async || is_revoked(&sidecar, "c-1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_fit_on_a_page_are_read_page_after_page() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    for _ in 0..120 {
        archive(&bank, &agree(&bank).await).await;
    }
    let last = agree(&bank).await;
    let replica = reading(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    store(&sidecar, "last", Some(&last)).await;
    archive(&bank, &last).await;
    sidecar.until_within(20, "it is revoked", async || is_revoked(&sidecar, "last").await).await;
    let position = redis.cli(&["HGET", "consentry:f:{norsk-gjeld}", "pos"]);
    assert_eq!(position.trim(), "\"243\"", "121 consents, two events each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_not_read_the_feed_is_told_so_and_asks_for_no_token_every_second() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let refused = json!({"status": {"code": 400, "body": r#"{"error":"invalid_scope"}"#, "process": false}});
    bank.fault("nogi-token", 9, refused).await;
    let replica = reading(Replica::with_redis(&bank, &redis));
    let mut sidecar = replica.start().await;
    sidecar.until("it is refused", async || reads(&sidecar, "not_allowed").await == 1).await;
    let log = "The bank gives our client no token for its feed of events: have it registered for that, or set feed: {read: false}.";
    sidecar.program.logged(log).await;
    // Everything else at this bank goes on.
    bank.control(Method::DELETE, "/faults", &Value::Null).await;
    let bank_id = agree(&bank).await;
    sidecar.until("its debt is read", async || debt(&sidecar, &bank_id).await.status == StatusCode::OK).await;
    assert_eq!((reads(&sidecar, "not_allowed").await, reads(&sidecar, "read").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_replaced_while_it_read_does_not_move_the_position() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reading(Replica::with_redis(&bank, &redis));
    let sidecar = replica.start().await;
    until_it_reads(&sidecar).await;
    let position = || redis.cli(&["HGET", "consentry:f:{norsk-gjeld}", "pos"]);
    let before = position();
    bank.fault("nogi-api", 3, json!({ "delay_ms": 1_500 })).await;
    let asked = bank.count("norsk_gjeld", "api_calls").await;
    sidecar.until("it asks", async || bank.count("norsk_gjeld", "api_calls").await > asked).await;
    redis.cli(&["HINCRBY", "consentry:f:{norsk-gjeld}", "fence", "1"]);
    sidecar.until("it has noticed", async || reads(&sidecar, "lost").await > 0).await;
    assert_eq!(position(), before);
    let seen = reads(&sidecar, "read").await;
    sidecar.until("it reads again", async || reads(&sidecar, "read").await > seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_keeps_nothing_up_and_a_feed_that_nobody_read_for_too_long_is_told() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = reading(Replica::with_redis(&bank, &redis));
    let mut sidecar = replica.start().await;
    until_it_reads(&sidecar).await;
    let (strange, plain) = (agree(&bank).await, agree(&bank).await);
    store(&sidecar, "strange", Some(&strange)).await;
    store(&sidecar, "plain", Some(&plain)).await;
    redis.cli(&["HSET", "consentry:c:{strange}", "v", "9"]);
    archive(&bank, &strange).await;
    archive(&bank, &plain).await;
    sidecar.until("the other is revoked", async || is_revoked(&sidecar, "plain").await).await;
    assert_eq!((events(&sidecar, "unreadable").await, events(&sidecar, "ended").await), (1, 1));
    assert_eq!(redis.cli(&["HGET", "consentry:c:{strange}", "st"]).trim(), "\"active\"");
    redis.cli(&["HSET", "consentry:f:{norsk-gjeld}", "at", "1000"]);
    let log = "Nobody has read the bank's feed for longer than it keeps events. Consents may have ended at the bank without a word here.";
    sidecar.program.logged(log).await;
}
