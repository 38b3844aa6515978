//! The decisions one by one, and what no sequence of them may break.
#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::record::ProviderRecord;
use super::steps::{ALL_REFUSED, freeze, permits, renew, report};
use crate::store::contract::{
    Breaker, BreakerClass, Freeze, FreezeReason, Lesson, Limits, PermitAnswer, PermitAsk, Refusal, Report, Reported,
    Stage, Verdict, Wanted,
};
use crate::words::ids::{AttemptId, ClientKey, ConsentId, GrantId, ProviderId, TokenKey, Version};

const LIMITS: Limits = Limits { in_flight: 8, per_second: 20 };
const LIFE: Duration = Duration::from_secs(6);
const START: u64 = 1_000_000;

fn consent(number: u64) -> TokenKey {
    TokenKey::Consent(ConsentId::parse(&format!("c-{number}")).unwrap())
}

fn client() -> TokenKey {
    TokenKey::Client(ClientKey::new(ProviderId::parse("bank").unwrap(), Some("audience"), None))
}

fn permit(number: u64) -> AttemptId {
    AttemptId::new("replica/1", number)
}

/// Permit `n` is for consent `n`.
fn ask(numbers: impl IntoIterator<Item = u64>) -> PermitAsk {
    let wanted = numbers.into_iter().map(|n| Wanted { permit: permit(n), key: consent(n) }).collect();
    PermitAsk { wanted, waiting: true, limits: LIMITS, life: LIFE }
}

fn tell(record: &mut ProviderRecord, now: u64, number: u64, lesson: Lesson) -> Reported {
    report(record, now, &Report { permit: permit(number), key: consent(number), lesson, spread: 999 })
}

fn refusal() -> Lesson {
    Lesson::Refused(Refusal {
        version: Version::first(GrantId::parse(&"0a".repeat(16)).unwrap()),
        fence: 1,
        probe: false,
    })
}

fn failure() -> Lesson {
    Lesson::Failed(BreakerClass::Unavailable, "server_error")
}

/// One request from its permit to its report.
fn request(record: &mut ProviderRecord, now: u64, number: u64, lesson: Lesson) -> Reported {
    assert_eq!(permits(record, now, &ask([number])), PermitAnswer::Granted(0..1), "{record:?}");
    tell(record, now, number, lesson)
}

fn open_for(record: &ProviderRecord, now: u64) -> Option<Duration> {
    match record.standing(now).breaker {
        Breaker::Open(opened) | Breaker::HalfOpen(opened) => Some(opened.wait),
        Breaker::Closed => None,
    }
}

#[test]
fn no_more_are_in_flight_than_allowed_and_a_permit_that_is_given_back_makes_room() {
    let mut record = ProviderRecord::default();
    assert_eq!(permits(&mut record, START, &ask(1..=10)), PermitAnswer::Granted(0..8));
    assert_eq!(permits(&mut record, START, &ask([9])), PermitAnswer::Full(Duration::from_millis(100)));
    tell(&mut record, START, 3, Lesson::Succeeded);
    assert_eq!(permits(&mut record, START, &ask([9, 10])), PermitAnswer::Granted(0..1));
}

#[test]
fn no_more_are_sent_within_a_second_than_allowed_and_what_was_not_sent_does_not_count() {
    let mut record = ProviderRecord::default();
    for n in 0..20 {
        request(&mut record, START + n, n, Lesson::Succeeded);
    }
    assert_eq!(permits(&mut record, START + 500, &ask([50])), PermitAnswer::Full(Duration::from_millis(500)));
    assert_eq!(permits(&mut record, START + 1_000, &ask([50, 51])), PermitAnswer::Granted(0..1));
    tell(&mut record, START + 1_000, 50, Lesson::Unused);
    assert_eq!(permits(&mut record, START + 1_000, &ask([51])), PermitAnswer::Granted(0..1));
}

#[test]
fn a_request_counts_until_a_second_after_its_end_because_nobody_here_knows_when_it_arrived() {
    let mut record = ProviderRecord::default();
    let ask = |numbers: [u64; 4]| PermitAsk { limits: Limits { in_flight: 8, per_second: 4 }, ..ask(numbers) };
    assert_eq!(permits(&mut record, START, &ask([1, 2, 3, 4])), PermitAnswer::Granted(0..4));
    assert_eq!(permits(&mut record, START + 1_500, &ask([5, 6, 7, 8])), PermitAnswer::Full(Duration::from_millis(100)));
    for (n, at) in [(1, 1_600), (2, 1_700), (3, 1_800)] {
        tell(&mut record, START + at, n, Lesson::Succeeded);
    }
    assert_eq!(permits(&mut record, START + 2_000, &ask([5, 6, 7, 8])), PermitAnswer::Full(Duration::from_millis(600)));
    assert_eq!(permits(&mut record, START + 2_700, &ask([5, 6, 7, 8])), PermitAnswer::Granted(0..2));
}

