//! What is kept of a bank's answer, and for whom, when spill, store or time do not play along.

use super::house::{House, LIFE, Limits, ask, key, provider};
use super::*;
use crate::store::{Seed, SeedOutcome};
use crate::words::ids::GrantId;
use crate::words::metrics::{KindLabels, ProviderLabels};
use crate::words::secrets::RefreshToken;
use crate::words::token_set::Scope;

const EXPIRED: Duration = Duration::ZERO;

#[tokio::test]
async fn an_answer_that_lay_there_while_the_process_stood_still_gives_what_is_left_of_its_token() {
    for (still, left) in [(100, 500), (300, 300), (400, 200)].map(|(a, b)| (secs(a), secs(b))) {
        let house = House::new();
        house.seed("c", Some("rt-0"), EXPIRED).await;
        let gate = house.bank.hold_answers();
        let tokens = house.tokens.clone();
        let call = tokio::spawn(async move { ask(&tokens, "c").await });
        house.until(|| house.bank.presented().len() == 1).await;
        house.clock.advance(still);
        gate.send_replace(true);
        let held = call.await.expect("no panic").expect("granted");
        assert_eq!(held.remaining(house.clock.boot()), left, "{still:?}");
        house.tokens.settled_once().await;
        assert_eq!(house.record("c").await.remaining, left, "{still:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_neither_spilled_nor_committed_serves_and_gives_its_permit_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    without_spill(&house);
    house.tokens.store().refuse(&["commit"]);
    assert_eq!(house.ask("c").await.expect("it is in memory").version.generation, 2);
    house.until_standing(|standing| standing.in_flight == 0).await;
    assert_eq!(house.record("c").await.version.generation, 1);
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.version.generation, 2);
}

#[tokio::test]
async fn a_consent_s_tokens_are_spilled_and_our_own_are_not() {
    let house = House::new();
    let written = house.tokens.core.metrics.spills.get_or_create(&KindLabels { kind: "written" }).clone();
    let (provider, grant) = (provider("bank"), Arc::new(ClientGrant { audience: None, scope: None }));
    let own = TokenKey::Client(ClientKey::new(provider.clone(), None, None));
    let client = Some(&grant);
    assert!(house.tokens.token(&Ask { key: &own, provider: &provider, client, wait: LIFE }).await.is_ok());
    house.tokens.settled_once().await;
    assert_eq!(written.get(), 0);
    house.seed("c", Some("rt-0"), EXPIRED).await;
    assert!(house.ask("c").await.is_ok());
    house.tokens.settled_once().await;
    assert_eq!(written.get(), 1);
}

#[tokio::test]
async fn where_a_spill_is_required_nothing_is_sent_while_none_can_be_written() {
    for spill_required in [true, false] {
        let house = House::limited(Limits { spill_required, ..Limits::default() });
        house.seed("c", Some("rt-0"), EXPIRED).await;
        without_spill(&house);
        assert_eq!(house.ask("c").await.err(), spill_required.then_some(TokenError::StoreUnavailable));
        assert_eq!(house.bank.presented().is_empty(), spill_required);
    }
}

#[tokio::test]
async fn a_commit_that_is_held_up_does_not_lengthen_a_life_though_the_calendar_was_put_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().refuse(&["commit"]);
    assert!(house.ask("c").await.is_ok());
    let wall = house.clock.wall();
    house.clock.advance(secs(100));
    house.clock.set_wall(wall);
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.remaining, LIFE.saturating_sub(secs(100)));
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_to_commit_less_and_less_often() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().refuse(&["commit"]);
    assert!(house.ask("c").await.is_ok());
    tokio::time::sleep(secs(1)).await;
    let tries = house.tokens.store().count("commit");
    assert!((2..=10).contains(&tries), "{tries} within a second");
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
}

#[tokio::test]
async fn a_store_that_is_away_is_told_of_a_failure_less_and_less_often() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().refuse(&["fail"]);
    house.bank.say(TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None });
    assert!(house.ask("c").await.is_err());
    tokio::time::sleep(secs(1)).await;
    let tries = house.tokens.store().count("fail");
    assert!((2..=10).contains(&tries), "{tries} within a second");
    house.tokens.store().refuse(&[]);
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.failures, 1);
}

