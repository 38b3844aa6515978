//! Leave to ask a bank something, which all processes share: who gets it, who waits, and what becomes of what was lost.

use super::house::{House, Limits, TestTokens, ask, key, provider};
use super::*;
use crate::store::{Limits as Shared, PermitAnswer, PermitAsk, Wanted};
use crate::words::ids::AttemptId;

const EXPIRED: Duration = Duration::ZERO;

fn one_at_a_time() -> Limits {
    Limits { in_flight: 1, ..Limits::default() }
}

#[tokio::test]
async fn a_call_that_waits_comes_before_a_refresh_that_nobody_waits_for() {
    let house = House::limited(one_at_a_time());
    let another = house.another();
    another.core.link.connected(house.clock.boot());
    house.seed("first", Some("rt-first"), EXPIRED).await;
    house.seed("second", Some("rt-second"), EXPIRED).await;
    house.seed("quiet", Some("rt-quiet"), Duration::from_secs(80)).await;
    assert!(ask(&another, "quiet").await.is_ok());
    // What is held there comes into its soft window.
    house.clock.advance(Duration::from_secs(50));
    let gate = house.bank.hold_answers();
    let first = spawn(&house.tokens, "first");
    house.until(|| house.bank.presented().len() == 1).await;
    let impatient = house.ask_for("second", "bank", Duration::from_millis(200)).await;
    assert!(matches!(impatient, Err(TokenError::WaitTimeout | TokenError::Overloaded)), "{impatient:?}");
    gate.send_replace(true);
    assert_eq!(first.await.expect("no panic"), Ok(2));
    house.until_standing(|standing| standing.in_flight == 0).await;
    // There is room now, and somebody who waited was turned away within this second.
    assert!(ask(&another, "quiet").await.is_ok());
    another.settled_once().await;
    assert_eq!(house.bank.presented(), ["rt-first"]);
    assert_eq!(house.ask("second").await.expect("it waits, and there is room").version.generation, 2);
    house.tokens.settled_once().await;
    house.clock.advance(Duration::from_secs(1));
    assert!(ask(&another, "quiet").await.is_ok());
    house.until(|| house.bank.presented() == ["rt-first", "rt-second", "rt-quiet"]).await;
}

#[tokio::test]
async fn a_call_that_gives_up_in_line_leaves_nothing_behind() {
    let house = House::limited(one_at_a_time());
    house.seed("first", Some("rt-first"), EXPIRED).await;
    house.seed("second", Some("rt-second"), EXPIRED).await;
    let gate = house.bank.hold_answers();
    let first = spawn(&house.tokens, "first");
    house.until(|| house.bank.presented().len() == 1).await;
    let impatient = house.ask_for("second", "bank", Duration::from_millis(100)).await;
    assert!(matches!(impatient, Err(TokenError::WaitTimeout | TokenError::Overloaded)), "{impatient:?}");
    gate.send_replace(true);
    assert_eq!(first.await.expect("no panic"), Ok(2));
    house.tokens.settled_once().await;
    let record = house.record("second").await;
    assert_eq!((record.state, record.backoff), (RecordState::Active, Duration::ZERO));
    assert_eq!(house.standing().await.in_flight, 0);
    assert!(house.tokens.core.providers[&provider("bank")].queue.is_empty());
}