#[test]
fn a_permit_of_a_process_that_died_runs_out_and_one_that_is_renewed_does_not() {
    let mut record = ProviderRecord::default();
    permits(&mut record, START, &ask(1..=8));
    renew(&mut record, START + 5_000, &permit(1), LIFE);
    assert_eq!(permits(&mut record, START + 6_000, &ask(11..=19)), PermitAnswer::Granted(0..7));
}

#[test]
fn asking_again_after_a_lost_reply_grants_nothing_twice() {
    let mut record = ProviderRecord::default();
    assert_eq!(permits(&mut record, START, &ask(1..=3)), PermitAnswer::Granted(0..3));
    assert_eq!(permits(&mut record, START, &ask(1..=3)), PermitAnswer::Granted(0..3));
    assert_eq!(record.standing(START).in_flight, 3);
}

#[test]
fn those_that_do_not_wait_stand_back_while_somebody_who_waits_was_turned_away() {
    let mut record = ProviderRecord::default();
    permits(&mut record, START, &ask(1..=9));
    tell(&mut record, START + 10, 1, Lesson::Succeeded);
    let quiet = PermitAsk { waiting: false, ..ask([20]) };
    assert_eq!(permits(&mut record, START + 10, &quiet), PermitAnswer::Full(Duration::from_millis(990)));
    assert_eq!(permits(&mut record, START + 1_000, &quiet), PermitAnswer::Granted(0..1));
}

#[test]
fn five_failures_in_a_row_open_the_breaker_for_a_second_that_doubles_up_to_a_minute() {
    let mut record = ProviderRecord::default();
    for n in 1..=4 {
        request(&mut record, START, n, failure());
    }
    request(&mut record, START, 5, Lesson::Succeeded);
    for n in 1..=5 {
        assert_eq!(open_for(&record, START), None, "after {n}");
        request(&mut record, START, n, failure());
    }
    let mut now = START;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(open_for(&record, now), Some(Duration::from_secs(seconds)));
        assert!(matches!(permits(&mut record, now, &ask([70])), PermitAnswer::Open(_)));
        now += seconds * 1_000 + 1_000;
        request(&mut record, now, 70, failure());
    }
}

#[test]
fn one_canary_at_a_time_and_its_success_closes_the_breaker() {
    let mut record = ProviderRecord::default();
    for n in 1..=5 {
        request(&mut record, START, n, failure());
    }
    let now = START + 1_000;
    assert_eq!(permits(&mut record, now, &ask([6, 7])), PermitAnswer::Granted(0..1));
    assert!(matches!(permits(&mut record, now, &ask([7])), PermitAnswer::Open(_)), "one is out");
    assert_eq!(permits(&mut record, now, &ask([9, 6])), PermitAnswer::Granted(1..2), "it asks again");
    // The canary's process dies.
    let now = now + 6_000;
    assert_eq!(permits(&mut record, now, &ask([8])), PermitAnswer::Granted(0..1));
    tell(&mut record, now, 6, Lesson::Succeeded);
    assert!(open_for(&record, now).is_some(), "what was sent before says nothing");
    tell(&mut record, now, 8, Lesson::Succeeded);
    assert_eq!(open_for(&record, now), None);
}

#[test]
fn canaries_rotate_and_prefer_those_who_wait() {
    let mut record = ProviderRecord::default();
    for n in 1..=5 {
        request(&mut record, START, n, failure());
    }
    let now = START + 1_000;
    request(&mut record, now, 6, failure());
    let now = now + 2_000;
    assert!(matches!(permits(&mut record, now, &ask([6])), PermitAnswer::Open(_)), "it has tried");
    let quiet = PermitAsk { waiting: false, ..ask([7]) };
    assert!(matches!(permits(&mut record, now, &quiet), PermitAnswer::Open(_)), "it does not wait");
    assert_eq!(permits(&mut record, now, &ask([6, 7])), PermitAnswer::Granted(1..2));
    tell(&mut record, now, 7, Lesson::Unused);
    assert_eq!(permits(&mut record, now + 1_000, &quiet), PermitAnswer::Granted(0..1), "nobody else came");
}

