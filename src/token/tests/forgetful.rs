//! A store that forgets: what this process remembers is put back, and nothing is spent twice.

use super::house::{House, LIFE, Limits, ask, key, provider};
use super::*;
use crate::oauth::TokenOutcome;
use crate::store::{Commit, CommitOutcome, End, EventKind, Sealed};
use crate::token::{follow, reunion};
use crate::words::ids::{AttemptId, Fingerprint};
use crate::words::metrics::ProviderLabels;
use crate::words::secrets::{AccessToken, RefreshToken};

const EXPIRED: Duration = Duration::ZERO;

#[tokio::test]
async fn a_commit_that_the_store_forgot_is_put_back_before_anything_is_spent() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c"));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.tokens.settled_once().await;
    house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    house.clock.advance(LIFE);
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 3);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-1"], "what was spent is not spent again");
}

#[tokio::test]
async fn a_record_that_the_store_forgot_altogether_is_put_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    assert!(house.ask("c").await.is_ok());
    house.tokens.settled_once().await;
    house.tokens.store().set_raw(&key("c"), None).await;
    house.clock.advance(LIFE);
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 3);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-1"]);
}

#[tokio::test]
async fn a_tombstone_that_the_store_forgot_is_put_up_again() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    assert!(house.ask("c").await.is_ok());
    let before = house.tokens.store().raw(&key("c"));
    let end = End { grant: None, state: RecordState::Revoked, why: "asked".to_owned(), remembered: None };
    house.tokens.store().end(&key("c"), &end).await.expect("the store works");
    follow::heard(&house.tokens.core, key("c"), house.record("c").await.version);
    house.tokens.settled_once().await;
    house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    assert_eq!(house.ask("c").await.expect_err("it has ended"), TokenError::Revoked);
    assert_eq!(house.record("c").await.state, RecordState::Revoked);
}

#[tokio::test]
async fn a_tombstone_that_went_with_its_record_is_told_again_when_the_store_comes_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let end = End { grant: None, state: RecordState::Revoked, why: "asked".to_owned(), remembered: None };
    house.tokens.store().end(&key("c"), &end).await.expect("the store works");
    assert_eq!(house.ask("c").await.expect_err("it has ended"), TokenError::Revoked);
    house.tokens.store().set_raw(&key("c"), None).await;
    reunion::retell(Arc::clone(&house.tokens.core)).await.expect("the store works");
    assert_eq!(house.record("c").await.state, RecordState::Revoked);
}

#[tokio::test]
async fn a_tombstone_whose_week_may_be_over_is_not_put_up_again() {
    let day = Duration::from_secs(24 * 60 * 60);
    for (age, told) in [(day * 5, true), (day * 6, false)] {
        let house = House::new();
        house.seed("c", Some("rt-0"), LIFE).await;
        let end = End { grant: None, state: RecordState::Revoked, why: "asked".to_owned(), remembered: None };
        house.tokens.store().end(&key("c"), &end).await.expect("the store works");
        assert_eq!(house.ask("c").await.expect_err("it has ended"), TokenError::Revoked);
        house.tokens.store().set_raw(&key("c"), None).await;
        house.clock.advance(age);
        for (key, memory) in house.tokens.core.memories.seen_within(None, house.clock.boot()) {
            house.tokens.core.confirm(&key, &memory).await.expect("the store works");
        }
        let record = house.tokens.store().read(&key("c")).await.expect("the store works");
        assert_eq!(record.map(|record| record.state), told.then_some(RecordState::Revoked), "{age:?}");
    }
}

#[tokio::test]
async fn what_is_put_back_stands_in_the_history_under_a_name() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    assert!(house.ask("c").await.is_ok());
    house.tokens.store().set_raw(&key("c"), None).await;
    reunion::retell(Arc::clone(&house.tokens.core)).await.expect("the store works");
    let history = house.tokens.store().history(&key("c")).await.expect("the store works");
    let restored = history.iter().find(|event| event.kind == EventKind::Restored).expect("told");
    assert!(restored.attempt.as_ref().is_some_and(|attempt| !attempt.as_str().is_empty()), "{restored:?}");
}

#[tokio::test]
async fn a_lease_that_the_store_forgot_is_told_again_and_the_answer_is_kept() {
    let timing = Timing { renewal: Duration::from_millis(20), ..Timing::STANDARD };
    let house = House::limited(Limits { timing, ..Limits::default() });
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c"));
    let gate = house.bank.hold_answers();
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
    house.until(|| house.bank.presented().len() == 1).await;
    house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    let mut looks = 0;
    while house.record("c").await.state != RecordState::Armed {
        looks += 1;
        assert!(looks < 500, "nobody else may be granted what is being spent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gate.send_replace(true);
    assert_eq!(call.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_store_that_came_back_is_told_of_what_is_being_spent_and_of_what_may_have_been() {
    let house = House::new();
    house.seed("spending", Some("rt-0"), EXPIRED).await;
    house.seed("doubtful", Some("rt-9"), EXPIRED).await;
    let before = ["spending", "doubtful"].map(|id| house.tokens.store().raw(&key(id)));
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    assert!(matches!(house.ask("doubtful").await, Err(TokenError::Uncertain { .. })), "and so it is remembered");
    let gate = house.bank.hold_answers();
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "spending").await.map(|held| held.version) });
    house.until(|| house.bank.presented().len() == 2).await;
    for (id, raw) in ["spending", "doubtful"].into_iter().zip(before) {
        house.tokens.store().set_raw(&key(id), raw.as_ref()).await;
    }
    reunion::retell(Arc::clone(&house.tokens.core)).await.expect("the store works");
    assert_eq!(house.record("spending").await.state, RecordState::Armed);
    let doubtful = house.record("doubtful").await;
    assert_eq!((doubtful.state, doubtful.sends), (RecordState::Uncertain, 1));
    gate.send_replace(true);
    assert_eq!(call.await.expect("no panic").expect("kept").generation, 2);
}

#[tokio::test]
async fn what_ended_is_not_told_again_as_if_it_were_under_way() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.bank.say(TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None });
    assert!(house.ask("c").await.is_err());
    house.tokens.settled_once().await;
    assert!(house.tokens.core.spendings.all().is_empty());
    reunion::retell(Arc::clone(&house.tokens.core)).await.expect("the store works");
    assert_eq!(house.record("c").await.state, RecordState::Active);
}

