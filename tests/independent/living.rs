//! Consents that are granted by a customer, renewed for as long as somebody calls, and revoked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::house::{CLIENTS, Client, House, MTLS, PS256, call, callback_port, revoke};
use crate::support::client::Answer;
use crate::support::sidecar::Sidecar;

/// How many refreshes each consent lives through.
const GENERATIONS: usize = 4;

/// What apps were answered.
#[derive(Default)]
struct Answers {
    over: AtomicBool,
    served: AtomicUsize,
    /// Told to come again, since the server did not take a connection in time: on a machine that is busy with other things.
    later: AtomicUsize,
    surprises: Mutex<Vec<String>>,
}

impl Answers {
    fn take(&self, name: &str, answer: &Answer) {
        if answer.status == StatusCode::OK && answer.json()["sub"] == "customer" {
            self.served.fetch_add(1, Ordering::Relaxed);
        } else if answer.problem() == "token-endpoint-unavailable" {
            self.later.fetch_add(1, Ordering::Relaxed);
        } else {
            self.surprises.lock().unwrap().push(format!("{name}: {answer:?}"));
        }
    }
}

/// Apps of both replicas call, all the while, until the server has renewed every consent so often.
async fn call_until_renewed(house: &House, sidecars: &[Sidecar]) {
    let answers = Arc::<Answers>::default();
    let mut apps = JoinSet::new();
    for sidecar in sidecars {
        for Client { name, .. } in CLIENTS {
            let (app, url, answers) = (sidecar.app.clone(), sidecar.url(&format!("/{name}/me")), Arc::clone(&answers));
            apps.spawn(async move {
                let consent = format!("of-{name}");
                let header = [("consent-id", consent.as_str())];
                while !answers.over.load(Ordering::Relaxed) {
                    let (one, other) = tokio::join!(app.get(&url, &header), app.get(&url, &header));
                    answers.take(name, &one);
                    answers.take(name, &other);
                    sleep(Duration::from_millis(50)).await;
                }
            });
        }
    }
    let renewed = async || {
        let is_done = |client: &Client| house.server.refreshes(client.id).len() >= GENERATIONS;
        CLIENTS.iter().all(is_done) || !answers.surprises.lock().unwrap().is_empty()
    };
    sidecars[0].until_within(90, "every consent is renewed", renewed).await;
    answers.over.store(true, Ordering::Relaxed);
    while let Some(app) = apps.join_next().await {
        app.unwrap();
    }
    let surprises = answers.surprises.lock().unwrap();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let [served, later] = [&answers.served, &answers.later].map(|count| count.load(Ordering::Relaxed));
    assert!(later * 20 <= served, "{later} calls were put off, and {served} served");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_our_client_proves_itself_by_a_consent_is_granted_renewed_once_each_time_and_revoked() {
    let house = House::new().await;
    let homes = [house.replica(), house.replica_at(callback_port())]
        .map(|replica| replica.change("level: info", "level: trace"));
    let sidecars = [homes[0].start().await, homes[1].start().await];
    for client in &CLIENTS {
        house.grant(&sidecars[0], client, &format!("of-{}", client.name)).await;
    }
    call_until_renewed(&house, &sidecars).await;
    assert_eq!(house.server.grants_revoked(), 0);
    for client in &CLIENTS {
        let (name, asked) = (client.name, house.server.asked("token", client.id));
        for line in &asked {
            assert_eq!((&line["status"], &line["proof"]), (&json!(200), &json!(client.proof)), "{name}: {line}");
            assert_eq!(line["id_token"], true, "{name}: it came unasked for, and was passed over");
        }
        assert_eq!(asked[0]["grant_type"], "authorization_code", "{name}");
        // From the code on, each refresh presents what the one before it brought.
        let mut current = asked[0]["issued"].as_str().unwrap().to_owned();
        for (presented, issued) in house.server.refreshes(client.id) {
            assert_eq!(presented, current, "{name}");
            current = issued;
        }
        assert!(house.server.presented(client.id).values().all(|times| *times == 1), "{name}");
    }

    for client in &CLIENTS {
        let (name, consent) = (client.name, format!("of-{}", client.name));
        let revoked = revoke(&sidecars[1], &consent).await;
        assert_eq!((revoked.status, &revoked.json()["at_bank"]), (StatusCode::OK, &json!("revoked")), "{name}");
        let asked = house.server.asked("revocation", client.id);
        assert_eq!(asked[0]["presented"], house.server.refreshes(client.id).last().unwrap().1, "{name}: the newest");
        for line in &asked {
            assert_eq!((&line["status"], &line["proof"]), (&json!(200), &json!(client.proof)), "{name}: {line}");
        }
        for sidecar in &sidecars {
            let is_told = async || call(sidecar, client, &consent).await.problem() == "consent-revoked";
            sidecar.until("every replica knows that it is revoked", is_told).await;
        }
    }
    assert_eq!(house.server.grants_revoked(), CLIENTS.len());

    // Nothing that the server gave or was given is in a log, at any level.
    let output = sidecars.each_ref().map(|sidecar| sidecar.program.output()).concat();
    for line in house.server.log() {
        for secret in [&line["presented"], &line["issued"]].into_iter().filter_map(|secret| secret.as_str()) {
            assert!(!output.contains(secret), "{secret} is in the log");
        }
    }
    assert!(!output.contains("eyJ"), "an assertion or an id_token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_that_find_the_token_expired_at_two_replicas_spend_each_refresh_token_once() {
    let house = House::new().await;
    let homes = [house.replica(), house.replica_at(callback_port())];
    let sidecars = [homes[0].start().await, homes[1].start().await];
    house.grant(&sidecars[0], &PS256, "customer-1").await;
    for round in 1..=2 {
        // Callers are served as soon as a token is on disk; the store may have it a moment later.
        let expired = async || {
            let view = sidecars[0].consent("customer-1").await;
            view["generation"] == round
                && view["access_token_expires_in"] == 0
                && view["access_token_expires_at"].is_null()
        };
        sidecars[0].until_within(30, "nobody calls, and the token expires", expired).await;
        assert_eq!(house.server.refreshes(PS256.id).len(), round - 1, "nobody has called");
        let mut calls = JoinSet::new();
        for sidecar in &sidecars {
            for _ in 0..20 {
                let (app, url) = (sidecar.app.clone(), sidecar.url("/ps256/me"));
                calls.spawn(async move { app.get(&url, &[("consent-id", "customer-1")]).await });
            }
        }
        while let Some(answer) = calls.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
        assert_eq!(house.server.refreshes(PS256.id).len(), round, "forty calls cost one refresh");
    }
    assert!(house.server.presented(PS256.id).values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_bound_to_our_certificate_is_of_use_only_with_it() {
    let house = House::new().await;
    // The api shows the wrong certificate, which the token endpoint is never shown.
    let shown = "provider: mtls, ca_file: ca.pem, client_certificate: {certificate: {file: ";
    let sidecar = house
        .replica()
        .change(
            &format!("{shown}tpp.crt}}, key: {{file: tpp.key}}"),
            &format!("{shown}alone.crt}}, key: {{file: alone.key}}"),
        )
        .start()
        .await;
    house.grant(&sidecar, &MTLS, "customer-1").await;
    let refused = call(&sidecar, &MTLS, "customer-1").await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::UNAUTHORIZED, ""), "the server's own answer");
    assert!(refused.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"), "{refused:?}");
    drop(sidecar);
    let sidecar = house.replica().start().await;
    assert_eq!(call(&sidecar, &MTLS, "customer-1").await.status, StatusCode::OK);
    assert!(house.server.presented(MTLS.id).values().all(|times| *times == 1));
}