#[tokio::test]
async fn no_more_are_sent_within_a_second_than_allowed_by_all_processes_together() {
    let house = House::limited(Limits { per_second: 2, ..Limits::default() });
    let another = house.another();
    for id in ["c1", "c2", "c3"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
    }
    assert!(house.ask("c1").await.is_ok());
    assert!(ask(&another, "c2").await.is_ok());
    let asked = house.tokens.store().count("permits");
    let third = spawn(&house.tokens, "c3");
    house.until(|| house.tokens.store().count("permits") >= asked + 3).await;
    assert_eq!(house.bank.presented(), ["rt-c1", "rt-c2"]);
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(third.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-c1", "rt-c2", "rt-c3"]);
}

#[tokio::test]
async fn the_permit_of_a_process_that_died_runs_out_and_is_given_to_who_waits() {
    let house = House::limited(one_at_a_time());
    house.seed("c", Some("rt-0"), EXPIRED).await;
    // A process that got this far and no further.
    let (permit, life) = (AttemptId::new("dead", 0), house.tokens.core.permit_life());
    let wanted = vec![Wanted { permit, key: key("elsewhere") }];
    let limits = Shared { in_flight: 1, per_second: 10 };
    let dead = PermitAsk { wanted, waiting: true, limits, life };
    let granted = house.tokens.store().permits(&provider("bank"), &dead).await;
    assert_eq!(granted, Ok(PermitAnswer::Granted(0..1)));
    let call = spawn(&house.tokens, "c");
    house.until(|| house.tokens.store().count("permits") >= 4).await;
    assert!(house.bank.presented().is_empty());
    house.clock.advance(life);
    assert_eq!(call.await.expect("no panic"), Ok(2));
}

#[tokio::test]
async fn the_permit_of_a_request_that_takes_long_is_renewed() {
    let timing = Timing { renewal: Duration::from_millis(20), ..Timing::STANDARD };
    let house = House::limited(Limits { timing, ..one_at_a_time() });
    house.seed("slow", Some("rt-slow"), EXPIRED).await;
    house.seed("c", Some("rt-c"), EXPIRED).await;
    let gate = house.bank.hold_answers();
    let slow = spawn(&house.tokens, "slow");
    house.until(|| house.bank.presented().len() == 1).await;
    for _ in 0..3 {
        house.clock.advance(house.tokens.core.permit_life() * 2 / 3);
        let (permits, leases) = (house.tokens.store().count("renew_permit"), house.tokens.store().count("renew"));
        house.until(|| house.tokens.store().count("renew_permit") >= permits + 2).await;
        house.until(|| house.tokens.store().count("renew") >= leases + 2).await;
    }
    assert_eq!(house.standing().await.in_flight, 1);
    gate.send_replace(true);
    assert_eq!(slow.await.expect("no panic"), Ok(2));
    assert!(house.ask("c").await.is_ok(), "it was given back with the answer");
}

#[tokio::test]
async fn without_the_stores_word_nothing_is_sent_and_a_permit_whose_reply_was_lost_runs_out() {
    let house = House::limited(one_at_a_time());
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().lose_reply("permits");
    assert_eq!(house.ask("c").await.expect_err("nobody knows"), TokenError::StoreUnavailable);
    house.tokens.settled_once().await;
    assert!(house.bank.presented().is_empty());
    assert_eq!((house.record("c").await.state, house.standing().await.in_flight), (RecordState::Active, 1));
    let asked = house.tokens.store().count("permits");
    let call = spawn(&house.tokens, "c");
    house.until(|| house.tokens.store().count("permits") >= asked + 3).await;
    assert!(house.bank.presented().is_empty(), "as far as anybody knows it is out");
    house.clock.advance(house.tokens.core.permit_life());
    assert_eq!(call.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_store_that_goes_away_ends_the_wait_in_line_and_not_the_consent() {
    let house = House::limited(one_at_a_time());
    house.seed("first", Some("rt-first"), EXPIRED).await;
    house.seed("second", Some("rt-second"), EXPIRED).await;
    let gate = house.bank.hold_answers();
    let first = spawn(&house.tokens, "first");
    house.until(|| house.bank.presented().len() == 1).await;
    let second = spawn(&house.tokens, "second");
    house.until(|| house.tokens.store().count("permits") >= 3).await;
    house.tokens.store().refuse(&["permits"]);
    assert_eq!(second.await.expect("no panic"), Err(TokenError::StoreUnavailable));
    house.tokens.store().refuse(&[]);
    gate.send_replace(true);
    assert_eq!(first.await.expect("no panic"), Ok(2));
    house.tokens.settled_once().await;
    assert_eq!(house.record("second").await.state, RecordState::Active);
    assert_eq!(house.ask("second").await.expect("refreshed").version.generation, 2);
}

#[tokio::test]
async fn a_client_token_is_had_without_a_permit_where_the_store_does_not_answer() {
    let house = House::new();
    house.tokens.store().refuse(&["permits"]);
    let grant = Arc::new(ClientGrant { audience: None, scope: None });
    let provider = provider("bank");
    let key = TokenKey::Client(ClientKey::new(provider.clone(), None, None));
    let ask = Ask { key: &key, provider: &provider, client: Some(&grant), wait: Duration::from_secs(5) };
    assert!(house.tokens.token(&ask).await.is_ok());
    assert_eq!(house.bank.presented(), ["client"]);
}

fn spawn(tokens: &TestTokens, id: &'static str) -> tokio::task::JoinHandle<Result<u64, TokenError>> {
    let tokens = tokens.clone();
    tokio::spawn(async move { ask(&tokens, id).await.map(|held| held.version.generation) })
}
