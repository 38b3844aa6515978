//! Whose token goes out, and what becomes of it when the bank rejects it.

use http::StatusCode;

use super::app::{Reply, header, headers};
use super::bank::{Bank, OK, Say};
use super::house::{C1, House, Plan};
use super::shelf::Mood;
use crate::store::RecordState;
use crate::words::bank::{BankBehaviour, BodyMatcher, Matcher};
use crate::words::ids::{ConsentId, TokenKey};
use crate::words::metrics::CallLabels;

const REJECTED: Say = Say::Bytes("HTTP/1.1 401 Unauthorized\r\nContent-Length: 18\r\n\r\n{\"error\":\"no\"}....");
const DEAD: Say = Say::Bytes("HTTP/1.1 403 Forbidden\r\nContent-Length: 27\r\n\r\n{\"error\":\"invalid consent\"}");
const STALE: Say = Say::Bytes(
    "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"error\":\"invali\r\n10\r\nd access token\"}\r\n0\r\n\r\n",
);

/// Like Norsk Gjeldsinformasjon: every refusal is a 403, and the body tells which.
fn tells_by_body() -> BankBehaviour {
    let matcher = |error: &str| Matcher {
        status: StatusCode::FORBIDDEN,
        bearer_error: None,
        body: Some(BodyMatcher { pointer: "/error".to_owned(), any_of: vec![error.to_owned()] }),
    };
    BankBehaviour {
        token_rejected: vec![Matcher::status(StatusCode::UNAUTHORIZED), matcher("invalid access token")],
        consent_dead: vec![matcher("invalid consent")],
        ..BankBehaviour::default()
    }
}

async fn house(bank: &Bank) -> House {
    let mut plan = Plan::of(bank);
    plan.behaviour = tells_by_body();
    plan.open().await
}

fn bearers(bank: &Bank) -> Vec<String> {
    let bearer = |head: &str| header(head, "authorization").unwrap_or("none").to_owned();
    bank.seen().iter().map(|seen| bearer(&seen.head)).collect()
}

fn is_the_bank_s(reply: &Reply) -> bool {
    reply.header("proxy-status") == Some("consentry")
}

