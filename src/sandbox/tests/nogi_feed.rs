//! Norsk Gjeldsinformasjon's feed of consent events, and creditors that do not answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::Bench;

const FEED: &str = "/feed/v1/consent";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn token(bench: &Bench, service: &str, scope: &str) -> String {
    let audience = format!("{}{service}", bench.endpoints.norsk_gjeld.api);
    let form = format!("grant_type=client_credentials&audience={audience}&scope={scope}");
    bench.nogi_token(&form).await.expect("answers").tokens().1
}

async fn read(bench: &Bench, path: &str) -> Value {
    let token = token(bench, FEED, "client.access.consent.events").await;
    let reply = bench.nogi_api("GET", &format!("{FEED}{path}"), &token, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()
}

async fn create(bench: &Bench, wanted: Value) -> String {
    let created = bench.control("POST", "/norsk-gjeld/consents", wanted).await.json();
    created["id"].as_str().expect("an id").to_owned()
}

/// Numbers, kinds and consents of a page.
fn told(page: &Value) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let events = page["result"].as_array().expect("a list").iter();
    events
        .map(|event| {
            let number = event["sequenceNr"].as_u64().expect("a number");
            (number, text(&event["eventType"]), text(&event["consentId"]))
        })
        .collect()
}

#[tokio::test]
async fn a_registered_consent_is_told_when_it_begins_and_when_it_is_archived() {
    let bench = Bench::new().await;
    let own = token(&bench, "/v1/consent/agreement", "consent.create").await;
    let agreement = json!({
        "nin": "14842249091", "scope_of_consent": "debt.unsecured.presentation", "consent_duration_days": 30,
        "client_consent_id": "mine-1",
    });
    let agreed = bench.nogi_api("PUT", "/v1/consent/agreement", &own, &agreement).await.json();
    let id = agreed["consent"]["id"].as_str().expect("an id").to_owned();
    bench.clock.advance(Duration::from_secs(1));
    bench.control("POST", &format!("/norsk-gjeld/consents/{id}/revoke"), Value::Null).await;
    let page = read(&bench, "?fromSequenceNr=1&limit=500").await;
    let (created, archived) = (&page["result"][0], &page["result"][1]);
    assert_eq!((&page["startSequenceNr"], &page["endSequenceNr"]), (&json!(1), &json!(2)));
    assert_eq!(page["generatedAt"], "2026-11-22T00:00:01Z");
    assert_eq!(
        (&created["eventType"], &created["timestamp"]),
        (&json!("SAMTYKKE_OPPRETTET"), &json!("2026-11-22T00:00:00Z"))
    );
    let inner = json!({
        "clientId": "my-client", "consentId": id, "scope": "debt.unsecured.presentation",
        "externalConsentId": "mine-1",
    });
    assert_eq!((&created["samtykkeOpprettetEvent"], &created["samtykkeArkivertEvent"]), (&inner, &Value::Null));
    assert_eq!((&archived["eventType"], &archived["consentId"]), (&json!("SAMTYKKE_ARKIVERT"), &json!(id)));
    let inner = json!({"clientId": "my-client", "consentId": "mine-1"});
    assert_eq!((&archived["samtykkeArkivertEvent"], &archived["samtykkeOpprettetEvent"]), (&inner, &Value::Null));
}

#[tokio::test]
async fn a_consent_that_is_used_up_or_runs_out_is_archived_once() {
    let bench = Bench::new().await;
    let debt = token(&bench, "/v1/debt", "debt.unsecured.presentation").await;
    let used = create(&bench, Value::Null).await;
    let late = create(&bench, Value::Null).await;
    bench.nogi_api("GET", &format!("/v1/debt/{used}"), &debt, &Value::Null).await;
    bench.clock.advance(Duration::from_secs(660));
    let (opened, archived) = ("SAMTYKKE_OPPRETTET".to_owned(), "SAMTYKKE_ARKIVERT".to_owned());
    let wanted = vec![
        (1, opened.clone(), used.clone()),
        (2, opened, late.clone()),
        (3, archived.clone(), used),
        (4, archived, late),
    ];
    for _ in 0..2 {
        let page = read(&bench, "").await;
        assert_eq!(told(&page), wanted);
        assert_eq!(page["result"][3]["timestamp"], "2026-11-22T00:10:00Z", "when it ran out, not when it was noticed");
    }
}

