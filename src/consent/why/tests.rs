//! What is told of every state and every class, read as a person would.

use super::*;
use crate::store::Sealed;
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, GrantId, ProviderId, Version};

const QUARANTINE: Duration = Duration::from_secs(40);

fn record(state: RecordState) -> Snapshot {
    Snapshot {
        provider: ProviderId::parse("bank").expect("valid"),
        state,
        version: Version::first(GrantId::random()),
        access: Some(Sealed::from_bytes(*b"sealed")),
        remaining: Duration::from_secs(90),
        life: Duration::from_secs(600),
        refresh: Some(Sealed::from_bytes(*b"sealed")),
        refresh_fingerprint: None,
        scope: None,
        bank_consent_id: None,
        consent_expires_at: None,
        consent_remaining: None,
        certificate: None,
        holder: Some(AttemptId::new("pod-1/boot", 7)),
        lease_left: Duration::from_secs(5),
        uncertain_for: None,
        sends: 0,
        failures: 0,
        backoff: Duration::ZERO,
        why: None,
        replaced: None,
        granted_at: None,
    }
}

fn event(kind: EventKind, why: Option<&str>) -> Event {
    Event {
        at: WallTime::from_millis(1_760_000_000_000),
        kind,
        fence: 3,
        version: Version::first(GrantId::random()),
        why: why.map(str::to_owned),
        said: Said { status: Some(503), request_id: BankRequestId::parse(b"bank-1"), late: false },
        until: None,
        attempt: Some(AttemptId::new("pod-1/boot", 7)),
    }
}

fn summary(record: &Snapshot, events: &[Event]) -> String {
    tell(record, events, QUARANTINE).summary
}

#[test]
fn every_state_is_told_with_who_acts() {
    use RecordState as State;
    let lost = Snapshot { why: Some("lost_reply".to_owned()), ..record(State::ReauthorizationRequired) };
    let ended = Snapshot { why: Some("bank_says_ended".to_owned()), ..record(State::Revoked) };
    let rows = [
        (record(State::Pending), "has not come back", Who::Nobody),
        (record(State::Active), "is usable. Its access token is used for 1 min 30 s more.", Who::Nobody),
        (record(State::Leased), "pod-1/boot/7 is about to refresh it", Who::Nobody),
        (record(State::Armed), "pod-1/boot/7 is refreshing it at this moment; its lease lasts 5 s more", Who::Nobody),
        (record(State::Uncertain), "nobody knows whether the bank processed it", Who::Nobody),
        (lost, "can no longer be renewed: the bank's answer to a refresh was lost", Who::App),
        (record(State::ReauthorizationRequired), "can no longer be renewed: no reason was written down", Who::App),
        (record(State::Denied), "The customer refused", Who::App),
        (ended, "was revoked: the bank's API said that the consent has ended.", Who::App),
        (record(State::Revoked), "The consent was revoked.", Who::App),
        (record(State::Expired), "own time is over.", Who::App),
    ];
    for (record, expected, who) in rows {
        let told = tell(&record, &[], QUARANTINE);
        assert!(told.summary.contains(expected), "{:?}: {}", record.state, told.summary);
        assert_eq!(told.who_acts, who, "{:?}", record.state);
        assert!(told.advice.ends_with('.'), "{:?}: {}", record.state, told.advice);
    }
}

#[test]
fn every_class_has_its_words_and_somebody_or_nobody_who_acts() {
    for class in FailureClass::ALL {
        let failed = Snapshot { failures: 2, why: Some(class.as_str().to_owned()), ..record(RecordState::Active) };
        let told = tell(&failed, &[], QUARANTINE);
        let expected = format!("The last 2 refreshes in a row failed: {}. Its access", class.says());
        assert!(told.summary.starts_with(&expected), "{}", told.summary);
        assert!(told.advice.ends_with('.') && told.advice.len() > 15, "{class:?}: {}", told.advice);
        let suspended = Snapshot { state: RecordState::ReauthorizationRequired, ..failed };
        assert!(tell(&suspended, &[], QUARANTINE).summary.contains(class.says()), "{class:?}");
        let doubt = [event(EventKind::Uncertain, Some(class.as_str()))];
        let told = summary(&Snapshot { state: RecordState::Uncertain, ..suspended }, &doubt);
        assert!(told.contains(&format!("{} (HTTP 503, the bank's request id bank-1).", class.says())), "{told}");
    }
    let later = Snapshot { failures: 1, why: Some("of_a_later_release".to_owned()), ..record(RecordState::Active) };
    assert!(summary(&later, &[]).contains("of_a_later_release"));
}