#[tokio::test]
async fn an_intent_whose_reply_was_lost_is_written_again_and_the_refresh_goes_on() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    house.tokens.store().lose_reply("arm");
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!((house.tokens.store().count("arm"), house.bank.presented().len()), (2, 1));
}

#[tokio::test]
async fn a_refresh_token_that_was_replaced_is_spent_and_one_that_the_bank_keeps_is_not() {
    for (next, spent) in [(Some("rt-1"), true), (Some("rt-0"), false), (None, false)] {
        let house = House::new();
        house.seed("c", Some("rt-0"), EXPIRED).await;
        house.bank.say(TokenOutcome::Granted(TokenSet {
            access: AccessToken::new("at-1"),
            expires_in: LIFE,
            refresh: next.map(RefreshToken::new),
            scope: None,
        }));
        assert!(house.ask("c").await.is_ok());
        house.tokens.settled_once().await;
        let expected = Some(house.record("c").await.version);
        let again = Seed { expected, ..house.grant_of("bank", "c", Some("rt-0"), LIFE, GrantId::random()) };
        let seeded = house.tokens.store().seed(&key("c"), &again).await.expect("the store works");
        assert_eq!(matches!(seeded, SeedOutcome::Spent(_)), spent, "{next:?}: {seeded:?}");
    }
}

#[tokio::test]
async fn the_scope_is_repeated_at_a_bank_that_wants_it_and_at_no_other() {
    for wants in [true, false] {
        let house = House::with(|behaviour| behaviour.send_scope_on_refresh = wants);
        let grant = house.grant_of("bank", "c", Some("rt-0"), EXPIRED, GrantId::random());
        let seed = Seed { scope: Scope::parse("accounts"), ..grant };
        assert!(house.tokens.store().seed(&key("c"), &seed).await.is_ok());
        assert!(house.ask("c").await.is_ok());
        assert_eq!(house.bank.scopes(), [wants.then(|| "accounts".to_owned())]);
    }
}

#[tokio::test]
async fn a_refresh_of_a_token_that_is_held_reads_nothing_before_it_begins() {
    let house = House::new();
    house.connect_changes();
    house.seed("c", Some("rt-0"), LIFE).await;
    assert!(house.ask("c").await.is_ok());
    house.clock.advance(LIFE);
    let reads = house.tokens.store().count("read");
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!(house.tokens.store().count("read"), reads);
}

#[tokio::test]
async fn a_refused_consent_whose_suspension_came_after_the_others_refusals_is_pardoned_with_them() {
    let house = House::new();
    for id in ["c1", "c2", "c3"] {
        house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
        house.bank.say(TokenOutcome::InvalidGrant);
    }
    let another = house.another();
    house.tokens.store().after("report", move || async move {
        for id in ["c2", "c3"] {
            assert!(ask(&another, id).await.is_err());
        }
        another.settled_once().await;
    });
    assert!(house.ask("c1").await.is_err());
    house.tokens.settled_once().await;
    let record = house.record("c1").await;
    assert_eq!((record.state, record.why.as_deref()), (RecordState::Active, Some("refused_once")));
}

#[tokio::test]
async fn the_state_of_a_provider_is_shown_from_the_first_refusal_to_the_success_that_opens_it() {
    let house = House::new();
    let labels = ProviderLabels { provider: "bank".to_owned() };
    let state = house.tokens.core.metrics.provider_state.get_or_create(&labels).clone();
    house.bank.refuse_connections(true);
    for n in 0..6 {
        house.seed(&format!("c{n}"), Some(&format!("rt-{n}")), EXPIRED).await;
        assert!(house.ask(&format!("c{n}")).await.is_err());
        house.tokens.settled_once().await;
    }
    assert_eq!(state.get(), 1, "its breaker is open");
    house.bank.refuse_connections(false);
    house.clock.advance(secs(60));
    assert!(house.ask("c0").await.is_ok());
    house.until(|| state.get() == 0).await;
    house.tokens.freeze(&provider("bank"), None).await.expect("the store works");
    house.clock.advance(LIFE);
    assert!(house.ask("c0").await.is_err());
    assert_eq!(state.get(), 2, "it is frozen");
}

fn without_spill(house: &House) {
    std::fs::remove_dir_all(house.directory.path().join("spill")).expect("it is there");
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
