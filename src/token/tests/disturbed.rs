//! What comes between: a store that goes away, news at the wrong moment, a bank that answers late.

use tokio::sync::oneshot;

use super::house::{House, LIFE, Limits, TestTokens, ask, key, provider};
use super::*;
use crate::store::{Begin, BeginOutcome, Fail, FailTo};
use crate::token::follow;
use crate::words::clock::WallTime;
use crate::words::ids::{Fence, GrantId};

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

/// Ends a consent as another replica would.
async fn end(tokens: &TestTokens, id: &str) -> Version {
    let before = tokens.store().read(&key(id)).await.expect("the store works").expect("stored").version;
    let end = End { grant: None, state: RecordState::Revoked, why: "test" };
    tokens.store().end(&key(id), &end).await.expect("the store works");
    before.next()
}

/// Another replica takes the lease of `c`.
async fn elsewhere(house: &House) -> (AttemptId, Fence, Version) {
    let begin = Begin {
        attempt: AttemptId::new("elsewhere", 0),
        provider: provider("bank"),
        wanted: Duration::from_secs(1),
        rejected: None,
        rejection_pause: SOON,
        lease: Timing::STANDARD.lease,
        quarantine: Timing::STANDARD.quarantine,
        hold: true,
        create: None,
    };
    match house.tokens.store().begin(&key("c"), &begin).await.expect("the store works") {
        BeginOutcome::Granted(lease, _) => (begin.attempt, lease.fence, lease.base),
        other => panic!("granted: {other:?}"),
    }
}
