//! What the server refuses, and that no consent is lost by it unless the server ends it.

use std::fs;

use http::StatusCode;
use serde_json::{Value, json};

use crate::browser::Visit;
use crate::house::{BASIC, ES256, House, MTLS, PUBLIC, call, ended, p256, start};
use crate::support::sidecar::Sidecar;

async fn state(sidecar: &Sidecar, consent: &str) -> Value {
    sidecar.consent(consent).await["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_a_secret_or_a_certificate_that_the_server_does_not_know_is_told_to_the_operator_and_costs_no_consent() {
    let house = House::new().await;
    let right = house.replica();
    let sidecar = right.start().await;
    for client in [&ES256, &BASIC, &MTLS] {
        house.grant(&sidecar, client, client.name).await;
    }
    drop(sidecar);

    let wrong = house.replica();
    wrong.secret("es256.key", &p256());
    wrong.secret("basic.secret", "another");
    for kind in ["crt", "key"] {
        let other = fs::read_to_string(wrong.home().join(format!("alone.{kind}"))).unwrap();
        wrong.secret(&format!("tpp.{kind}"), &other);
    }
    let sidecar = wrong.start().await;
    for client in [&ES256, &BASIC, &MTLS] {
        let told = async || call(&sidecar, client, client.name).await.problem() == "provider-misconfigured";
        sidecar.until("the token has expired and cannot be renewed", told).await;
        assert_eq!(state(&sidecar, client.name).await, "active");
        let refused = house.server.asked("token", client.id);
        assert_eq!(refused.last().unwrap()["error"], "invalid_client", "{refused:?}");
    }
    drop(sidecar);

    let sidecar = right.start().await;
    for client in [&ES256, &BASIC, &MTLS] {
        let served = async || call(&sidecar, client, client.name).await.status == StatusCode::OK;
        sidecar.until_within(30, "the back-off is over", served).await;
        let granted = house.server.refreshes(client.id);
        let (presented, _) = granted.first().unwrap();
        assert_eq!(granted.iter().filter(|(other, _)| other == presented).count(), 1);
    }
    assert_eq!(house.server.grants_revoked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_was_used_elsewhere_ends_the_grant_at_the_server_and_is_told_as_that() {
    let house = House::new().await;
    let sidecar = house.replica().start().await;
    house.grant(&sidecar, &PUBLIC, "customer-1").await;
    let renewed = async || {
        call(&sidecar, &PUBLIC, "customer-1").await.status == StatusCode::OK
            && !house.server.refreshes(PUBLIC.id).is_empty()
    };
    sidecar.until("it is renewed", renewed).await;
    let (stale, _) = house.server.refreshes(PUBLIC.id).swap_remove(0);
    let import = json!({ "provider": "public", "access_token": "any", "refresh_token": stale, "expires_in": 0 });

    // Under its own name it is known to be spent. Under another nobody here can know, so the server is asked.
    let version = sidecar.version("customer-1").await;
    let refused = sidecar.put_tokens("customer-1", Some(&version), &import).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    let taken = sidecar.put_tokens("stolen", None, &import).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{taken:?}");
    assert_eq!(call(&sidecar, &PUBLIC, "stolen").await.problem(), "consent-reauthorization-required");
    assert_eq!(house.server.grants_revoked(), 1, "the server takes it for a theft, and ends the whole grant");

    let told = async || call(&sidecar, &PUBLIC, "customer-1").await.problem() == "consent-reauthorization-required";
    sidecar.until("the other one has ended with it", told).await;
    for consent in ["customer-1", "stolen"] {
        assert_eq!(state(&sidecar, consent).await, "reauthorization_required");
    }
    house.grant(&sidecar, &PUBLIC, "customer-1").await;
    assert_eq!(call(&sidecar, &PUBLIC, "customer-1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_names_itself_when_it_sends_a_browser_back_and_another_name_is_refused() {
    let house = House::new().await;
    let sidecar = house.replica().start().await;
    let started = start(&sidecar, &PUBLIC, "customer-1").await;
    let mut browser = house.browser();
    let back = browser.agree(&started).await;
    let named = house.server.issuer.replace(':', "%3A").replace('/', "%2F");
    let other = back.replace(&named, &named.replace("localhost", "elsewhere"));
    assert_ne!(other, back, "iss is in {back}");
    let refused = browser.get(&other).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    assert_eq!(house.server.asked("token", PUBLIC.id).len(), 0, "the code stayed here");
    let arrived = browser.get(&back).await;
    assert_eq!(browser.location(&arrived), ended("customer-1", "granted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_turns_back_has_denied_and_a_server_that_wants_pkce_and_gets_none_grants_nothing() {
    let house = House::new().await;
    let sidecar = house.replica().change("pkce: required # basic", "pkce: never").start().await;
    let started = start(&sidecar, &PUBLIC, "customer-1").await;
    let mut browser = house.browser();
    let back = browser.turn_back(&started).await;
    let arrived = browser.get(&back).await;
    assert_eq!(browser.location(&arrived), ended("customer-1", "denied"));
    assert_eq!(call(&sidecar, &PUBLIC, "customer-1").await.problem(), "consent-denied");

    let started = start(&sidecar, &BASIC, "customer-2").await;
    let mut browser = house.browser();
    let at = browser.depart(&started).await;
    let Visit::Away(back) = browser.follow(&at).await else { panic!("the server does not insist on PKCE") };
    assert!(back.contains("error=invalid_request"), "{back}");
    let arrived = browser.get(&back).await;
    assert_eq!(browser.location(&arrived), ended("customer-2", "failed"));
    for client in [&PUBLIC, &BASIC] {
        assert_eq!(house.server.asked("token", client.id).len(), 0);
    }
    drop(sidecar);
    let sidecar = house.replica().start().await;
    house.grant(&sidecar, &BASIC, "customer-2").await;
}