#[test]
fn a_bank_that_wants_to_be_left_alone_is_for_a_minute_at_most() {
    let mut record = ProviderRecord::default();
    request(&mut record, START, 1, Lesson::Held(Duration::from_secs(7)));
    assert_eq!(open_for(&record, START), Some(Duration::from_secs(7)));
    let mut record = ProviderRecord::default();
    request(&mut record, START, 1, Lesson::Held(Duration::from_secs(7_000)));
    assert_eq!(open_for(&record, START), Some(Duration::from_secs(60)));
}

#[test]
fn a_consent_that_is_refused_alone_is_suspended() {
    let mut record = ProviderRecord::default();
    for (n, at) in [(1, 0), (2, 20_000), (3, 70_000), (4, 140_000)] {
        let reported = request(&mut record, START + at, n, refusal());
        assert_eq!(reported, Reported { verdict: Verdict::Suspend, pardoned: Vec::new() }, "{n}");
        assert_eq!(open_for(&record, START + at), None);
    }
    // The same consent again is no other.
    for _ in 0..3 {
        assert_eq!(request(&mut record, START + 300_000, 9, refusal()).verdict, Verdict::Suspend);
    }
}

#[test]
fn three_that_are_refused_with_a_success_between_are_suspended() {
    let mut record = ProviderRecord::default();
    for n in 1..=6 {
        assert_eq!(request(&mut record, START + n * 10, n, refusal()).verdict, Verdict::Suspend);
        request(&mut record, START + n * 10 + 5, 10 + n, Lesson::Succeeded);
    }
    assert_eq!(open_for(&record, START + 100), None);
}

#[test]
fn three_that_are_refused_together_open_the_breaker_and_are_pardoned() {
    let mut record = ProviderRecord::default();
    // Sent before the trouble began, and answered in the middle of it.
    permits(&mut record, START, &ask([90]));
    request(&mut record, START + 1, 1, refusal());
    request(&mut record, START + 2, 2, refusal());
    tell(&mut record, START + 3, 90, Lesson::Succeeded);
    let third = request(&mut record, START + 4, 3, refusal());
    assert_eq!(third.verdict, Verdict::Spare);
    let keys = |reported: &Reported| reported.pardoned.iter().map(|suspect| suspect.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&third), [consent(1), consent(2), consent(3)]);
    assert_eq!((record.class, record.why.as_str()), (Some(BreakerClass::Misconfigured), ALL_REFUSED));
    // A canary that is refused as well is spared, too; our client's own tokens are not held up.
    let now = START + 1_100;
    assert_eq!(request(&mut record, now, 4, refusal()).verdict, Verdict::Spare);
    let own = PermitAsk { wanted: vec![Wanted { permit: permit(70), key: client() }], ..ask([]) };
    assert_eq!(permits(&mut record, now, &own), PermitAnswer::Granted(0..1));
    // After a success each is tried once more.
    let now = now + 2_000;
    let reported = request(&mut record, now, 5, Lesson::Succeeded);
    assert_eq!(reported.pardoned.len(), 4);
    assert_eq!(open_for(&record, now), None);
    request(&mut record, now, 1, Lesson::Succeeded);
    for n in 2..=4 {
        // Another lease than the first time.
        let version = Version::first(GrantId::random());
        let lesson = Lesson::Refused(Refusal { version, fence: 2, probe: false });
        let again = request(&mut record, now, n, lesson);
        assert_eq!(again, Reported { verdict: Verdict::Suspend, pardoned: Vec::new() }, "{n}");
    }
    assert_eq!(open_for(&record, now), None);
    assert!(record.suspects.is_empty());
}

#[test]
fn a_refusal_that_is_told_twice_counts_once() {
    let mut record = ProviderRecord::default();
    for n in [1, 2] {
        for _ in 0..3 {
            assert_eq!(tell(&mut record, START, n, refusal()).verdict, Verdict::Suspend);
        }
    }
    assert_eq!(open_for(&record, START), None);
    for _ in 0..2 {
        let third = tell(&mut record, START, 3, refusal());
        assert_eq!((third.verdict, third.pardoned.len()), (Verdict::Spare, 3));
    }
}

