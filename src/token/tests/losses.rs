//! Requests that left too late, stores that forgot, and how a consent's end is explained by them.

use super::house::{House, LIFE, ask, elsewhere, key, provider};
use super::*;
use crate::store::{Arm, ArmOutcome, Begin, BeginOutcome, Event, EventKind, Fail, FailTo};
use crate::words::ids::{Fence, GrantId};
use crate::words::metrics::{LossLabels, OutcomeLabels, ProviderLabels};
use crate::words::said::{BankRequestId, Said};
use crate::words::secrets::AccessToken;

#[tokio::test]
async fn what_the_bank_said_stands_in_the_history() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let said = Said { status: Some(503), request_id: BankRequestId::parse(b"bank-1"), late: false };
    house.bank.say(TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None });
    house.bank.say_besides(said.clone(), Some(house.clock.boot()));
    assert!(matches!(house.ask("c").await, Err(TokenError::EndpointUnavailable { .. })));
    house.clock.advance(LIFE);
    let granted = Said { status: Some(200), request_id: BankRequestId::parse(b"bank-2"), late: false };
    house.bank.say_besides(granted.clone(), Some(house.clock.boot()));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.tokens.settled_once().await;
    let history = history(&house).await;
    let told: Vec<_> = history.iter().map(|event| (event.kind, event.why.as_deref(), &event.said)).collect();
    let nothing = Said::default();
    let expected = [
        (EventKind::Seeded, None, &nothing),
        (EventKind::Armed, None, &nothing),
        (EventKind::Failed, Some("rate_limited"), &said),
        (EventKind::Armed, None, &nothing),
        (EventKind::Committed, None, &granted),
    ];
    assert_eq!(told, expected);
    assert_eq!(late_sends(&house), 0);
    for outcome in ["rate_limited", "granted"] {
        let labels = OutcomeLabels { provider: "bank".to_owned(), outcome };
        assert_eq!(house.tokens.core.metrics.token_requests.get_or_create(&labels).get(), 1, "{outcome}");
    }
}

#[tokio::test]
async fn a_request_that_left_after_its_lease_is_found_out_and_explains_the_loss() {
    for (late_by, why, counted) in [(0, "revoked_or_expired", 0), (1, "late_send", 1)] {
        let house = House::new();
        house.seed("c", Some("rt-0"), Duration::ZERO).await;
        house.bank.say(TokenOutcome::InvalidGrant);
        let left_at = house.clock.boot().plus(Timing::STANDARD.armed_lease + Duration::from_millis(late_by));
        house.bank.say_besides(Said { status: Some(400), ..Said::default() }, Some(left_at));
        assert_eq!(house.ask("c").await.expect_err("lost"), TokenError::ReauthorizationRequired);
        assert_eq!(house.record("c").await.why.as_deref(), Some(why));
        assert_eq!((late_sends(&house), lost(&house, "late_send")), (counted, counted));
        let suspended = history(&house).await.pop().expect("told");
        assert_eq!((suspended.kind, suspended.said.late), (EventKind::Suspended, counted == 1));
    }
}

#[tokio::test]
async fn a_report_that_comes_after_somebody_else_was_granted_is_a_late_send() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let gate = house.bank.hold_answers();
    house.bank.say(TokenOutcome::Unknown { why: "connection_lost" });
    let tokens = house.tokens.clone();
    let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version) });
    house.until(|| house.bank.presented().len() == 1).await;
    // As if this process had stood still for longer than lease and quarantine.
    house.clock.advance(Timing::STANDARD.armed_lease);
    let begin = |number| Begin {
        attempt: AttemptId::new("other", number),
        provider: provider("bank"),
        wanted: LIFE,
        rejected: None,
        rejection_pause: LIFE,
        lease: LIFE,
        quarantine: Timing::STANDARD.quarantine,
        grace: None,
        create: None,
    };
    let store = house.tokens.store();
    assert!(matches!(store.begin(&key("c"), &begin(1)).await, Ok(BeginOutcome::Wait(..))));
    house.clock.advance(Timing::STANDARD.quarantine);
    assert!(matches!(store.begin(&key("c"), &begin(2)).await, Ok(BeginOutcome::Granted(..))));
    gate.send_replace(true);
    assert!(matches!(call.await.expect("no panic"), Err(TokenError::Uncertain { .. })));
    house.tokens.settled_once().await;
    assert_eq!(late_sends(&house), 1);
    let told = history(&house).await;
    let overtaken =
        |event: &Event| event.kind == EventKind::Overtaken && event.why.as_deref() == Some("connection_lost");
    assert!(told.iter().any(overtaken), "{told:?}");
    // Whoever was granted it had sent nothing, so that the answer was lost still stands.
    assert_eq!(told.last().expect("told").kind, EventKind::Uncertain);
}

#[tokio::test]
async fn an_answer_that_another_process_has_overtaken_is_one_late_send_however_it_is_noticed() {
    for left_late in [false, true] {
        let house = House::new();
        house.seed("c", Some("rt-0"), Duration::ZERO).await;
        let gate = house.bank.hold_answers();
        let left_at = house.clock.boot().plus(Timing::STANDARD.armed_lease + Duration::from_millis(1));
        let tokens = house.tokens.clone();
        let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version) });
        house.until(|| house.bank.presented().len() == 1).await;
        house.clock.advance(Timing::STANDARD.armed_lease);
        let another = house.another();
        assert!(matches!(ask(&another, "c").await, Err(TokenError::Uncertain { .. })));
        another.settled_once().await;
        house.bank.hold_answers().send_replace(true);
        house.clock.advance(Timing::STANDARD.quarantine);
        assert_eq!(ask(&another, "c").await.expect("by a probe").version.generation, 2);
        house.until_record("c", |record| record.version.generation == 2).await;
        house.bank.say_besides(Said::default(), left_late.then_some(left_at));
        gate.send_replace(true);
        drop(call.await.expect("no panic"));
        house.tokens.settled_once().await;
        assert_eq!(late_sends(&house), 1, "left late: {left_late}");
    }
}

