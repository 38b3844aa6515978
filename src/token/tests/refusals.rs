//! Refused refresh tokens: alone they suspend a consent, and together they do not.

use super::house::{House, Limits, ask, key};
use super::*;
use crate::store::{Breaker, BreakerClass};

const EXPIRED: Duration = Duration::ZERO;

#[tokio::test]
async fn a_refused_consent_whose_lease_was_told_again_is_pardoned_with_the_others() {
    let timing = Timing { renewal: Duration::from_millis(20), ..Timing::STANDARD };
    let house = House::limited(Limits { timing, ..Limits::default() });
    house.seed("c1", Some("rt-c1"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c1"));
    let gate = house.bank.hold_answers();
    house.bank.say(TokenOutcome::InvalidGrant);
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c1").await.map(drop) });
    house.until(|| house.bank.presented().len() == 1).await;
    house.tokens.store().set_raw(&key("c1"), before.as_ref()).await;
    house.until_record("c1", |record| record.state == RecordState::Armed).await;
    // With its next renewal it knows the new fence.
    let renewed = house.tokens.store().count("renew");
    house.until(|| house.tokens.store().count("renew") > renewed).await;
    gate.send_replace(true);
    assert_eq!(call.await.expect("no panic"), Err(TokenError::ReauthorizationRequired), "refused alone");
    house.tokens.settled_once().await;
    assert_eq!(
        house.standing().await.suspects[0].refusal.fence,
        3,
        "the lease was granted with 2, and told again with 3"
    );
    others_are_refused_as_well(&house).await;
    assert_eq!(house.record("c1").await.state, RecordState::Active);
}

#[tokio::test]
async fn a_refused_consent_whose_lease_the_store_forgets_as_it_hears_of_it_is_pardoned_with_the_others() {
    let house = House::new();
    house.seed("c1", Some("rt-c1"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c1"));
    let tokens = house.tokens.clone();
    house
        .tokens
        .store()
        .after("report", move || async move { tokens.store().set_raw(&key("c1"), before.as_ref()).await });
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c1").await.expect_err("refused alone"), TokenError::ReauthorizationRequired);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c1").await.state, RecordState::ReauthorizationRequired, "the lease was told again");
    others_are_refused_as_well(&house).await;
    assert_eq!(house.record("c1").await.state, RecordState::Active);
}

#[tokio::test]
async fn three_refused_consents_in_a_minute_are_kept_and_tried_once_more_after_a_success() {
    let house = House::new();
    let another = house.another();
    for id in ["c1", "c2", "c3", "c4"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
    }
    let refused_once = TokenError::Misconfigured { why: "refused_once".to_owned() };
    let told = [TokenError::ReauthorizationRequired, TokenError::ReauthorizationRequired, refused_once];
    for ((tokens, id), told) in [(&house.tokens, "c1"), (&another, "c2"), (&house.tokens, "c3")].into_iter().zip(told) {
        house.bank.say(TokenOutcome::InvalidGrant);
        assert_eq!(ask(tokens, id).await.expect_err("refused"), told, "{id}");
        tokens.settled_once().await;
    }
    for id in ["c1", "c2", "c3"] {
        let record = house.record(id).await;
        assert_eq!((record.state, record.why.as_deref()), (RecordState::Active, Some("refused_once")), "{id}");
    }
    let Breaker::Open(opened) = house.standing().await.breaker else { panic!("three refusals open it") };
    assert_eq!((opened.class, opened.why.as_str()), (BreakerClass::Misconfigured, "all_refused"));
    let shut = TokenError::Misconfigured { why: "all_refused".to_owned() };
    assert_eq!(ask(&another, "c4").await.expect_err("nobody is asked"), shut);
    assert_eq!(house.bank.presented(), ["rt-c1", "rt-c2", "rt-c3"]);

    house.clock.advance(Duration::from_secs(2));
    assert_eq!(ask(&another, "c4").await.expect("the canary").version.generation, 2);
    another.settled_once().await;
    house.until_standing(|standing| standing.breaker == Breaker::Closed).await;
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c1").await.expect_err("its own"), TokenError::ReauthorizationRequired);
    assert_eq!(house.ask("c2").await.expect("accepted after all").version.generation, 2);
    assert_eq!(ask(&another, "c3").await.expect("accepted after all").version.generation, 2);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c1").await.state, RecordState::ReauthorizationRequired, "this one is over");
    assert_eq!(house.bank.presented().len(), 7, "each was tried once more");
}

#[tokio::test]
async fn refusals_that_are_a_minute_apart_are_each_consents_own() {
    let house = House::new();
    for id in ["c1", "c2", "c3"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
        house.bank.say(TokenOutcome::InvalidGrant);
        assert_eq!(house.ask(id).await.expect_err("refused"), TokenError::ReauthorizationRequired);
        house.tokens.settled_once().await;
        house.clock.advance(Duration::from_secs(31));
    }
    assert_eq!(house.standing().await.breaker, Breaker::Closed);
    for id in ["c1", "c2", "c3"] {
        assert_eq!(house.record(id).await.state, RecordState::ReauthorizationRequired);
    }
}

#[tokio::test]
async fn a_refusal_that_the_store_was_not_told_of_suspends_nothing() {
    let timing = Timing { renewal: Duration::from_millis(20), ..Timing::STANDARD };
    let house = House::limited(Limits { timing, ..Limits::default() });
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().refuse(&["report"]);
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("nobody knows what follows"), TokenError::StoreUnavailable);
    assert_eq!(house.record("c").await.state, RecordState::Armed);
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.state, RecordState::ReauthorizationRequired, "told when it was back");
    assert_eq!(house.standing().await.in_flight, 0);
}

/// Two more within the minute, so that nobody's refusal is taken for its own.
async fn others_are_refused_as_well(house: &House) {
    for id in ["c2", "c3"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
        house.bank.say(TokenOutcome::InvalidGrant);
        assert!(house.ask(id).await.is_err());
        house.tokens.settled_once().await;
    }
}
