//! The token use case over the real embedded store and a scripted bank that rotates. `house` builds it, `shaky` is a
//! store that fails or is overtaken when a test says so, `disturbed` is what happens then.

mod bank;
mod disturbed;
mod forgetful;
mod house;
mod keeping;
mod line;
mod losses;
mod overtaken;
mod permits;
mod refusals;
mod setback;
mod shaky;
mod shut;

use house::{House, LIFE, ask, key, provider};

use super::*;
use crate::oauth::TokenOutcome;
use crate::words::bank::OldAccessToken;
use crate::words::ids::ClientKey;
use crate::words::metrics::LossLabels;
use crate::words::secrets::AccessToken;
use crate::words::token_set::TokenSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_of_an_expired_consent_cost_one_token_request() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let tokens = house.tokens.clone();
            tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_does_not_stop_the_refresh() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let gate = house.bank.hold_answers();
    let impatient = house.ask_for("c", "bank", Duration::from_millis(20)).await;
    assert_eq!(impatient.expect_err("the bank has not answered"), TokenError::WaitTimeout);
    gate.send_replace(true);
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_token_in_its_soft_window_is_served_and_replaced_behind_the_callers_back() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::from_secs(20)).await;
    house.connect_changes();
    assert_eq!(house.ask("c").await.expect("stored").version.generation, 1);
    assert_eq!(house.ask("c").await.expect("held").version.generation, 1, "nobody waits");
    house.until(|| house.held("c").is_some_and(|held| held.version.generation == 2)).await;
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn a_bank_that_kills_the_old_token_is_not_refreshed_early() {
    let house = House::with(|behaviour| behaviour.old_access_token = OldAccessToken::Revoked);
    house.seed("c", Some("rt-0"), Duration::from_secs(20)).await;
    house.connect_changes();
    for _ in 0..3 {
        assert_eq!(house.ask("c").await.expect("stored").version.generation, 1);
    }
    house.tokens.settled().await;
    assert!(house.bank.presented().is_empty());
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once_and_its_successor_is_believed_in() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let first = house.ask("c").await.expect("stored");
    house.tokens.reject(&key("c"), first.version);
    let second = house.ask("c").await.expect("refreshed");
    assert_eq!(second.version, first.version.next());
    house.tokens.reject(&key("c"), second.version);
    let third = house.ask("c").await.expect("the same, because a refresh would not help");
    assert_eq!(third.version, second.version);
    house.tokens.reject(&key("c"), first.version);
    assert_eq!(
        house.ask("c").await.expect("a late complaint about the old one changes nothing").version,
        second.version
    );
    assert_eq!(house.bank.presented(), ["rt-0"]);
    house.clock.advance(Duration::from_secs(61));
    house.tokens.reject(&key("c"), second.version);
    assert_eq!(house.ask("c").await.expect("refreshed").version, second.version.next());
}

#[tokio::test]
async fn a_consent_is_unknown_at_every_provider_but_its_own() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    let wait = Duration::from_secs(5);
    assert_eq!(house.ask_for("c", "other", wait).await.expect_err("foreign"), TokenError::Unknown);
    assert!(house.ask("c").await.is_ok());
    assert_eq!(house.ask_for("c", "other", wait).await.expect_err("foreign, held or not"), TokenError::Unknown);
    assert_eq!(house.ask("d").await.expect_err("nothing is stored"), TokenError::Unknown);
}

#[tokio::test]
async fn a_consent_that_stands_at_its_own_provider_is_unknown_at_another_remembered_or_not() {
    let house = House::new();
    house.seed("c", Some("rt-0"), LIFE).await;
    house.connect_changes();
    let id = ConsentId::parse("c").expect("valid");
    for _ in 0..2 {
        assert_eq!(house.tokens.standing(&id, &provider("bank")).await, Ok(()));
        assert_eq!(house.tokens.standing(&id, &provider("other")).await, Err(TokenError::Unknown));
    }
    let nobody = ConsentId::parse("d").expect("valid");
    assert_eq!(house.tokens.standing(&nobody, &provider("other")).await, Ok(()), "nothing is stored of it");
}

#[tokio::test]
async fn invalid_grant_suspends_the_consent_and_keeps_its_refresh_token() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::InvalidGrant);
    assert_eq!(house.ask("c").await.expect_err("refused"), TokenError::ReauthorizationRequired);
    assert_eq!(house.ask("c").await.expect_err("still"), TokenError::ReauthorizationRequired);
    assert_eq!(house.bank.presented(), ["rt-0"], "it is not asked again");
    let record = house.record("c").await;
    assert_eq!(record.state, RecordState::ReauthorizationRequired);
    assert!(record.refresh.is_some());
}

#[tokio::test]
async fn after_a_lost_answer_nobody_sends_within_the_quarantine_and_then_one_probe_goes_out() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Unknown { why: "connection_lost" });
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    for _ in 0..5 {
        assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    }
    assert_eq!(house.bank.presented(), ["rt-0"]);
    house.clock.advance(Timing::STANDARD.quarantine + Timing::STANDARD.armed_lease);
    assert_eq!(house.ask("c").await.expect("the bank had not processed it").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-0"], "one recorded probe");
}

