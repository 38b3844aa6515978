//! Consents that are revoked: at the bank and here, whatever the bank and a refresh do meanwhile.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::client::{Answer, request};
use crate::support::program::consentry;
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

async fn revoke(sidecar: &Sidecar, consent: &str) -> Answer {
    revoke_with(sidecar, consent, &[]).await
}

/// `consent` may carry a query.
async fn revoke_with(sidecar: &Sidecar, consent: &str, more: &[(&str, &str)]) -> Answer {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url(&format!("/v1/consents/{consent}"));
    let headers = [&[("authorization", key.as_str())], more].concat();
    sidecar.app.send(request(Method::DELETE, &url, &headers, bytes::Bytes::new())).await
}

/// What an answer says is revoked where: its status or problem, `at_bank` and `here`.
fn told(answer: &Answer) -> (String, String, String) {
    let json = answer.json();
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let kind = if answer.status == StatusCode::OK { "ok".to_owned() } else { answer.problem() };
    (kind, text("at_bank"), text("here"))
}

fn expected(kind: &str, at_bank: &str, here: &str) -> (String, String, String) {
    (kind.to_owned(), at_bank.to_owned(), here.to_owned())
}

/// The last event of a consent, and its word.
async fn last(sidecar: &Sidecar, consent: &str) -> (String, String) {
    let history = sidecar.history(consent).await;
    let event = history["events"].as_array().unwrap().last().unwrap().clone();
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    (text("event"), text("why"))
}

/// A consent at Norsk Gjeldsinformasjon for some days, stored here under another name.
async fn debt_consent(bank: &Bank, sidecar: &Sidecar, consent: &str) -> String {
    let registered = bank.control(Method::POST, "/norsk-gjeld/consents", &json!({ "days": 30 })).await;
    let id = registered["id"].as_str().unwrap().to_owned();
    let set = json!({"provider": "norsk-gjeld", "access_token": format!("token-of-{consent}"), "expires_in": 3_600,
                     "bank_consent_id": id});
    assert_eq!(sidecar.put_tokens(consent, None, &set).await.status, StatusCode::CREATED);
    id
}

/// In front of an ABN AMRO that revokes tokens.
fn revoking(bank: &Bank, redis: &RedisServer) -> Replica {
    let token = bank.endpoints["abn_amro"]["token_endpoint"].as_str().unwrap();
    let revoke = token.replace("/as/token.oauth2", "/as/revoke_token.oauth2");
    let line = format!("    revocation_endpoint: {revoke}\n    ca_file: ca.pem\n  norsk-gjeld");
    Replica::with_redis(bank, redis).change("    ca_file: ca.pem\n  norsk-gjeld", &line)
}