#[tokio::test]
async fn a_call_goes_out_with_the_token_of_its_consent_alone() {
    let bank = Bank::saying(&[OK]).await;
    let house = house(&bank).await;
    let sent = format!("{C1}Authorization: Bearer forged\r\nAPI-Key: forged\r\nDPoP: x\r\n");
    let reply = house.ask("GET /api/v1/accounts?x=1", &sent, "").await;
    assert_eq!((reply.status(), reply.text()), (200, "ok"));
    assert!(is_the_bank_s(&reply));
    let head = bank.only().head;
    assert_eq!(headers(&head, "authorization"), ["Bearer CANARY-c1-1"]);
    assert_eq!(headers(&head, "api-key"), ["KEY-12345678"]);
    assert!(header(&head, "dpop").is_none() && header(&head, "consent-id").is_none());
    let labels = CallLabels { api: "accounts".to_owned(), answered_by: "bank", outcome: "2xx" };
    assert_eq!(house.metrics.calls.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn the_token_is_looked_up_once_and_then_held() {
    let bank = Bank::saying(&[OK]).await;
    let house = house(&bank).await;
    for _ in 0..3 {
        assert_eq!(house.get("/api/v1/x").await.status(), 200);
    }
    assert_eq!((house.shelf.reads(), house.shelf.begins()), (1, 0));
}

#[tokio::test]
async fn the_path_or_the_route_may_name_the_consent() {
    let bank = Bank::saying(&[OK]).await;
    let house = house(&bank).await;
    assert_eq!(house.ask("GET /api/path/c%31/x", "", "").await.status(), 200);
    assert_eq!(house.ask("GET /api/fixed/x", "Consent-ID: somebody\r\n", "").await.status(), 200);
    assert_eq!(bearers(&bank), ["Bearer CANARY-c1-1", "Bearer CANARY-c1-1"]);
    assert!(bank.seen()[0].head.starts_with("GET /base/path/c%31/x HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_client_route_sends_our_own_token_and_enforces_what_is_stored_of_the_consent() {
    let bank = Bank::saying(&[OK]).await;
    let house = house(&bank).await;
    house.shelf.put("gone", RecordState::Revoked, Mood::Stays);
    assert_eq!(house.ask("GET /api/client/never-stored/x", "", "").await.status(), 200);
    assert_eq!(house.ask("GET /api/own/x", "", "").await.status(), 200);
    assert_eq!(house.ask("GET /api/client/gone/x", "", "").await.problem().as_deref(), Some("consent-revoked"));
    assert_eq!(house.ask("GET /api/client/theirs/x", "", "").await.problem().as_deref(), Some("consent-unknown"));
    assert_eq!(bearers(&bank), ["Bearer CANARY-client-1", "Bearer CANARY-client-1"]);
}

#[tokio::test]
async fn a_route_without_a_token_sends_none() {
    let bank = Bank::saying(&[OK]).await;
    let house = house(&bank).await;
    assert_eq!(house.ask("GET /api/open/x", "Authorization: Bearer mine\r\n", "").await.status(), 200);
    assert_eq!(bearers(&bank), ["none"]);
    assert_eq!(house.shelf.begins(), 0);
}

#[tokio::test]
async fn a_rejected_call_is_sent_once_more_with_the_newer_token_and_the_same_body() {
    let bank = Bank::saying(&[REJECTED, OK]).await;
    let house = house(&bank).await;
    let reply = house.ask("POST /api/v1/x", C1, "the body").await;
    assert_eq!((reply.status(), reply.text()), (200, "ok"));
    assert_eq!(bearers(&bank), ["Bearer CANARY-c1-1", "Bearer CANARY-c1-2"]);
    for seen in bank.seen() {
        assert_eq!((seen.body, header(&seen.head, "content-length")), (b"the body".to_vec(), Some("8")));
    }
}

#[tokio::test]
async fn a_client_token_is_renewed_in_the_same_way() {
    let bank = Bank::saying(&[STALE, OK]).await;
    let house = house(&bank).await;
    assert_eq!(house.ask("GET /api/own/x", "", "").await.status(), 200);
    assert_eq!(bearers(&bank), ["Bearer CANARY-client-1", "Bearer CANARY-client-2"]);
}

#[tokio::test]
async fn a_rejection_in_the_body_is_recognised() {
    let bank = Bank::saying(&[STALE, OK]).await;
    let house = house(&bank).await;
    assert_eq!(house.get("/api/v1/x").await.text(), "ok");
    assert_eq!(bearers(&bank), ["Bearer CANARY-c1-1", "Bearer CANARY-c1-2"]);
}

#[tokio::test]
async fn the_second_answer_is_handed_back_whatever_it_is() {
    let bank = Bank::saying(&[REJECTED]).await;
    let house = house(&bank).await;
    let reply = house.get("/api/v1/x").await;
    assert!(is_the_bank_s(&reply) && reply.status() == 401);
    assert_eq!(bank.seen().len(), 2);
}

#[tokio::test]
async fn without_a_newer_token_the_bank_s_own_answer_is_handed_back() {
    let bank = Bank::saying(&[STALE]).await;
    let house = house(&bank).await;
    house.shelf.put("c1", RecordState::Active, Mood::Stays);
    let reply = house.get("/api/v1/x").await;
    assert!(is_the_bank_s(&reply));
    assert_eq!((reply.status(), reply.text()), (403, r#"{"error":"invalid access token"}"#));
    assert!(reply.whole);
    assert_eq!(bank.seen().len(), 1);
}

#[tokio::test]
async fn with_the_store_failing_after_a_rejection_the_bank_s_own_answer_is_handed_back() {
    let bank = Bank::saying(&[OK, REJECTED]).await;
    let house = house(&bank).await;
    assert_eq!(house.get("/api/v1/x").await.status(), 200);
    house.shelf.put("c1", RecordState::ReauthorizationRequired, Mood::Stays);
    let reply = house.get("/api/v1/x").await;
    assert!(is_the_bank_s(&reply) && reply.status() == 401);
}

#[tokio::test]
async fn a_body_that_was_streamed_is_not_sent_again() {
    let bank = Bank::saying(&[REJECTED, OK]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().replay_buffer_bytes = 4;
    let house = plan.open().await;
    let reply = house.ask("POST /api/v1/x", C1, "longer").await;
    assert!(is_the_bank_s(&reply) && reply.status() == 401);
    assert_eq!(bank.only().body, b"longer");
    let chunked = format!("{C1}Transfer-Encoding: chunked\r\n");
    let request = format!("POST /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{chunked}\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(house.app().await.ask(request).await.status(), 200);
    assert_eq!(bearers(&bank), ["Bearer CANARY-c1-1", "Bearer CANARY-c1-2"], "the next call has the newer token");
}

#[tokio::test]
async fn a_route_may_forbid_the_replay() {
    let bank = Bank::saying(&[REJECTED, OK]).await;
    let house = house(&bank).await;
    assert_eq!(house.get("/api/still/x").await.status(), 401);
    assert_eq!(bank.seen().len(), 1);
    let bank = Bank::saying(&[REJECTED, OK]).await;
    let house = self::house(&bank).await;
    assert_eq!(house.get("/api/once/x").await.status(), 200, "a rejected call was not a use");
}

#[tokio::test]
async fn a_dead_consent_is_noted_and_nothing_is_refreshed() {
    let bank = Bank::saying(&[DEAD]).await;
    let house = house(&bank).await;
    let reply = house.get("/api/v1/x").await;
    assert!(is_the_bank_s(&reply));
    assert_eq!((reply.status(), reply.text()), (403, r#"{"error":"invalid consent"}"#));
    let c1 = TokenKey::Consent(ConsentId::parse("c1").expect("valid"));
    assert_eq!(house.shelf.ended(1).await, [c1]);
    assert_eq!((bank.seen().len(), house.shelf.begins()), (1, 0));
    let named = house.ask("GET /api/client/c9/x", "", "").await;
    assert_eq!(named.status(), 403);
    house.ask("GET /api/own/x", "", "").await;
    house.tokens.settled().await;
    assert_eq!(house.shelf.ended(1).await.len(), 1, "of the others nothing is stored, and nothing becomes stored");
}

#[tokio::test]
async fn a_body_that_is_long_or_encoded_decides_nothing_and_passes_whole() {
    let long = Box::leak(
        format!(
            "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n{}\r\n0\r\n\r\n",
            "x".repeat(0x5000)
        )
        .into_boxed_str(),
    );
    let script = Box::leak(Box::new([
        Say::Bytes(long),
        Say::Bytes(
            "HTTP/1.1 403 Forbidden\r\nContent-Encoding: gzip\r\nContent-Length: 32\r\n\r\n{\"error\":\"invalid access token\"}",
        ),
    ]));
    let bank = Bank::saying(script).await;
    let house = house(&bank).await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!((reply.body.len(), reply.whole), (0x5000, true));
    assert_eq!(house.get("/api/v1/x").await.body.len(), 32);
    assert_eq!((bank.seen().len(), house.shelf.begins()), (2, 0));
}

#[tokio::test]
async fn a_token_that_comes_back_in_a_header_goes_no_further() {
    let bank = Bank::saying(&[Say::Bytes(
        "HTTP/1.1 200 OK\r\nX-Echo: <Bearer CANARY-c1-1>\r\nX-Other: fine\r\nContent-Length: 0\r\n\r\n",
    )])
    .await;
    let house = house(&bank).await;
    let reply = house.get("/api/v1/x").await;
    assert!(!reply.head.contains("CANARY"));
    assert_eq!(reply.header("x-other"), Some("fine"));
}
