//! Refused refresh tokens: alone they suspend a consent, and together they do not.

use super::house::{House, Limits, ask, key, provider};
use super::*;

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
    house.tokens.store().set_raw(&key("c1"), before);
    house.until_record("c1", |record| record.state == RecordState::Armed).await;
    gate.send_replace(true);
    assert_eq!(call.await.expect("no panic"), Err(TokenError::ReauthorizationRequired), "refused alone");
    house.tokens.settled_once().await;
    let standing = house.tokens.store().standing(&provider("bank")).await.expect("the store works");
    assert_eq!(standing.suspects[0].refusal.fence, 3, "the lease was granted with 2, and told again with 3");
    others_are_refused_as_well(&house).await;
    assert_eq!(house.record("c1").await.state, RecordState::Active);
}

#[tokio::test]
async fn a_refused_consent_whose_lease_the_store_forgets_as_it_hears_of_it_is_pardoned_with_the_others() {
    let house = House::new();
    house.seed("c1", Some("rt-c1"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c1"));
    let tokens = house.tokens.clone();
    house.tokens.store().after("report", move || async move { tokens.store().set_raw(&key("c1"), before) });
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c1").await.expect_err("refused alone"), TokenError::ReauthorizationRequired);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c1").await.state, RecordState::ReauthorizationRequired, "the lease was told again");
    others_are_refused_as_well(&house).await;
    assert_eq!(house.record("c1").await.state, RecordState::Active);
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
