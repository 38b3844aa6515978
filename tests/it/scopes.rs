//! Calls that a consent does not cover: refused here, before the bank or a refresh token is bothered.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::{Bank, Granted, IBAN};
use crate::support::client::Answer;
use crate::support::redis::RedisServer;
use crate::support::sidecar::{Replica, Sidecar};

const DETAILS: &str = "psd2:account:details:read";

/// A consent at ABN AMRO that covers the account's details alone; its access token has so long to live.
async fn details_alone(bank: &Bank, expires_in: u64) -> Granted {
    let granted = bank.control(Method::POST, "/abn-amro/consents", &json!({ "iban": IBAN, "scope": DETAILS })).await;
    let text = |name: &str| granted[name].as_str().unwrap().to_owned();
    let import = json!({
        "provider": "abn-amro", "access_token": granted["access_token"], "refresh_token": granted["refresh_token"],
        "expires_in": expires_in, "scope": granted["scope"],
    });
    Granted { bank_id: text("bank_consent_id"), access: text("access_token"), refresh: text("refresh_token"), import }
}

async fn call(sidecar: &Sidecar, path: &str, consent: &str) -> Answer {
    sidecar.app.get(&sidecar.url(path), &[("consent-id", consent)]).await
}

fn account(what: &str) -> String {
    format!("/accounts/v1/accounts/{IBAN}/{what}")
}

/// What ABN AMRO has seen: calls of its API, refreshes, and spent refresh tokens.
async fn seen(bank: &Bank) -> (u64, u64, u64) {
    (bank.count("abn", "api_calls").await, bank.refreshes().await, bank.reuse_events().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_its_consent_does_not_cover_reaches_no_bank_and_spends_no_refresh_token() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    for (consent, expires_in) in [("expired", 0), ("soft", 20), ("valid", 7_000)] {
        sidecar.import(consent, &details_alone(&bank, expires_in).await).await;
        for (what, needs) in [
            ("balances", "psd2:account:balance:read"),
            ("transactions?bookDateFrom=2026-01-01", "psd2:account:transaction:read"),
            ("funds?amount=1&currency=EUR", "psd2:account:funds:read"),
        ] {
            // Twice: with nothing of the consent at hand, and with what the first look left.
            for _ in 0..2 {
                let refused = call(&sidecar, &account(what), consent).await;
                assert_eq!((refused.status, refused.problem()), (StatusCode::FORBIDDEN, "scope-insufficient".into()));
                assert_eq!(refused.json()["needs"], needs, "{what}");
            }
        }
        assert_eq!(sidecar.consent(consent).await["generation"], 1, "{consent}");
    }
    assert_eq!(seen(&bank).await, (0, 0, 0));

    // What it covers is served, with a refresh where one is due.
    for consent in ["expired", "valid"] {
        assert_eq!(call(&sidecar, &account("details"), consent).await.status, StatusCode::OK, "{consent}");
        assert_eq!(call(&sidecar, &account("balances"), consent).await.problem(), "scope-insufficient");
    }
    assert_eq!(seen(&bank).await, (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_not_known_is_left_to_the_bank_and_a_wider_consent_passes() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    let other = Replica::with_redis(&bank, &redis).start().await;
    let mut untold = details_alone(&bank, 7_000).await;
    untold.import["scope"] = Value::Null;
    sidecar.import("untold", &untold).await;
    let answer = call(&sidecar, &account("balances"), "untold").await;
    assert_eq!((answer.status, answer.problem()), (StatusCode::FORBIDDEN, String::new()), "the bank says it");
    assert_eq!(answer.json()["errors"][0]["code"], "ERR_3002_003");

    sidecar.import("grows", &details_alone(&bank, 7_000).await).await;
    for replica in [&sidecar, &other] {
        assert_eq!(call(replica, &account("details"), "grows").await.status, StatusCode::OK);
        assert_eq!(call(replica, &account("balances"), "grows").await.problem(), "scope-insufficient");
    }
    let wider = bank.grant(7_000).await;
    let version = sidecar.version("grows").await;
    assert_eq!(sidecar.put_tokens("grows", Some(&version), &wider.import).await.status, StatusCode::OK);
    for replica in [&sidecar, &other] {
        replica
            .until("the wider consent is known", async || {
                call(replica, &account("balances"), "grows").await.status == StatusCode::OK
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debt_is_looked_up_with_either_scope_and_a_route_s_own_needs_come_first() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let routes = "      - {match: GET /v1/debt, token: consent}\n      - match: PUT /v1/consent/agreement\n";
    let sidecar = Replica::with_redis(&bank, &redis)
        .change("      - match: PUT /v1/consent/agreement\n", routes)
        .change("routes: [{match: \"/v1/**\", token: consent}]", "routes: [{match: \"/v1/**\", needs: [mine]}]")
        .start()
        .await;
    let import = async |provider: &str, consent: &str, scope: &str| {
        let set = json!({"provider": provider, "access_token": consent, "expires_in": 3_600, "scope": scope});
        assert_eq!(sidecar.put_tokens(consent, None, &set).await.status, StatusCode::CREATED);
    };
    import("norsk-gjeld", "identity", "openid").await;
    import("norsk-gjeld", "shown", "openid debt.unsecured.presentation").await;
    import("norsk-gjeld", "processed", "debt.unsecured.processing").await;
    import("abn-amro", "theirs", "psd2:account:balance:read").await;
    let refused = call(&sidecar, "/debt/v1/debt", "identity").await;
    assert_eq!((refused.status, refused.problem()), (StatusCode::FORBIDDEN, "scope-insufficient".into()));
    let either = json!(["debt.unsecured.presentation", "debt.unsecured.processing"]);
    assert_eq!(refused.json()["needs_one_of"], either);
    assert_eq!(bank.count("norsk_gjeld", "api_calls").await, 0);
    for consent in ["shown", "processed"] {
        let answer = call(&sidecar, "/debt/v1/debt", consent).await;
        assert_ne!(answer.problem(), "scope-insufficient", "the bank does not know the token, and says so: {answer:?}");
    }
    assert!(bank.count("norsk_gjeld", "api_calls").await >= 2);
    let refused = call(&sidecar, &account("balances"), "theirs").await;
    assert_eq!((refused.problem(), &refused.json()["needs"]), ("scope-insufficient".into(), &json!("mine")));
}
