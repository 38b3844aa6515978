//! What comes between: a store that goes away, news at the wrong moment, a bank that answers late.

use tokio::sync::oneshot;

use super::house::{House, LIFE, Limits, TestTokens, ask, elsewhere, key, provider};
use super::*;
use crate::store::{Fail, FailTo};
use crate::token::follow;
use crate::words::clock::WallTime;
use crate::words::ids::GrantId;

const SOFT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_answer_that_is_there_when_the_time_is_up_is_kept() {
    let timing = Timing { send: Duration::from_millis(30), ..Timing::STANDARD };
    let house = House::limited(Limits { timing, ..Limits::default() });
    for n in 1..=12 {
        let id = format!("c{n}");
        house.seed(&id, Some(&format!("rt-c{n}")), Duration::ZERO).await;
        let tokens = house.tokens.clone();
        let call = tokio::spawn(async move { ask(&tokens, &id).await.map(|held| held.version.generation) });
        while house.bank.presented().len() < n {
            tokio::task::yield_now().await;
        }
        // The whole process stands still, past the bank's answer and past the time for it.
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
}

#[tokio::test]
async fn a_token_that_lives_is_not_withheld_because_a_refresh_behind_it_failed() {
    let failures = [
        TokenOutcome::Misconfigured { why: "invalid_client" },
        TokenOutcome::Unknown { why: "no_answer" },
        TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None },
    ];
    for failure in failures {
        let house = House::new();
        house.seed("c", Some("rt-0"), SOFT).await;
        let gate = house.bank.hold_answers();
        house.bank.say(failure);
        // Changes do not arrive, so each call asks the store, and takes a seat on the flight that refreshes.
        assert!(house.ask("c").await.is_ok());
        assert!(house.ask("c").await.is_ok());
        house.until(|| house.bank.presented().len() == 1).await;
        let tokens = house.tokens.clone();
        let verifying = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        gate.send_replace(true);
        assert_eq!(verifying.await.expect("no panic"), Ok(1));
    }
}

#[tokio::test]
async fn a_rejection_does_not_end_a_consent_that_has_nothing_to_refresh_with() {
    for remaining in [LIFE, SOFT] {
        let house = House::new();
        house.seed("c", None, remaining).await;
        house.connect_changes();
        let held = house.ask("c").await.expect("stored");
        assert!(house.ask("c").await.is_ok(), "in the soft window this finds out that there is nothing to do");
        house.tokens.settled_once().await;
        house.tokens.reject(&key("c"), held.version);
        assert_eq!(house.ask("c").await.expect("the same, because nothing else is to be had").version, held.version);
        assert_eq!(house.record("c").await.state, RecordState::Active);
        house.clock.advance(LIFE);
        assert_eq!(house.ask("c").await.expect_err("expired"), TokenError::ReauthorizationRequired);
    }
}

#[tokio::test]
async fn commits_that_wait_for_the_store_leave_room_for_token_requests() {
    let house = House::new();
    house.tokens.store().refuse(&["commit"]);
    for n in 0..8 {
        house.seed(&format!("c{n}"), Some(&format!("rt-c{n}")), Duration::ZERO).await;
        assert_eq!(house.ask(&format!("c{n}")).await.expect("spilled").version.generation, 2);
    }
    house.tokens.store().refuse(&["begin", "commit"]);
    let grant = Arc::new(ClientGrant { audience: None, scope: None });
    let provider = provider("bank");
    let key = TokenKey::Client(ClientKey::new(provider.clone(), None, None));
    let ask = Ask { key: &key, provider: &provider, client: Some(&grant), wait: Duration::from_millis(500) };
    assert!(house.tokens.token(&ask).await.is_ok(), "a client token needs no store");
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c0").await.version.generation, 2);
}

#[tokio::test]
async fn a_process_that_slept_after_the_intent_says_that_it_sent_nothing() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let clock = house.clock.clone();
    house.tokens.store().after("arm", move || async move { clock.advance(Timing::STANDARD.armed_lease) });
    assert_eq!(house.ask("c").await.expect("no quarantine for what was not sent").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn spills_are_replayed_however_few_flights_are_allowed() {
    let mut house = House::limited(Limits { flights: 1, ..Limits::default() });
    let grants = [GrantId::random(), GrantId::random(), GrantId::random()];
    for (n, grant) in grants.into_iter().enumerate() {
        house.seed_grant(&format!("c{n}"), Some(&format!("rt-c{n}")), Duration::ZERO, grant).await;
        assert!(house.ask(&format!("c{n}")).await.is_ok());
        house.tokens.settled_once().await;
    }
    house.restart_with_store_as_before();
    for (n, grant) in grants.into_iter().enumerate() {
        house.seed_grant(&format!("c{n}"), Some(&format!("rt-c{n}")), Duration::ZERO, grant).await;
    }
    assert_eq!(house.tokens.recover(SOON).await.found, 3);
    for n in 0..3 {
        assert_eq!(house.ask(&format!("c{n}")).await.expect("replayed").version.generation, 2);
    }
    assert_eq!(house.bank.presented().len(), 3, "no second request");
}

#[tokio::test]
async fn news_that_comes_while_a_flight_ends_is_not_lost() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.connect_changes();
    let tokens = house.tokens.clone();
    house.tokens.store().after("commit", move || async move {
        let version = end(&tokens, "c").await;
        follow::heard(&tokens.core, key("c"), version);
    });
    let _either = house.ask("c").await;
    house.tokens.settled_once().await;
    assert_eq!(house.ask("c").await.expect_err("it has ended"), TokenError::Revoked);
}

