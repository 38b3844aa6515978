//! A provider that is not asked: somebody froze it, or the breaker that all processes share is open.

use super::house::{House, LIFE, TestTokens, ask, provider};
use super::*;
use crate::oauth::TokenOutcome;
use crate::store::{Breaker, BreakerClass};

const EXPIRED: Duration = Duration::ZERO;
const SOFT: Duration = Duration::from_secs(20);
/// Longer than a breaker that opens for the first time stays so.
const FIRST_OPENING: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_provider_is_not_asked_until_it_is_thawed_and_tokens_that_live_are_served() {
    let house = House::new();
    house.connect_changes();
    house.seed("expired", Some("rt-expired"), EXPIRED).await;
    house.seed("fresh", Some("rt-fresh"), LIFE).await;
    house.seed("soft", Some("rt-soft"), SOFT).await;
    assert!(house.ask("soft").await.is_ok());
    house.tokens.freeze(&provider("bank"), Some("their migration".to_owned())).await.expect("the store works");
    let another = house.another();
    for tokens in [&house.tokens, &another] {
        let frozen = TokenError::Frozen { why: "operator".to_owned() };
        assert_eq!(ask(tokens, "expired").await.expect_err("frozen"), frozen);
        assert_eq!(ask(tokens, "fresh").await.expect("it lives").version.generation, 1);
        assert_eq!(ask(tokens, "soft").await.expect("it lives").version.generation, 1);
        tokens.settled_once().await;
    }
    assert_eq!((house.bank.connects(), house.record("expired").await.state), (0, RecordState::Active));
    house.tokens.thaw(&provider("bank")).await.expect("the store works");
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let tokens = if n % 2 == 0 { house.tokens.clone() } else { another.clone() };
            tokio::spawn(async move { ask(&tokens, "expired").await.map(|held| held.version.generation) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
    assert_eq!(house.bank.presented(), ["rt-expired"], "one refresh, however many waited for the thaw");
}

#[tokio::test]
async fn five_failures_shut_a_bank_for_every_process_until_one_canary_succeeds() {
    let house = House::new();
    let another = house.another();
    house.bank.refuse_connections(true);
    for n in 0..5 {
        let tokens = if n % 2 == 0 { &house.tokens } else { &another };
        let id = format!("failing-{n}");
        house.seed(&id, Some("rt"), EXPIRED).await;
        assert_eq!(shut_by(tokens, &id).await, "unreachable");
        tokens.settled_once().await;
    }
    house.bank.refuse_connections(false);
    for id in ["c1", "c2"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
    }
    for tokens in [&house.tokens, &another] {
        assert_eq!(shut_by(tokens, "c1").await, "unreachable");
    }
    assert_eq!(house.bank.connects(), 5, "an open breaker lets nobody to the door");
    house.clock.advance(FIRST_OPENING);
    let gate = house.bank.hold_answers();
    let tokens = house.tokens.clone();
    let canary = tokio::spawn(async move { ask(&tokens, "c1").await.map(|held| held.version.generation) });
    house.until(|| house.bank.presented().len() == 1).await;
    assert_eq!(shut_by(&another, "c2").await, "unreachable");
    assert!(matches!(house.standing().await.breaker, Breaker::HalfOpen(_)));
    assert_eq!(house.bank.presented(), ["rt-c1"], "one canary at a time, whoever sends it");
    gate.send_replace(true);
    assert_eq!(canary.await.expect("no panic"), Ok(2));
    house.tokens.settled_once().await;
    house.until_standing(|standing| standing.breaker == Breaker::Closed).await;
    assert_eq!(ask(&another, "c2").await.expect("closed for all").version.generation, 2);
}

#[tokio::test]
async fn a_canary_that_fails_keeps_the_bank_shut_and_the_next_one_is_for_another_consent() {
    let house = House::new();
    opened_by(&house, &TokenError::Misconfigured { why: "invalid_client".to_owned() }).await;
    let Breaker::Open(opened) = house.standing().await.breaker else { panic!("five failures open it") };
    assert_eq!((opened.class, opened.why.as_str()), (BreakerClass::Misconfigured, "invalid_client"));
    house.seed("c1", Some("rt-c1"), EXPIRED).await;
    house.seed("c2", Some("rt-c2"), EXPIRED).await;
    house.clock.advance(FIRST_OPENING);
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    assert!(matches!(house.ask("c1").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled_once().await;
    let sent = house.bank.presented().len();
    assert_eq!(shut_by(&house.another(), "c2").await, "no_answer", "what the canary met is told");
    house.clock.advance(FIRST_OPENING);
    assert_eq!(house.ask("c2").await.expect("the next canary").version.generation, 2);
    assert_eq!(house.bank.presented().len(), sent + 1);
}

#[tokio::test]
async fn a_bank_that_wants_to_be_left_alone_is_by_every_process() {
    let house = House::new();
    for id in ["c1", "c2"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
    }
    let left_alone = Duration::from_secs(7);
    house.bank.say(TokenOutcome::NotProcessed { why: "rate_limited", retry_after: Some(left_alone) });
    assert!(matches!(house.ask("c1").await, Err(TokenError::EndpointUnavailable { .. })));
    house.tokens.settled_once().await;
    let Err(TokenError::EndpointUnavailable { why, retry_after }) = ask(&house.another(), "c2").await else {
        panic!("the bank is left alone")
    };
    assert_eq!((why.as_str(), retry_after), ("rate_limited", left_alone));
    assert_eq!(house.bank.presented(), ["rt-c1"]);
    house.clock.advance(left_alone);
    assert!(ask(&house.another(), "c2").await.is_ok());
}

#[tokio::test]
async fn the_back_off_of_a_consent_holds_in_every_process() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.bank.refuse_connections(true);
    assert_eq!(shut_by(&house.tokens, "c").await, "unreachable");
    house.tokens.settled_once().await;
    house.bank.refuse_connections(false);
    let another = house.another();
    assert_eq!(shut_by(&another, "c").await, "unreachable");
    assert_eq!(house.bank.connects(), 1, "the other process was told to wait");
    house.clock.advance(FIRST_OPENING);
    assert_eq!(ask(&another, "c").await.expect("refreshed").version.generation, 2);
}

/// Five consents meet what opens the breaker.
async fn opened_by(house: &House, told: &TokenError) {
    for n in 0..5 {
        let id = format!("failing-{n}");
        house.seed(&id, Some("rt"), EXPIRED).await;
        house.bank.say(TokenOutcome::Misconfigured { why: "invalid_client" });
        assert_eq!(house.ask(&id).await.expect_err("it fails"), *told);
        house.tokens.settled_once().await;
    }
    house.seed("refused", Some("rt"), EXPIRED).await;
    assert_eq!(house.ask("refused").await.expect_err("nobody sends"), *told);
    assert_eq!(house.bank.presented().len(), 5);
}

/// Asks for a consent at a bank that is not available, and says why not.
async fn shut_by(tokens: &TestTokens, id: &str) -> String {
    match ask(tokens, id).await {
        Err(TokenError::EndpointUnavailable { why, .. }) => why,
        other => panic!("not available: {other:?}"),
    }
}