#[tokio::test]
async fn a_refused_token_gives_way_to_the_one_that_came_second() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let base = house.record("c").await.version;
    let second = |attempt: u64, refresh: &str| {
        let (access, refresh) = (AccessToken::new("at"), RefreshToken::new(refresh));
        let provider = provider("bank");
        let sealed = house.tokens.vault().seal(&key("c"), &provider, base.next(), &access, Some(&refresh));
        let (access, refresh): (Sealed, _) = sealed.expect("seals");
        Commit {
            attempt: AttemptId::new("other", attempt),
            base,
            access,
            refresh,
            refresh_fingerprint: Some(Fingerprint::from_bytes([u8::try_from(attempt).expect("small"); 16])),
            spent: None,
            remaining: EXPIRED,
            life: LIFE,
            scope: None,
            certificate: None,
            forced: false,
            since_intent: None,
            said: crate::words::said::Said::default(),
        }
    };
    let store = house.tokens.store();
    assert!(matches!(store.commit(&key("c"), &second(1, "first")).await, Ok(CommitOutcome::Stored { .. })));
    assert!(matches!(store.commit(&key("c"), &second(2, "second")).await, Ok(CommitOutcome::Superseded { .. })));
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect("the second one is good").version.generation, 3);
    assert_eq!(house.bank.presented(), ["first", "second"]);
}

#[tokio::test]
async fn within_its_grace_a_bank_is_asked_once_more_soon() {
    let house = House::with(|behaviour| behaviour.reuse_grace = Some(Duration::from_secs(60)));
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.clock.advance(Timing::STANDARD.reunion);
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    let (tokens, clock) = (house.tokens.clone(), house.clock.clone());
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
    house.until(|| house.bank.presented().len() == 1).await;
    let _uncertain = call.await.expect("no panic");
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(house.bank.presented().len(), 1, "what is on its way is decided first");
    clock.advance(Duration::from_secs(5));
    assert_eq!(call.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-0", "rt-0"]);
}

#[tokio::test]
async fn a_process_that_has_just_found_the_store_leaves_the_probe_to_who_has_the_answer() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    assert!(house.ask("c").await.is_err());
    house.clock.advance(Timing::STANDARD.quarantine);
    house.tokens.core.link.store_is_away(house.clock.boot(), Duration::ZERO);
    let Err(TokenError::Uncertain { retry_after }) = house.ask("c").await else { panic!("it is too early") };
    assert_eq!((retry_after, house.bank.presented().len()), (Timing::STANDARD.reunion, 1));
    house.clock.advance(retry_after);
    assert_eq!(house.ask("c").await.expect("probed").version.generation, 2);
}

#[tokio::test]
async fn that_an_answer_was_lost_stands_in_a_store_that_had_forgotten_the_request() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let before = house.tokens.store().raw(&key("c"));
    let gate = house.bank.hold_answers();
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(drop) });
    house.until(|| house.bank.presented().len() == 1).await;
    house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    gate.send_replace(true);
    assert!(matches!(call.await.expect("no panic"), Err(TokenError::Uncertain { .. })));
    let record = house.record("c").await;
    assert_eq!((record.state, record.sends), (RecordState::Uncertain, 1));
}

#[tokio::test]
async fn what_this_process_put_back_before_its_own_commit_came_through_is_its_own() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().refuse(&["commit"]);
    assert_eq!(house.ask("c").await.expect("spilled").version.generation, 2);
    reunion::retell(Arc::clone(&house.tokens.core)).await.expect("the store works");
    assert_eq!(house.record("c").await.version.generation, 2, "it is put back");
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert!(house.held("c").is_some(), "and its own commit is not taken for somebody else's");
    let labels = ProviderLabels { provider: "bank".to_owned() };
    assert_eq!(house.tokens.core.metrics.late_sends.get_or_create(&labels).get(), 0);
}

#[tokio::test]
async fn a_call_waits_for_a_store_that_is_being_told_what_it_forgot() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().reunite(true);
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
    house.until(|| house.tokens.store().count("begin") > 2).await;
    assert!(!call.is_finished() && house.bank.presented().is_empty());
    house.tokens.store().reunite(false);
    assert_eq!(call.await.expect("no panic"), Ok(2));
}

#[tokio::test]
async fn a_flight_ends_that_meets_nothing_but_a_store_that_is_being_told_what_it_forgot() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().reunite(true);
    assert!(house.ask_for("c", "bank", Duration::from_millis(50)).await.is_err());
    house.tokens.settled_once().await;
}