#[tokio::test]
async fn a_caller_is_not_told_that_its_time_is_up_when_another_caller_s_is() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let (attempt, fence, base) = elsewhere(&house).await;
    let impatient = house.ask_for("c", "bank", Duration::from_millis(100));
    let patient = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        house.ask("c").await
    };
    let other_replica = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let fail =
            Fail { attempt, fence, base, to: FailTo::Released, why: "test", said: crate::words::said::Said::default() };
        house.tokens.store().fail(&key("c"), &fail).await.expect("the store works");
    };
    let (impatient, patient, ()) = tokio::join!(impatient, patient, other_replica);
    assert_eq!(impatient.expect_err("its time is up"), TokenError::WaitTimeout);
    assert_eq!(patient.expect("its time is not up").version.generation, 2);
}

#[tokio::test]
async fn a_consent_that_went_to_another_provider_unnoticed_is_found_there() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    house.connect_changes();
    assert!(house.ask("c").await.is_ok());
    house.tokens.core.link.lost(house.clock.boot());
    end(&house.tokens, "c").await;
    house.seed_at("other", "c", Some("rt-0"), LIFE, GrantId::random(), None).await;
    house.connect_changes();
    assert!(house.ask_for("c", "other", SOON).await.is_ok());
    assert_eq!(house.ask("c").await.expect_err("it is not here any more"), TokenError::Unknown);
}

#[tokio::test]
async fn a_call_at_the_wrong_provider_does_not_make_the_consent_unknown_at_its_own() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let (asked, asking) = oneshot::channel();
    let (go, going) = oneshot::channel();
    house.tokens.store().after("begin", move || async move {
        asked.send(()).expect("the test waits");
        going.await.expect("the test goes on");
    });
    let tokens = house.tokens.clone();
    let wrong = tokio::spawn(async move {
        let (key, provider) = (key("c"), provider("other"));
        tokens.token(&Ask { key: &key, provider: &provider, client: None, wait: SOON }).await.map(|_| ())
    });
    asking.await.expect("the flight asks");
    let tokens = house.tokens.clone();
    let right = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
    tokio::time::sleep(Duration::from_millis(20)).await;
    go.send(()).expect("the flight waits");
    assert_eq!(wrong.await.expect("no panic"), Err(TokenError::Unknown));
    assert_eq!(right.await.expect("no panic"), Ok(1));
}

#[tokio::test]
async fn a_consent_with_seconds_left_is_over_and_not_asked_for_again_and_again() {
    let house = House::new();
    let end = WallTime::from_millis(1_763_773_200_000 + 3_000);
    house.seed_at("bank", "c", Some("rt-0"), LIFE, GrantId::random(), Some(end)).await;
    assert_eq!(house.ask("c").await.expect_err("about to end"), TokenError::Expired);
    assert_eq!(house.tokens.store().count("begin"), 1);
}

#[tokio::test]
async fn a_token_that_is_still_being_committed_is_served_without_waiting_for_that() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.tokens.store().refuse(&["commit"]);
    assert_eq!(house.ask("c").await.expect("spilled").version.generation, 2);
    let before = Instant::now();
    assert_eq!(house.ask("c").await.expect("held").version.generation, 2);
    assert!(before.elapsed() < Timing::STANDARD.verification / 2, "{:?}", before.elapsed());
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
}

#[tokio::test]
async fn the_store_is_not_asked_over_and_over_for_what_it_said_will_take_a_while() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::from_secs(15)).await;
    house.connect_changes();
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    for _ in 0..40 {
        assert!(house.ask("c").await.is_ok());
        house.tokens.settled_once().await;
        house.clock.advance(Duration::from_millis(250));
    }
    assert_eq!(house.bank.presented(), ["rt-0"]);
    let asked = house.tokens.store().count("begin");
    assert!(asked <= 6, "{asked} times in ten seconds");
}

#[tokio::test]
async fn a_rejection_is_not_forgotten_because_somebody_looked_at_the_record_meanwhile() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let first = house.ask("c").await.expect("stored");
    let tokens = house.tokens.clone();
    let version = first.version;
    // Changes do not arrive, so this call asks the store; the rejection comes before its answer.
    house.tokens.store().after("begin", move || async move { tokens.reject(&key("c"), version) });
    let _either = house.ask("c").await;
    assert_eq!(house.ask("c").await.expect("refreshed").version, first.version.next());
}

#[tokio::test]
async fn a_consent_that_ended_while_the_bank_was_asked_is_not_served_from_the_bank_s_answer() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    // Without a spill it is the store's word alone that makes the answer usable.
    std::fs::remove_dir_all(house.directory.path().join("spill")).expect("it is there");
    let tokens = house.tokens.clone();
    house.tokens.store().after("arm", move || async move {
        end(&tokens, "c").await;
    });
    assert_eq!(house.ask("c").await.expect_err("it has ended"), TokenError::Revoked);
    assert_eq!(house.bank.presented(), ["rt-0"]);
    assert!(house.held("c").is_none());
}

/// Ends a consent as another replica would.
async fn end(tokens: &TestTokens, id: &str) -> Version {
    let before = tokens.store().read(&key(id)).await.expect("the store works").expect("stored").version;
    let end = End { grant: None, state: RecordState::Revoked, why: "test".to_owned(), remembered: None };
    tokens.store().end(&key(id), &end).await.expect("the store works");
    before.next()
}