#[tokio::test]
async fn pages_go_on_by_number_over_gaps_and_an_empty_one_loses_nothing() {
    let bench = Bench::new().await;
    let empty = read(&bench, "").await;
    assert_eq!((&empty["startSequenceNr"], &empty["endSequenceNr"]), (&json!(1), &json!(0)));
    assert_eq!(empty["result"], json!([]));
    let first = create(&bench, json!({"days": 1})).await;
    bench.control("POST", "/norsk-gjeld/feed/skip", json!({"numbers": 5})).await;
    let second = create(&bench, json!({"days": 1})).await;
    let third = create(&bench, json!({"days": 1})).await;
    let opened = "SAMTYKKE_OPPRETTET".to_owned();
    let page = read(&bench, "?limit=2").await;
    assert_eq!(told(&page), [(1, opened.clone(), first), (7, opened.clone(), second)]);
    let page = read(&bench, "?fromSequenceNr=8").await;
    assert_eq!(told(&page), [(8, opened, third)]);
    assert_eq!(read(&bench, "/firstSequenceNr").await, json!({"firstSequenceNr": 1}));
    assert_eq!(read(&bench, "/lastSequenceNr").await, json!({"lastSequenceNr": 8}));
}

#[tokio::test]
async fn events_are_kept_for_seven_days() {
    let bench = Bench::new().await;
    create(&bench, json!({"days": 300})).await;
    bench.clock.advance(DAY * 7);
    create(&bench, json!({"days": 300})).await;
    assert_eq!(read(&bench, "/firstSequenceNr").await["firstSequenceNr"], 1);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(read(&bench, "/firstSequenceNr").await["firstSequenceNr"], 2);
    assert_eq!(told(&read(&bench, "").await).len(), 1);
}

#[tokio::test]
async fn the_feed_is_for_the_clients_token_of_its_own_audience_and_scope() {
    let bench = Bench::new().await;
    let debt = token(&bench, "/v1/debt", "client.access.consent.events").await;
    let scopeless = token(&bench, FEED, "consent.create").await;
    let good = token(&bench, FEED, "client.access.consent.events").await;
    let cases = [
        (FEED, "unknown", 401),
        (FEED, &debt, 403),
        (FEED, &scopeless, 403),
        ("/feed/v1/consent?limit=0", &good, 400),
        ("/feed/v1/consent?fromSequenceNr=x", &good, 400),
        ("/feed/v1/consents", &good, 404),
        ("/feed/v1/consent/other", &good, 404),
    ];
    for (path, token, status) in cases {
        let reply = bench.nogi_api("GET", path, token, &Value::Null).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}

#[tokio::test]
async fn creditors_that_do_not_answer_are_named_with_no_loan() {
    let bench = Bench::new().await;
    bench.control("PATCH", "/norsk-gjeld/settings", json!({"creditors_missing": 2})).await;
    let id = create(&bench, json!({"days": 30})).await;
    let own = token(&bench, "/v1/debt", "debt.unsecured.presentation").await;
    let debt = bench.nogi_api("GET", &format!("/v1/debt/{id}"), &own, &Value::Null).await.json();
    assert_eq!((&debt["numberOfCreditorsAnswered"], &debt["numberOfcreditorsMissing"]), (&json!(1), &json!(2)));
    assert_eq!((&debt["loans"][1]["loan"], debt["loans"].as_array().map(Vec::len)), (&Value::Null, Some(3)));
}
