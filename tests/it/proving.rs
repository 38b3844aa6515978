//! A client that proves itself by signing: the imitated banks ask for it, and take each assertion once.

use std::fs;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::program::consentry;
use crate::support::redis::RedisServer;
use crate::support::sidecar::Replica;

/// A key as a file holds it, and as the bank knows it.
struct Key {
    pem: String,
    registered: Value,
}

fn key(kid: &str, alg: &str, der: &[u8], public: &[u8]) -> Key {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    Key { pem, registered: json!({ "kid": kid, "alg": alg, "public": STANDARD.encode(public) }) }
}

fn p256(kid: &str) -> Key {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
    key(kid, "ES256", der.as_ref(), pair.public_key().as_ref())
}

fn rsa_2048(kid: &str) -> Key {
    let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    key(kid, "PS256", der.as_ref(), pair.public_key().as_ref())
}

/// Both banks ask for assertions; this replica signs them, at ABN AMRO with RSA and at Norsk Gjeldsinformasjon with P-256.
async fn signing(bank: &Bank, redis: &RedisServer, more: &str) -> Replica {
    let (rsa, p256) = (rsa_2048("2026-11"), p256("n1"));
    for (path, key) in [("/abn-amro/settings", &rsa), ("/norsk-gjeld/settings", &p256)] {
        bank.control(Method::PATCH, path, &json!({ "client_keys": [key.registered] })).await;
    }
    let replica = Replica::with_redis(bank, redis);
    for (name, key) in [("abn.key", &rsa), ("nogi.key", &p256)] {
        fs::write(replica.home().join(name), &key.pem).unwrap();
    }
    let abn = format!(
        "{{method: private_key_jwt, signing_key: {{file: abn.key}}, signing_key_id: \"2026-11\", \
         certificate: {{file: tpp.crt}}, key: {{file: tpp.key}}{more}}}"
    );
    replica.change("{method: tls_client_auth, certificate: {file: tpp.crt}, key: {file: tpp.key}}", &abn).change(
        "{method: client_secret_basic, secret: {file: nogi.secret}}",
        "{method: private_key_jwt, signing_key: {file: nogi.key}, signing_key_id: n1}",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_and_client_credentials_each_carry_a_new_assertion() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = signing(&bank, &redis, "").await.change("level: info", "level: trace").start().await;
    for consent in ["c-1", "c-2"] {
        sidecar.import(consent, &bank.grant(0).await).await;
        assert_eq!(sidecar.balances(consent).await.status, StatusCode::OK);
        // A client token each time: the bank has ended the one before.
        let registered = bank.control(Method::POST, "/norsk-gjeld/consents", &json!({ "days": 1 })).await;
        let url = sidecar.url(&format!("/debt/v1/debt/{}/status", registered["id"].as_str().unwrap()));
        let status = sidecar.app.get(&url, &[]).await;
        assert_eq!(status.status, StatusCode::OK, "{status:?}");
        bank.control(Method::POST, "/norsk-gjeld/expire-access-tokens", &Value::Null).await;
    }
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (2, 0));
    assert!(bank.count("norsk_gjeld", "client_credentials").await >= 2);
    let log = sidecar.program.output();
    assert!(!log.contains("eyJ"), "an assertion is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_for_somebody_else_is_refused_and_spends_nothing() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = signing(&bank, &redis, ", assertion_audience: \"https://as.bank.example\"").await.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    let refused = sidecar.balances("c-1").await;
    assert_eq!(refused.problem(), "provider-misconfigured");
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (0, 0));
    let audience = json!({ "assertion_audience": "https://as.bank.example" });
    bank.control(Method::PATCH, "/abn-amro/settings", &audience).await;
    sidecar
        .until_within(20, "the back-off is over", async || sidecar.balances("c-1").await.status == StatusCode::OK)
        .await;
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_of_no_use_is_said_at_its_place() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = signing(&bank, &redis, ", assertion_life: 1h").await;
    let old = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    fs::write(replica.home().join("abn.key"), old).unwrap();
    fs::write(replica.home().join("nogi.key"), "CANARY-no-key").unwrap();
    let output = consentry().args(["check", "--config"]).arg(replica.write()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for expected in [
        "providers.abn-amro.client_auth.signing_key",
        "is not PKCS#8; change its form with: openssl pkcs8 -topk8 -nocrypt",
        "providers.abn-amro.client_auth.assertion_life",
        "providers.norsk-gjeld.client_auth.signing_key",
        "holds no private key in PEM",
    ] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
    assert!(!said.contains("CANARY"), "{said}");
}

const REFUSED: &str = "consentry_secret_renewal_refused{secret=\"providers.norsk-gjeld.client_auth.secret\"}";
const REFUSED_KEY: &str = "consentry_secret_renewal_refused{secret=\"providers.abn-amro.client_auth.signing_key\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_that_cannot_be_one_raises_the_alarm_and_the_old_one_goes_on() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = Replica::with_redis(&bank, &redis).environment("CONSENTRY_TIME_SCALE", "5");
    let sidecar = replica.start().await;
    let registered = bank.control(Method::POST, "/norsk-gjeld/consents", &json!({ "days": 1 })).await;
    let url = sidecar.url(&format!("/debt/v1/debt/{}/status", registered["id"].as_str().unwrap()));
    let file = replica.home().join("nogi.secret");
    let right = fs::read_to_string(&file).unwrap();
    // A token lives for a second, so each call after that needs a new one.
    bank.control(Method::PATCH, "/norsk-gjeld/settings", &json!({ "access_token_life_s": 2 })).await;
    let asks = async || {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        sidecar.app.get(&url, &[]).await
    };
    assert_eq!(asks().await.status, StatusCode::OK);
    fs::write(&file, "\n").unwrap();
    let alarm = async |value: u8| sidecar.metrics().await.contains(&format!("{REFUSED} {value}"));
    let renewed = async |times: usize| sidecar.program.output().matches("A secret was renewed.").count() == times;
    sidecar.until_within(40, "the alarm is raised", async || alarm(1).await).await;
    assert_eq!(asks().await.status, StatusCode::OK, "the old one goes on");
    fs::write(&file, "another").unwrap();
    sidecar.until_within(40, "the new one is in use", async || alarm(0).await && renewed(1).await).await;
    assert_eq!(asks().await.problem(), "provider-misconfigured", "the bank knows no such");
    fs::write(&file, right).unwrap();
    sidecar.until_within(40, "the right one is in use again", async || renewed(2).await).await;
    sidecar.until_within(40, "the back-off is over", async || asks().await.status == StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_is_replaced_while_it_is_in_use() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = signing(&bank, &redis, "").await.environment("CONSENTRY_TIME_SCALE", "5");
    let sidecar = replica.start().await;
    let next = p256("2026-11");
    fs::write(replica.home().join("abn.key"), &next.pem[..60]).unwrap();
    sidecar
        .until_within(40, "half a key raises the alarm", async || {
            sidecar.metrics().await.contains(&format!("{REFUSED_KEY} 1"))
        })
        .await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK, "the old one goes on");
    fs::write(replica.home().join("abn.key"), &next.pem).unwrap();
    sidecar
        .until_within(40, "the new one is in use", async || sidecar.program.output().contains("A secret was renewed."))
        .await;
    bank.control(Method::PATCH, "/abn-amro/settings", &json!({ "client_keys": [next.registered] })).await;
    sidecar.import("c-2", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("c-2").await.status, StatusCode::OK);
    assert_eq!(bank.reuse_events().await, 0);
}