#[test]
fn a_failure_is_told_with_the_banks_answer_and_the_next_attempt() {
    let failed = Snapshot {
        failures: 1,
        backoff: Duration::from_secs(200),
        why: Some("rate_limited".to_owned()),
        remaining: Duration::ZERO,
        ..record(RecordState::Active)
    };
    let expected = "The last 1 refresh failed: the bank asked for fewer requests (HTTP 503, the bank's request id bank-1). \
                    Its access token has expired. Nobody tries again for 3 min 20 s.";
    assert_eq!(summary(&failed, &[event(EventKind::Failed, Some("rate_limited"))]), expected);
}

#[test]
fn an_uncertain_consent_is_told_with_what_comes_next() {
    let lost = [event(EventKind::HolderLost, None)];
    let quiet = Snapshot {
        lease_left: Duration::ZERO,
        uncertain_for: Some(Duration::from_secs(10)),
        ..record(RecordState::Uncertain)
    };
    assert!(summary(&quiet, &lost).contains("pod-1/boot/7 was not heard of again. Its access token is used for"));
    assert!(summary(&quiet, &lost).contains("Nobody sends for 30 s more; then the bank is asked once more."));
    let over = Snapshot { uncertain_for: Some(QUARANTINE), ..quiet.clone() };
    assert!(summary(&over, &lost).ends_with("when the access token has expired."));
    let due = Snapshot { remaining: Duration::ZERO, ..over.clone() };
    assert!(summary(&due, &lost).ends_with("The next call asks the bank once more."));
    let later = Snapshot { backoff: Duration::from_secs(4), ..due };
    assert!(summary(&later, &lost).ends_with("The bank is asked once more in 4 s."));
    let probing = Snapshot { lease_left: Duration::from_secs(3), ..over };
    assert!(summary(&probing, &lost).ends_with("pod-1/boot/7 may ask the bank once more at this moment."));
    let told = tell(&quiet, &[event(EventKind::Uncertain, Some("server_error"))], QUARANTINE);
    assert!(told.advice.contains("its request bank-1."), "{}", told.advice);
}

#[test]
fn a_holder_that_is_gone_is_told_as_such() {
    let gone = |state, sends| Snapshot { lease_left: Duration::ZERO, sends, ..record(state) };
    assert!(summary(&gone(RecordState::Leased, 0), &[]).contains("sent nothing, and let its time pass"));
    assert!(summary(&gone(RecordState::Armed, 1), &[]).contains("has not been heard of since"));
    assert!(summary(&gone(RecordState::Armed, 2), &[]).contains("the one probe"));
    let nobody = Snapshot { holder: None, ..record(RecordState::Armed) };
    assert!(summary(&nobody, &[]).starts_with("Somebody is refreshing it"));
}

#[test]
fn what_can_be_revived_is_said() {
    let refused =
        Snapshot { why: Some("revoked_or_expired".to_owned()), ..record(RecordState::ReauthorizationRequired) };
    let advice = |record: &Snapshot| tell(record, &[], QUARANTINE).advice;
    assert!(advice(&refused).contains("`consentry consent revive`"));
    assert!(!advice(&refused).contains("--replaced"));
    let bare = Snapshot { refresh: None, why: Some("no_refresh_token".to_owned()), ..refused.clone() };
    assert_eq!(advice(&bare), SEND_THE_CUSTOMER);
    let replaced = Some((Sealed::from_bytes(*b"sealed"), Version::first(GrantId::random())));
    assert!(advice(&Snapshot { replaced, ..refused }).contains("--replaced"));
    let revived = summary(&record(RecordState::Active), &[event(EventKind::Revived, None)]);
    assert!(revived.contains("A person revived it"));
}

