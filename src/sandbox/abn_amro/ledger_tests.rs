//! The ledger on its own: rotation, grace and reuse, step by step.

use std::time::Duration;

use super::super::settings::{AbnAmroKnobs, OldAccessToken, ReusePolicy};
use super::ledger::{Full, Ledger, Tokens};
use super::refresh::Refreshed;
use crate::words::clock::BootInstant;

const START: BootInstant = BootInstant::from_millis(1_000);
const SCOPE: &str = "psd2:account:details:read psd2:account:balance:read";

fn after(seconds: u64) -> BootInstant {
    START.plus(Duration::from_secs(seconds))
}

fn granted(knobs: &AbnAmroKnobs) -> (Ledger, String, Tokens) {
    let mut ledger = Ledger::default();
    let (id, tokens) = ledger.grant(START, knobs, 10, "NL1", SCOPE).unwrap_or_else(|Full| panic!("there is room"));
    (ledger, id, tokens)
}

fn spend(ledger: &mut Ledger, now: BootInstant, knobs: &AbnAmroKnobs, token: &str) -> Refreshed {
    ledger.refresh(now, knobs, token, None, knobs.rotation)
}

fn tokens(refreshed: Refreshed) -> Tokens {
    match refreshed {
        Refreshed::Granted { tokens, .. } => tokens,
        Refreshed::Unknown => panic!("unknown"),
        Refreshed::Reuse => panic!("reuse"),
        Refreshed::ScopeTooWide => panic!("scope too wide"),
    }
}