#[tokio::test(flavor = "multi_thread")]
async fn norsk_gjeldsinformasjon_ends_a_consent_and_a_repeated_call_asks_it_nothing_more() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    for consent in ["first", "second"] {
        debt_consent(&bank, &sidecar, consent).await;
        let revoked = revoke(&sidecar, consent).await;
        assert_eq!(told(&revoked), expected("ok", "revoked", "revoked"));
        assert!(revoked.headers.contains_key("etag"), "{revoked:?}");
        assert_eq!(sidecar.consent(consent).await["state"], "revoked");
        assert_eq!(last(&sidecar, consent).await, ("ended".into(), "revoked_on_request".into()));
        let asked = bank.count("norsk_gjeld", "api_calls").await;
        assert_eq!(told(&revoke(&sidecar, consent).await), expected("ok", "revoked", "revoked"));
        assert_eq!(bank.count("norsk_gjeld", "api_calls").await, asked);
        if consent == "first" {
            // The next one is asked for with a token that the bank has ended meanwhile.
            bank.control(Method::POST, "/norsk-gjeld/expire-access-tokens", &Value::Null).await;
        }
    }
    assert_eq!(bank.count("norsk_gjeld", "consents_revoked").await, 2);

    let id = debt_consent(&bank, &sidecar, "third").await;
    bank.control(Method::POST, &format!("/norsk-gjeld/consents/{id}/revoke"), &Value::Null).await;
    assert_eq!(told(&revoke(&sidecar, "third").await), expected("ok", "ended_before", "revoked"));
    assert_eq!(last(&sidecar, "third").await, ("ended".into(), "bank_says_ended".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bank_does_not_revoke_stays_here_and_can_be_asked_for_again() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    debt_consent(&bank, &sidecar, "c-1").await;
    let before = sidecar.version("c-1").await;
    let html = json!({"status": {"code": 500, "body": "<html>", "process": false}});
    let teapot = json!({"status": {"code": 418, "body": "{}", "process": false}});
    for (fault, at_bank, why) in [
        (html, "unknown", "server_error"),
        (teapot, "not_revoked", "unexpected_status"),
        (json!({"drop_before_processing": true}), "unknown", "connection_lost"),
    ] {
        bank.fault("nogi-api", 1, fault).await;
        let refused = revoke(&sidecar, "c-1").await;
        assert_eq!(told(&refused), expected("revocation-failed", at_bank, "not_revoked"), "{refused:?}");
        assert_eq!(last(&sidecar, "c-1").await, ("not_revoked".into(), why.into()));
        assert_eq!(sidecar.version("c-1").await, before);
    }
    let history = sidecar.history("c-1").await;
    assert!(history["summary"].as_str().unwrap().contains("was to be revoked, and is not"), "{history}");
    assert_eq!(history["who_acts"], "operator");

    // The bank did it, and its answer was lost: asked again, it says that the consent has ended.
    bank.fault("nogi-api", 1, json!({"drop_after_processing": true})).await;
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("revocation-failed", "unknown", "not_revoked"));
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("ok", "ended_before", "revoked"));

    // The bank's name for it is not known here, and the bank knows no such consent.
    let set = json!({"provider": "norsk-gjeld", "access_token": "x", "expires_in": 3_600});
    assert_eq!(sidecar.put_tokens("nameless", None, &set).await.status, StatusCode::CREATED);
    assert_eq!(told(&revoke(&sidecar, "nameless").await), expected("revocation-failed", "not_revoked", "not_revoked"));
    let asked = bank.count("norsk_gjeld", "api_calls").await;
    let here = revoke(&sidecar, "nameless?only_here=true").await;
    assert_eq!(told(&here), expected("ok", "not_told", "revoked"));
    assert_eq!(told(&revoke(&sidecar, "nameless").await), expected("ok", "not_told", "revoked"));
    assert_eq!(bank.count("norsk_gjeld", "api_calls").await, asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_revokes_tokens_gets_the_newest_there_is() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = revoking(&bank, &redis).start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);

    // It refuses: the consent is served and renewed as before.
    bank.fault("abn-revoke", 1, json!({"status": {"code": 503, "body": "", "process": false}})).await;
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("revocation-failed", "not_revoked", "not_revoked"));
    assert_eq!(last(&sidecar, "c-1").await, ("not_revoked".into(), "server_error".into()));
    sidecar.expire(&bank, "c-1", &granted).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);

    // Nothing is refreshed for it, so a freeze is no hindrance.
    let key = format!("Bearer {ADMIN_KEY}");
    let freeze = sidecar.admin_url("/v1/providers/abn-amro/freeze");
    let frozen = sidecar.app.json(Method::POST, &freeze, &[("authorization", &key)], &json!({})).await;
    assert_eq!(frozen.status, StatusCode::OK, "{frozen:?}");
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("ok", "revoked", "revoked"));
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "revoked");
    assert_eq!(sidecar.balances("c-1").await.problem(), "consent-revoked");
    for outcome in ["refused", "revoked"] {
        let line = format!("consentry_revocations_total{{provider=\"abn-amro\",outcome=\"{outcome}\"}} 1");
        assert!(sidecar.metrics().await.contains(&line), "{line}");
    }
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("ok", "revoked", "revoked"));
    // The refresh token and the access token, each time but the last.
    assert_eq!((bank.count("abn", "revocations").await, bank.reuse_events().await), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_is_running_ends_well() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = revoking(&bank, &redis).start().await;
    let renewing = async |consent: &str, delay_ms: u64| {
        let granted = bank.grant(0).await;
        sidecar.import(consent, &granted).await;
        bank.fault("abn-token", 1, json!({ "delay_ms": delay_ms })).await;
        let asked = bank.count("abn", "token_requests").await;
        let (app, url, id) = (sidecar.app.clone(), sidecar.balances_url(), consent.to_owned());
        let call = tokio::spawn(async move { app.get(&url, &[("consent-id", &id)]).await });
        sidecar.until("the refresh is sent", async || bank.count("abn", "token_requests").await > asked).await;
        (granted, call)
    };
    let state = async |granted: &crate::support::bank::Granted| bank.consent(&granted.bank_id).await["state"].clone();

    // It is waited for, and what it brought is what is revoked.
    let (granted, call) = renewing("waits", 1_500).await;
    assert_eq!(told(&revoke(&sidecar, "waits").await), expected("ok", "revoked", "revoked"));
    assert_eq!(state(&granted).await, "revoked");
    call.await.unwrap();

    // It takes too long: nothing happens, and the next time it is over.
    let (granted, call) = renewing("slow", 8_000).await;
    assert_eq!(told(&revoke(&sidecar, "slow").await), expected("token-wait-timeout", "not_revoked", "not_revoked"));
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert_eq!(told(&revoke(&sidecar, "slow").await), expected("ok", "revoked", "revoked"));
    assert_eq!(state(&granted).await, "revoked");

    // The consent ends here in the middle of it: what it brings is used by nobody, and revoked at the bank as well.
    let (granted, call) = renewing("here", 1_500).await;
    assert_eq!(told(&revoke(&sidecar, "here?only_here=true").await), expected("ok", "not_told", "revoked"));
    assert_eq!(state(&granted).await, "active");
    call.await.unwrap();
    sidecar.until("what came too late is revoked", async || state(&granted).await == "revoked").await;
    for consent in ["waits", "slow", "here"] {
        assert_eq!(sidecar.balances(consent).await.problem(), "consent-revoked", "{consent}");
    }
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_spilled_for_a_consent_that_has_ended_is_revoked_when_it_starts_again() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let mut replica = revoking(&bank, &redis).environment("CONSENTRY_FAILPOINTS", "before-commit");
    let mut sidecar = replica.start().await;
    let other = revoking(&bank, &redis).start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK, "served from what is spilled");
    assert_eq!(told(&revoke(&other, "c-1?only_here=true").await), expected("ok", "not_told", "revoked"));
    sidecar.program.kill();
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "active");
    replica.forget_environment();
    let sidecar = replica.start().await;
    sidecar
        .until("what came too late is revoked", async || bank.consent(&granted.bank_id).await["state"] == "revoked")
        .await;
    assert_eq!(sidecar.balances("c-1").await.problem(), "consent-revoked");
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_revoke_and_what_exactly() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    let url = sidecar.admin_url("/v1/consents/c-1");
    let stranger = sidecar.app.send(request(Method::DELETE, &url, &[], bytes::Bytes::new())).await;
    assert_eq!((stranger.status, stranger.problem().as_str()), (StatusCode::UNAUTHORIZED, "admin-key-needed"));
    assert_eq!(revoke(&sidecar, "nobody").await.problem(), "consent-unknown");
    assert_eq!(revoke(&sidecar, "c-1?only=here").await.problem(), "bad-request");
    let other = format!("\"{}.1\"", "0".repeat(32));
    let mismatch = revoke_with(&sidecar, "c-1", &[("if-match", &other)]).await;
    assert_eq!(told(&mismatch), expected("precondition-failed", "not_revoked", "not_revoked"));
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    let version = format!("\"{}\"", sidecar.version("c-1").await);
    let revoked = revoke_with(&sidecar, "c-1", &[("if-match", &version)]).await;
    assert_eq!(told(&revoked), expected("ok", "not_told", "revoked"), "the bank documents no way");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_revokes_with_and_without_a_running_process() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let admin = format!("admin: {{listen: \"127.0.0.1:{}\"", free_port());
    let replica = revoking(&bank, &redis).change("admin: {listen: \"127.0.0.1:0\"", &admin);
    let config = replica.write();
    let run = |arguments: &[&str]| {
        let output = consentry().arg("consent").args(arguments).arg("--config").arg(&config).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap(), text)
    };
    let sidecar = replica.start().await;
    let (online, offline) = (bank.grant(7_200).await, bank.grant(7_200).await);
    sidecar.import("online", &online).await;
    sidecar.import("offline", &offline).await;
    bank.fault(
        "abn-revoke",
        1,
        json!({"status": {"code": 401, "body": r#"{"error":"invalid_client"}"#, "process": false}}),
    )
    .await;
    let (code, text) = run(&["revoke", "online"]);
    assert!(code == 1 && text.contains("the bank did not accept our client authentication"), "{code} {text}");
    let (code, text) = run(&["revoke", "online"]);
    assert!(code == 0 && text.contains("at_bank") && text.contains("ended at the bank and here"), "{code} {text}");
    drop(sidecar);
    let (code, text) = run(&["revoke", "offline", "--json"]);
    let view: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{code} {text}"));
    assert_eq!((code, &view["at_bank"]), (0, &json!("revoked")));
    for granted in [online, offline] {
        assert_eq!(bank.consent(&granted.bank_id).await["state"], "revoked");
    }
    let (code, story) = run(&["why", "offline"]);
    assert!(code == 0 && story.contains("it was revoked on request, at the bank and then here"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_whose_answer_was_lost_is_asked_for_again_and_a_lost_refresh_leaves_a_doubt() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = revoking(&bank, &redis).start().await;
    let granted = bank.grant(7_200).await;
    sidecar.import("lost", &granted).await;
    bank.fault("abn-revoke", 1, json!({"drop_after_processing": true})).await;
    assert_eq!(told(&revoke(&sidecar, "lost").await), expected("revocation-failed", "unknown", "not_revoked"));
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "revoked");
    assert_eq!(sidecar.consent("lost").await["state"], "active");
    assert_eq!(told(&revoke(&sidecar, "lost").await), expected("ok", "revoked", "revoked"));

    // The bank has given a refresh token that nobody knows, so nobody can say that it is revoked.
    let granted = bank.grant(0).await;
    sidecar.import("doubt", &granted).await;
    bank.fault("abn-token", 1, json!({"status": {"code": 503, "body": "<html>", "process": true}})).await;
    assert_eq!(sidecar.balances("doubt").await.problem(), "token-refresh-uncertain");
    sidecar.until("it is stored", async || sidecar.consent("doubt").await["state"] == "uncertain").await;
    assert_eq!(told(&revoke(&sidecar, "doubt").await), expected("ok", "unknown", "revoked"));
    assert_eq!(told(&revoke(&sidecar, "doubt").await), expected("ok", "unknown", "revoked"), "and it is told again");
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "active");
    assert_eq!(last(&sidecar, "doubt").await, ("ended".into(), "revoked_in_doubt".into()));
    assert_eq!(bank.reuse_events().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_the_newest_refresh_token_is_told_it_before_it_is_revoked() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = revoking(&bank, &redis).start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    let key = "consentry:c:{c-1}";
    redis.cli(&["COPY", key, "older"]);
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    sidecar.until("it is committed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    redis.cli(&["COPY", "older", key, "REPLACE"]);
    assert_eq!(sidecar.consent("c-1").await["generation"], 1, "as in a store that lost its last writes");
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("ok", "revoked", "revoked"));
    assert_eq!(bank.consent(&granted.bank_id).await["state"], "revoked", "the spent one would have told nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_that_a_consent_was_revoked_is_told_again() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = revoking(&bank, &redis).start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    let key = "consentry:c:{c-1}";
    redis.cli(&["COPY", key, "older"]);
    assert_eq!(told(&revoke(&sidecar, "c-1").await), expected("ok", "revoked", "revoked"));
    redis.cli(&["COPY", "older", key, "REPLACE"]);
    assert_eq!(sidecar.consent("c-1").await["state"], "active", "as in a store that lost its last writes");
    let calls = bank.count("abn", "api_calls").await;
    sidecar.until("the tombstone is back", async || sidecar.balances("c-1").await.problem() == "consent-revoked").await;
    assert_eq!(sidecar.consent("c-1").await["state"], "revoked");
    assert_eq!(bank.count("abn", "api_calls").await, calls, "the bank was not called with what had ended");
}