#[test]
fn a_consent_that_was_to_end_and_lives_is_told_as_such() {
    let told = tell(&record(RecordState::Active), &[event(EventKind::NotRevoked, Some("server_error"))], QUARANTINE);
    assert!(told.summary.starts_with("The consent was to be revoked, and is not: "), "{}", told.summary);
    assert!(told.summary.contains("(HTTP 503, the bank's request id bank-1). It is still usable."), "{}", told.summary);
    assert_eq!(told.who_acts, Who::Operator);
    assert!(told.advice.contains("--only-here"), "{}", told.advice);
}

#[test]
fn every_event_has_its_words() {
    let rows = [
        (EventKind::Asked, None, "a customer was asked for the grant pod-1/boot/7"),
        (EventKind::NotGranted, Some("access_denied"), "brought no grant: the bank said access_denied"),
        (EventKind::NotGranted, Some("no_answer"), "did not answer in two minutes"),
        (EventKind::NotGranted, Some("overtaken"), "while the code was exchanged"),
        (EventKind::NotGranted, Some("unsealable"), "could not be sealed"),
        (EventKind::NotGranted, Some("unreadable"), "the attempt does not open"),
        (EventKind::Seeded, None, "a token set was stored as a new grant"),
        (EventKind::Replaced, None, "a new grant took the place"),
        (EventKind::Armed, None, "pod-1/boot/7 wrote down that it spends the refresh token"),
        (EventKind::Armed, Some("probe"), "wrote down that it asks the bank once more"),
        (EventKind::ProbeGranted, None, "may ask the bank once more"),
        (EventKind::HolderLost, None, "has not been heard of"),
        (EventKind::Resumed, None, "is back"),
        (EventKind::Committed, None, "stored generation 1 (HTTP 503"),
        (EventKind::Committed, Some("late"), "after its lease had run out"),
        (EventKind::Committed, Some("rolled_back"), "the store had forgotten"),
        (EventKind::Superseded, Some("kept_as_alt"), "set aside"),
        (EventKind::Superseded, Some("older"), "dropped"),
        (EventKind::Superseded, Some("other_grant"), "granted anew"),
        (EventKind::Superseded, Some("ended"), "had ended"),
        (EventKind::Failed, Some("unreachable"), "could not be reached"),
        (EventKind::Uncertain, Some("no_answer"), "did not answer in two minutes"),
        (EventKind::Suspended, Some("lost_reply"), "was lost"),
        (EventKind::Overtaken, Some("connection_lost"), "reported too late"),
        (EventKind::Restored, Some("forgotten"), "had forgotten the record"),
        (EventKind::Restored, Some("behind"), "had forgotten newer generations"),
        (EventKind::Reasserted, Some("held"), "is spending the refresh token"),
        (EventKind::Reasserted, Some("noted"), "may have been spent"),
        (EventKind::Revived, None, "the kept refresh token tried again"),
        (EventKind::Revived, Some("replaced"), "of the replaced grant"),
        (
            EventKind::NotRevoked,
            Some("token_rejected"),
            "was to revoke it, and the bank did not: the bank's API accepted no",
        ),
        (EventKind::Ended, Some("bank_says_ended"), "the consent ended: the bank's API"),
        (EventKind::Ended, Some("revoked_on_request"), "it was revoked on request, at the bank and then here"),
    ];
    for kind in EventKind::ALL {
        assert!(rows.iter().any(|(told, ..)| *told == kind), "{kind:?} is not read here");
    }
    for (kind, why, expected) in rows {
        let text = describe(&event(kind, why));
        assert!(text.contains(expected), "{kind:?}: {text}");
    }
    let late = Event {
        said: Said { late: true, ..Said::default() },
        until: Some(WallTime::from_millis(1_760_000_040_000)),
        ..event(EventKind::Failed, Some("unreachable"))
    };
    let text = describe(&late);
    assert!(text.contains("left after the right to send it was over; until 2025-10-09T08:54:00Z"), "{text}");
}

#[test]
fn spans_are_told_as_people_say_them() {
    let rows = [
        (0, "0 s"),
        (1, "1 s"),
        (59_001, "1 min"),
        (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
        (90_000_000, "25 h"),
        (300_000_000, "3 days"),
    ];
    for (milliseconds, expected) in rows {
        assert_eq!(span(Duration::from_millis(milliseconds)), expected);
    }
}