#[tokio::test]
async fn a_probe_that_is_refused_is_a_lost_consent_and_is_counted() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Unknown { why: "no_answer" });
    house.bank.say(TokenOutcome::InvalidGrant);
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled_once().await;
    house.clock.advance(Timing::STANDARD.quarantine + Timing::STANDARD.armed_lease);
    assert_eq!(house.ask("c").await.expect_err("lost"), TokenError::ReauthorizationRequired);
    assert_eq!(house.record("c").await.why.as_deref(), Some("lost_reply"));
    let labels = LossLabels { provider: "bank".to_owned(), cause: "lost_reply" };
    assert_eq!(house.tokens.core.metrics.consents_lost.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn an_unreadable_yes_is_salvaged_into_the_spill() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    let body = zeroize::Zeroizing::new(b"CANARY-answer".to_vec());
    house.bank.say(TokenOutcome::Unreadable { why: "unreadable_answer", body });
    assert!(matches!(house.ask("c").await, Err(TokenError::Uncertain { .. })));
    house.tokens.settled().await;
    let files: Vec<_> = std::fs::read_dir(house.directory.path().join("spill"))
        .expect("the spill is there")
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "spill"))
        .map(|file| std::fs::read(file.path()).expect("readable"))
        .collect();
    assert_eq!(files.len(), 1);
    assert!(!String::from_utf8_lossy(&files[0]).contains("CANARY"));
}

#[tokio::test]
async fn a_bank_that_cannot_be_reached_is_left_alone_for_a_while() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.refuse_connections(true);
    let Err(TokenError::EndpointUnavailable { retry_after, .. }) = house.ask("c").await else { panic!("unreachable") };
    assert!(retry_after >= Duration::from_millis(500));
    house.tokens.settled_once().await;
    house.bank.refuse_connections(false);
    assert!(matches!(house.ask("c").await, Err(TokenError::EndpointUnavailable { .. })), "backing off");
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"]);
}

#[tokio::test]
async fn our_own_misconfiguration_touches_no_consent() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Misconfigured { why: "invalid_client" });
    let misconfigured = TokenError::Misconfigured { why: "invalid_client".to_owned() };
    assert_eq!(house.ask("c").await.expect_err("refused"), misconfigured);
    assert_eq!(house.ask("c").await.expect_err("backing off"), misconfigured);
    assert_eq!(house.record("c").await.state, RecordState::Active);
    house.clock.advance(Duration::from_secs(2));
    assert!(house.ask("c").await.is_ok());
}

#[tokio::test]
async fn a_bank_that_gives_no_new_refresh_token_means_the_old_one() {
    let house = House::new();
    house.seed("c", Some("rt-0"), Duration::ZERO).await;
    house.bank.say(TokenOutcome::Granted(TokenSet {
        access: AccessToken::new("at-x"),
        expires_in: Duration::from_secs(1),
        refresh: None,
        scope: None,
    }));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 3);
    assert_eq!(house.bank.presented(), ["rt-0", "rt-0"]);
}

#[tokio::test]
async fn a_consent_without_a_refresh_token_lives_as_long_as_its_access_token() {
    let house = House::new();
    house.seed("c", None, Duration::from_secs(20)).await;
    house.connect_changes();
    for _ in 0..3 {
        assert!(house.ask("c").await.is_ok(), "in its soft window, with nothing to refresh");
    }
    house.tokens.settled_once().await;
    assert_eq!(house.record("c").await.state, RecordState::Active);
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(house.ask("c").await.expect_err("expired"), TokenError::ReauthorizationRequired);
    assert!(house.bank.presented().is_empty());
}

#[tokio::test]
async fn a_client_token_is_fetched_once_and_kept() {
    let house = House::new();
    let scope = Scope::parse("debt").expect("valid");
    let grant = Arc::new(ClientGrant { audience: Some("api".to_owned()), scope: Some(scope) });
    let provider = provider("bank");
    let key = TokenKey::Client(ClientKey::new(provider.clone(), Some("api"), Some("debt")));
    let ask = Ask { key: &key, provider: &provider, client: Some(&grant), wait: Duration::from_secs(5) };
    let first = house.tokens.token(&ask).await.expect("fetched");
    assert_eq!(house.tokens.token(&ask).await.expect("held").version, first.version);
    assert_eq!(house.bank.presented(), ["client"]);
    house.tokens.settled_once().await;
    house.tokens.core.cache.forget(&key);
    assert_eq!(house.tokens.token(&ask).await.expect("stored").version, first.version);
    assert_eq!(house.bank.presented(), ["client"], "another replica would have found it in the store");
}

#[tokio::test]
async fn a_spill_that_was_never_committed_is_replayed_by_the_next_process() {
    let mut house = House::new();
    house.seed_grant("c", Some("rt-0"), Duration::ZERO, house.grant).await;
    assert_eq!(house.ask("c").await.expect("refreshed").version.generation, 2);
    house.tokens.settled().await;
    // As after a crash: the spill is still there, and the store has the record it had before the commit.
    house.restart_with_store_as_before();
    house.seed_grant("c", Some("rt-0"), Duration::ZERO, house.grant).await;
    let replay = house.tokens.recover(Duration::from_secs(5)).await;
    assert_eq!(replay, Replay { found: 1, ..Replay::default() });
    assert_eq!(house.record("c").await.version.generation, 2);
    assert_eq!(house.ask("c").await.expect("replayed").version.generation, 2);
    assert_eq!(house.bank.presented(), ["rt-0"], "no second request");
}

#[tokio::test]
async fn more_consents_than_a_bank_is_asked_for_at_once_all_get_their_turn() {
    let house = House::new();
    for n in 0..30 {
        house.seed(&format!("c{n}"), Some(&format!("rt-c{n}")), Duration::ZERO).await;
    }
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let tokens = house.tokens.clone();
            tokio::spawn(async move { ask(&tokens, &format!("c{n}")).await.map(|held| held.version.generation) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), Ok(2));
    }
    assert_eq!(house.bank.presented().len(), 30);
    assert!(house.bank.most_at_once() <= 8, "{}", house.bank.most_at_once());
}