#[tokio::test]
async fn a_refusal_is_the_stores_fault_where_this_process_knows_a_later_generation() {
    let house = House::new();
    let grant = GrantId::random();
    house.seed_grant("c", Some("rt-0"), Duration::ZERO, grant).await;
    let origin = keep::Origin { provider: &provider("bank"), version: Version::first(grant).next(), scope: None };
    let expired = house.clock.boot();
    let held = house.tokens.core.make(origin, &AccessToken::new("at-2"), expired, LIFE, 0).expect("made");
    house.tokens.core.cache.put(&key("c"), Arc::new(held));
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("lost"), TokenError::ReauthorizationRequired);
    assert_eq!(house.record("c").await.why.as_deref(), Some("store_forgot"));
    assert_eq!((lost(&house, "store_forgot"), lost(&house, "lost_reply")), (1, 0));
}

#[tokio::test]
async fn a_refusal_after_an_intent_that_was_seen_and_is_no_longer_known_is_a_double_send() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let before = house.tokens.store().raw(&key("c"));
    spent_elsewhere(&house).await;
    // That process dies, and the store comes back as it was.
    house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("lost"), TokenError::ReauthorizationRequired);
    assert_eq!(house.record("c").await.why.as_deref(), Some("double_send"));
    assert_eq!(lost(&house, "double_send"), 1);
}

#[tokio::test]
async fn a_refusal_after_an_intent_that_the_store_still_knows_has_nothing_to_do_with_it() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let (attempt, fence, base) = spent_elsewhere(&house).await;
    let fail = Fail { attempt, fence, base, to: FailTo::Released, why: "not_sent", said: Said::default() };
    house.tokens.store().fail(&key("c"), &fail).await.expect("the store works");
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("refused"), TokenError::ReauthorizationRequired);
    assert_eq!(house.record("c").await.why.as_deref(), Some("revoked_or_expired"));
    assert_eq!(lost(&house, "double_send"), 0);
}

/// Another process spends the refresh token of `c`, and this one sees it.
async fn spent_elsewhere(house: &House) -> (AttemptId, Fence, Version) {
    let (attempt, fence, base) = elsewhere(house).await;
    let lease = Timing::STANDARD.armed_lease;
    let arm = Arm { attempt: attempt.clone(), fence, base, lease, probe: false };
    assert_eq!(house.tokens.store().arm(&key("c"), &arm).await, Ok(ArmOutcome::Armed));
    let impatient = house.ask_for("c", "bank", Duration::from_millis(100)).await;
    assert_eq!(impatient.expect_err("somebody else is at it"), TokenError::WaitTimeout);
    house.tokens.settled_once().await;
    (attempt, fence, base)
}

#[tokio::test]
async fn what_must_stay_at_zero_is_shown_from_the_start() {
    let house = House::new();
    let metrics = &house.tokens.core.metrics;
    let provider = || "bank".to_owned();
    for cause in ["double_send", "store_forgot", "lost_reply", "late_send"] {
        assert!(metrics.consents_lost.get(&LossLabels { provider: provider(), cause }).is_some(), "{cause}");
    }
    assert!(metrics.late_sends.get(&ProviderLabels { provider: provider() }).is_some());
}

#[tokio::test]
async fn waits_and_overheads_are_measured() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Unknown { why: "connection_lost" });
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled_once().await;
    house.clock.advance(Timing::STANDARD.quarantine + Timing::STANDARD.armed_lease);
    assert!(house.ask("c").await.is_ok());
    house.tokens.settled_once().await;
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = &house.tokens.core.metrics;
    registry.register("quarantine", "", metrics.quarantine_seconds.clone());
    registry.register("overhead", "", metrics.refresh_overhead_seconds.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    for line in ["quarantine_count 1", "quarantine_sum 60.0", "overhead_count 1"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn whoever_waits_for_another_holder_asks_less_and_less_often_and_the_wait_is_measured() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.seed("d", Some("rt-d"), Duration::ZERO).await;
    assert!(house.ask("d").await.is_ok(), "nobody else is at it");
    elsewhere(&house).await;
    let begun = house.tokens.store().count("begin");
    assert_eq!(house.ask_for("c", "bank", Duration::from_secs(1)).await.expect_err("held"), TokenError::WaitTimeout);
    let begun = house.tokens.store().count("begin") - begun;
    assert!((2..=20).contains(&begun), "{begun} within a second");
    house.tokens.settled_once().await;
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("lease_wait", "", house.tokens.core.metrics.lease_wait_seconds.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert!(text.contains("lease_wait_count 1"), "{text}");
}

async fn history(house: &House) -> Vec<Event> {
    house.tokens.store().history(&key("c")).await.expect("the store works")
}

fn late_sends(house: &House) -> u64 {
    let labels = ProviderLabels { provider: "bank".to_owned() };
    house.tokens.core.metrics.late_sends.get_or_create(&labels).get()
}

fn lost(house: &House, cause: &'static str) -> u64 {
    let labels = LossLabels { provider: "bank".to_owned(), cause };
    house.tokens.core.metrics.consents_lost.get_or_create(&labels).get()
}