#[test]
fn a_frozen_provider_grants_nothing_until_it_is_thawed() {
    let mut record = ProviderRecord::default();
    let order = Freeze { reason: FreezeReason::Operator, by: "r".into(), why: None, age: Duration::ZERO, over: None };
    freeze(&mut record, START, Some(&order));
    let frozen = Freeze { age: Duration::from_secs(2), ..order };
    assert_eq!(permits(&mut record, START + 2_000, &ask([1])), PermitAnswer::Frozen(frozen));
    freeze(&mut record, START, None);
    assert_eq!(permits(&mut record, START, &ask([1])), PermitAnswer::Granted(0..1));
}

#[test]
fn a_clock_that_was_set_back_holds_nobody_up() {
    let mut record = ProviderRecord::default();
    permits(&mut record, START * 10, &ask(1..=9));
    for n in 1..=8 {
        tell(&mut record, START * 10, n, failure());
    }
    permits(&mut record, START * 10 + 1_000, &ask([10]));
    permits(&mut record, START, &ask([11]));
    assert!(open_for(&record, START).is_some_and(|wait| wait <= Duration::from_secs(60)));
    assert_eq!(record.standing(START).in_flight, 0);
}

#[derive(Clone, Debug)]
enum Act {
    Pass(u64),
    Ask(u64, usize, bool),
    Tell(u64, u8),
    Renew(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..3_000_u64).prop_map(Act::Pass),
        (0..40_u64, 1..9_usize, any::<bool>()).prop_map(|(n, count, waiting)| Act::Ask(n, count, waiting)),
        (0..40_u64, 0..6_u8).prop_map(|(n, what)| Act::Tell(n, what)),
        (0..40_u64).prop_map(Act::Renew),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_limits_hold_and_nothing_outgrows_its_bound(acts in proptest::collection::vec(act(), 1..200)) {
        let (mut record, mut now) = (ProviderRecord::default(), START);
        // Who was granted a permit and holds it, and when requests arrived at the bank: those with an even number at
        // once, the others just before their end.
        let (mut granted, mut arrived) = (BTreeSet::new(), Vec::<(u64, u64)>::new());
        for act in acts {
            match act {
                Act::Pass(time) => now += time,
                Act::Ask(first, count, waiting) => {
                    let ask = PermitAsk { waiting, ..ask((first..).take(count)) };
                    let was_open = record.opened > 0;
                    let held: Vec<_> = record.permits.iter().filter(|p| p.until > now).map(|p| p.id.clone()).collect();
                    if let PermitAnswer::Granted(range) = permits(&mut record, now, &ask) {
                        prop_assert!(!was_open || range.len() == 1);
                        for number in (first..).take(count).skip(range.start).take(range.len()) {
                            if !held.contains(&permit(number)) {
                                granted.insert(number);
                                arrived.extend((number % 2 == 0).then_some((number, now)));
                            }
                        }
                        prop_assert!(record.permits.len() <= 8 + 40);
                        prop_assert!(held.len() >= 8 || record.permits.len() <= 8);
                    }
                }
                Act::Tell(n, what) => {
                    if record.permits.iter().any(|p| p.id == permit(n)) && granted.remove(&n) {
                        if what == 0 {
                            let unused = arrived.iter().rposition(|(number, _)| *number == n);
                            unused.map(|at| arrived.remove(at));
                        } else if n % 2 == 1 {
                            arrived.push((n, now));
                        }
                    }
                    let lesson = match what {
                        0 => Lesson::Unused,
                        1 => Lesson::Neutral,
                        2 => Lesson::Succeeded,
                        3 => failure(),
                        4 => Lesson::Held(Duration::from_secs(5)),
                        _ => refusal(),
                    };
                    tell(&mut record, now, n, lesson);
                }
                Act::Renew(n) => {
                    // One that the store had forgotten has no place among those it granted.
                    if !record.permits.iter().any(|p| p.id == permit(n) && p.until > now) {
                        granted.remove(&n);
                    }
                    renew(&mut record, now, &permit(n), LIFE);
                }
            }
            let lately = arrived.iter().filter(|(_, at)| now - at < 1_000).count();
            prop_assert!(lately <= 20, "{lately} within a second");
            prop_assert!(record.suspects.len() <= 64 && record.canaries.len() <= 8 && record.sent.len() <= 20 + 40);
            prop_assert!(record.open_until <= now + 60_000);
            prop_assert!(record.opened > 0 || record.suspects.iter().all(|s| s.suspect.stage != Stage::Spared));
        }
    }
}