#[test]
fn a_refresh_gives_a_new_pair_and_the_one_before_is_spent() {
    let knobs = AbnAmroKnobs::default();
    let (mut ledger, id, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
    assert_ne!((&second.access, &second.refresh), (&first.access, &first.refresh));
    assert_eq!(ledger.consent_of_refresh(&second.refresh), Some((id.as_str(), 2)));
    assert!(ledger.presented(START, &first.access).is_some(), "the old access token lives on");
    assert!(ledger.presented(START, &second.access).is_some());
}

#[test]
fn a_spent_token_is_a_reuse_event_and_ends_the_consent() {
    let knobs = AbnAmroKnobs::default();
    let (mut ledger, _, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
    assert!(matches!(spend(&mut ledger, after(1), &knobs, &first.refresh), Refreshed::Reuse));
    assert_eq!((ledger.counters.reuse_events, ledger.counters.consents_dead), (1, 1));
    assert!(matches!(spend(&mut ledger, after(2), &knobs, &second.refresh), Refreshed::Unknown));
    assert!(ledger.presented(after(2), &second.access).is_none());
}

#[test]
fn a_reuse_long_after_is_still_recognised() {
    let knobs = AbnAmroKnobs { reuse_policy: ReusePolicy::Reject, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let mut newest = first.refresh.clone();
    for _ in 0..500 {
        newest = tokens(spend(&mut ledger, START, &knobs, &newest)).refresh;
    }
    assert!(matches!(spend(&mut ledger, after(9), &knobs, &first.refresh), Refreshed::Reuse));
    tokens(spend(&mut ledger, after(9), &knobs, &newest));
}

#[test]
fn with_the_milder_policy_a_reuse_is_only_refused() {
    let knobs = AbnAmroKnobs { reuse_policy: ReusePolicy::Reject, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
    assert!(matches!(spend(&mut ledger, START, &knobs, &first.refresh), Refreshed::Reuse));
    assert_eq!((ledger.counters.reuse_events, ledger.counters.consents_dead), (1, 0));
    tokens(spend(&mut ledger, START, &knobs, &second.refresh));
}

#[test]
fn within_its_grace_a_spent_token_gives_another_pair_and_the_grace_is_not_extended() {
    let knobs = AbnAmroKnobs { grace_s: 60, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
    let again = spend(&mut ledger, after(60), &knobs, &first.refresh);
    assert!(matches!(again, Refreshed::Granted { in_grace: true, .. }));
    let third = tokens(again);
    assert_eq!((ledger.counters.reuse_events, ledger.counters.grace_uses), (0, 1));
    // The second was superseded by the third at 60 s and has a grace of its own from there.
    let fourth = spend(&mut ledger, after(120), &knobs, &second.refresh);
    assert!(matches!(fourth, Refreshed::Granted { in_grace: true, .. }));
    assert!(matches!(spend(&mut ledger, after(121), &knobs, &first.refresh), Refreshed::Reuse));
    assert!(matches!(spend(&mut ledger, after(121), &knobs, &third.refresh), Refreshed::Unknown));
}

#[test]
fn without_rotation_the_refresh_token_stays() {
    let knobs = AbnAmroKnobs { rotation: false, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    for _ in 0..3 {
        let next = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
        assert_eq!(next.refresh, first.refresh);
    }
    assert_eq!((ledger.counters.refreshes, ledger.counters.reuse_events), (3, 0));
}

#[test]
fn within_the_rotation_interval_the_same_refresh_token_comes_back() {
    let knobs = AbnAmroKnobs { rotation_interval_s: 60, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let same = tokens(spend(&mut ledger, after(59), &knobs, &first.refresh));
    assert_eq!(same.refresh, first.refresh);
    let next = tokens(spend(&mut ledger, after(60), &knobs, &first.refresh));
    assert_ne!(next.refresh, first.refresh);
    let same = tokens(spend(&mut ledger, after(119), &knobs, &next.refresh));
    assert_eq!((same.refresh, ledger.counters.reuse_events), (next.refresh, 0));
    assert!(matches!(spend(&mut ledger, after(119), &knobs, &first.refresh), Refreshed::Reuse));
}

#[test]
fn a_consent_that_is_not_refreshed_for_long_ends_where_the_bank_says_so() {
    let knobs = AbnAmroKnobs { consent_idle_s: Some(100), ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, after(99), &knobs, &first.refresh));
    let third = tokens(spend(&mut ledger, after(198), &knobs, &second.refresh));
    assert!(matches!(spend(&mut ledger, after(298), &knobs, &third.refresh), Refreshed::Unknown));
    assert_eq!(ledger.counters.reuse_events, 0);
    tokens(spend(&mut ledger, after(298), &AbnAmroKnobs::default(), &third.refresh));
}

#[test]
fn where_the_bank_kills_old_access_tokens_only_the_newest_lives() {
    let knobs = AbnAmroKnobs { old_access_token: OldAccessToken::Kill, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    let second = tokens(spend(&mut ledger, START, &knobs, &first.refresh));
    assert!(ledger.presented(START, &first.access).is_none());
    assert!(ledger.presented(START, &second.access).is_some());
}

#[test]
fn tokens_and_consents_end_in_time() {
    let knobs = AbnAmroKnobs { access_token_life_s: 10, consent_life_s: 100, ..AbnAmroKnobs::default() };
    let (mut ledger, _, first) = granted(&knobs);
    assert!(ledger.presented(after(9), &first.access).is_some());
    assert!(ledger.presented(after(10), &first.access).is_none());
    assert!(matches!(spend(&mut ledger, after(100), &knobs, &first.refresh), Refreshed::Unknown));
    assert_eq!(ledger.counters.reuse_events, 0, "an ended consent is not a reuse");
}

#[test]
fn a_refused_scope_spends_nothing() {
    let knobs = AbnAmroKnobs::default();
    let (mut ledger, _, first) = granted(&knobs);
    let wide = Some("psd2:account:funds:read");
    let refused = ledger.refresh(START, &knobs, &first.refresh, wide, true);
    assert!(matches!(refused, Refreshed::ScopeTooWide));
    let narrow = Some("psd2:account:balance:read");
    let narrowed = tokens(ledger.refresh(START, &knobs, &first.refresh, narrow, true));
    assert_eq!(narrowed.scope, "psd2:account:balance:read");
    assert_eq!(tokens(spend(&mut ledger, START, &knobs, &narrowed.refresh)).scope, SCOPE);
}

#[test]
fn access_tokens_and_consents_are_bounded() {
    let knobs = AbnAmroKnobs::default();
    let (mut ledger, id, first) = granted(&knobs);
    let mut newest = first.refresh;
    for _ in 0..100 {
        newest = tokens(spend(&mut ledger, START, &knobs, &newest)).refresh;
    }
    let view = serde_json::to_value(ledger.view(START, &id)).expect("plain data");
    assert_eq!(view["access_tokens_alive"], 16);
    assert!(ledger.grant(START, &knobs, 1, "NL2", SCOPE).is_err());
}
