//! How every store counts the calls of a consent.

use std::time::Duration;

use consentry::store::redis::RedisStore;
use consentry::store::{Quotas, Refund, Spend, SpendOutcome, Store as _, StoreError, Window};
use consentry::words::ids::{CallId, ConsentId, QuotaGroup, TokenKey, random};

use crate::support::bench::{Bench, Embedded, Redis};
use crate::support::link::Link;
use crate::support::redis::{RedisServer, settings};

/// A window that does not end during a test.
const DAY: Window = Window::Sliding(Duration::from_secs(86_400));
/// A window that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(1_500);

suite! {
    as_many_calls_are_counted_as_may_be_and_no_more
    a_call_is_counted_once_however_often_its_step_is_repeated
    of_many_calls_at_once_as_many_are_counted_as_may_be
    consents_and_groups_are_counted_apart
    what_is_taken_back_makes_room_and_anything_else_does_not
    a_call_counts_until_its_time_is_over
    windows_that_follow_each_other_end_for_all_calls_at_once
    a_smaller_number_counts_what_was_counted_before
    of_too_many_groups_the_one_that_was_counted_in_longest_ago_makes_room
    what_is_counted_is_no_part_of_the_consent
}

async fn as_many_calls_are_counted_as_may_be_and_no_more(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    for remaining in [3, 2, 1, 0] {
        assert_eq!(store.spend(&consent, &spend(4)).await, Ok(SpendOutcome::Counted { remaining }));
    }
    for _ in 0..2 {
        let SpendOutcome::Exhausted { until } = store.spend(&consent, &spend(4)).await.unwrap() else {
            panic!("four were counted")
        };
        assert!(until <= Duration::from_secs(86_400) && until > Duration::from_secs(86_000), "{until:?}");
    }
}

async fn a_call_is_counted_once_however_often_its_step_is_repeated(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let call = spend(2);
    for _ in 0..3 {
        assert_eq!(store.spend(&consent, &call).await, Ok(SpendOutcome::Counted { remaining: 1 }));
    }
    store.spend(&consent, &spend(2)).await.unwrap();
    assert_eq!(store.spend(&consent, &call).await, Ok(SpendOutcome::Counted { remaining: 0 }), "it has its place");
    assert!(is_exhausted(&store.spend(&consent, &spend(2)).await));
}

async fn of_many_calls_at_once_as_many_are_counted_as_may_be(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let mut left = Vec::new();
    let calls: Vec<_> = (0..12).map(|_| spend(4)).collect();
    let mut asking: Vec<_> = calls.iter().map(|call| Box::pin(store.spend(&consent, call))).collect();
    std::future::poll_fn(|context| {
        asking.retain_mut(|asked| match asked.as_mut().poll(context) {
            std::task::Poll::Ready(outcome) => {
                left.push(outcome.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if asking.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let mut counted: Vec<_> = left.iter().filter_map(|outcome| remaining(*outcome)).collect();
    counted.sort_unstable();
    assert_eq!((counted, left.len()), (vec![0, 1, 2, 3], 12));
}

async fn consents_and_groups_are_counted_apart(bench: &impl Bench) {
    let (store, consent, other) = (bench.store(), consent(), consent());
    assert_eq!(store.spend(&consent, &spend(1)).await, Ok(SpendOutcome::Counted { remaining: 0 }));
    assert!(is_exhausted(&store.spend(&consent, &spend(1)).await));
    assert_eq!(store.spend(&other, &spend(1)).await, Ok(SpendOutcome::Counted { remaining: 0 }));
    let elsewhere = Spend { group: QuotaGroup::of("elsewhere"), ..spend(1) };
    assert_eq!(store.spend(&consent, &elsewhere).await, Ok(SpendOutcome::Counted { remaining: 0 }));
}

async fn what_is_taken_back_makes_room_and_anything_else_does_not(bench: &impl Bench) {
    let (store, consent, call) = (bench.store(), consent(), spend(1));
    store.spend(&consent, &call).await.unwrap();
    let refund = Refund { group: call.group, call: call.call };
    store.refund(&consent, &Refund { call: spend(1).call, ..refund }).await.unwrap();
    store.refund(&consent, &Refund { group: QuotaGroup::of("elsewhere"), ..refund }).await.unwrap();
    assert!(is_exhausted(&store.spend(&consent, &spend(1)).await));
    for _ in 0..2 {
        store.refund(&consent, &refund).await.unwrap();
    }
    assert_eq!(store.spend(&consent, &spend(1)).await, Ok(SpendOutcome::Counted { remaining: 0 }));
    assert!(is_exhausted(&store.spend(&consent, &spend(1)).await), "two refunds of one call make room for one");
}

async fn a_call_counts_until_its_time_is_over(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let short = || Spend { window: Window::Sliding(A_WHILE), ..spend(2) };
    store.spend(&consent, &short()).await.unwrap();
    bench.pass(A_WHILE / 2).await;
    store.spend(&consent, &short()).await.unwrap();
    let SpendOutcome::Exhausted { until } = store.spend(&consent, &short()).await.unwrap() else {
        panic!("two were counted")
    };
    assert!(until <= A_WHILE / 2, "the first one's time is over first: {until:?}");
    bench.pass(until).await;
    assert!(remaining(store.spend(&consent, &short()).await.unwrap()).is_some());
    bench.pass(A_WHILE).await;
    assert_eq!(store.spend(&consent, &short()).await, Ok(SpendOutcome::Counted { remaining: 1 }));
}

async fn windows_that_follow_each_other_end_for_all_calls_at_once(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let fixed = |most| Spend { window: Window::Fixed { length: A_WHILE, offset: A_WHILE / 3 }, ..spend(most) };
    // Until the window that a test is in has room for no more of them, which it may take two windows to see.
    let end = loop {
        store.spend(&consent, &fixed(2)).await.unwrap();
        if let SpendOutcome::Exhausted { until } = store.spend(&consent, &fixed(1)).await.unwrap() {
            break until;
        }
    };
    assert!(end <= A_WHILE, "{end:?}");
    bench.pass(end).await;
    assert!(remaining(store.spend(&consent, &fixed(1)).await.unwrap()).is_some());
}

async fn a_smaller_number_counts_what_was_counted_before(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let long = |most| Spend { window: Window::Sliding(A_WHILE * 2), ..spend(most) };
    store.spend(&consent, &long(3)).await.unwrap();
    bench.pass(A_WHILE).await;
    store.spend(&consent, &long(3)).await.unwrap();
    let SpendOutcome::Exhausted { until } = store.spend(&consent, &long(1)).await.unwrap() else { panic!("two") };
    assert!(until > A_WHILE, "both have to go before there is room for one: {until:?}");
}

async fn of_too_many_groups_the_one_that_was_counted_in_longest_ago_makes_room(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    let group = |number: usize| Spend { group: QuotaGroup::of(&number.to_string()), ..spend(1) };
    store.spend(&consent, &group(0)).await.unwrap();
    bench.pass(Duration::from_millis(5)).await;
    for number in 1..=Spend::MOST_GROUPS {
        let outcome = store.spend(&consent, &group(number)).await;
        assert_eq!(outcome, Ok(SpendOutcome::Counted { remaining: 0 }), "{number}");
    }
    for number in 1..=Spend::MOST_GROUPS {
        assert!(is_exhausted(&store.spend(&consent, &group(number)).await), "{number}");
    }
    assert_eq!(store.spend(&consent, &group(0)).await, Ok(SpendOutcome::Counted { remaining: 0 }), "it was forgotten");
}

async fn what_is_counted_is_no_part_of_the_consent(bench: &impl Bench) {
    let (store, consent) = (bench.store(), consent());
    store.spend(&consent, &spend(1)).await.unwrap();
    assert!(store.read(&TokenKey::Consent(consent)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_counts_no_more_goes_from_a_redis_by_itself_and_stands_beside_the_consent() {
    let server = RedisServer::start().await;
    let (store, consent) = (server.store(), consent());
    let short = Spend { window: Window::Sliding(Duration::from_secs(60)), ..spend(4) };
    store.spend(&consent, &short).await.unwrap();
    let key = format!("consentry:c:{{{}}}:q", consent.as_str());
    let life: u64 = server.cli(&["pttl", &key]).trim().trim_start_matches("(integer) ").parse().unwrap();
    assert!(life <= 60_000 && life > 30_000, "{life}");
    let slot = |key: &str| server.cli(&["eval", "return redis.sha1hex(ARGV[1]:match('{(.-)}'))", "0", key]);
    assert_eq!(slot(&key), slot(&format!("consentry:c:{{{}}}", consent.as_str())));
}

#[tokio::test]
async fn a_count_whose_reply_was_lost_is_made_once() {
    let server = RedisServer::start().await;
    let link = Link::to(server.port()).await;
    let (store, consent) = (RedisStore::connect(&settings(link.port())).unwrap(), consent());
    // The first makes the script known; from then on the reply that is lost is the step's own.
    store.spend(&consent, &spend(4)).await.unwrap();
    link.cut_replies(1);
    assert_eq!(store.spend(&consent, &spend(4)).await, Ok(SpendOutcome::Counted { remaining: 2 }));
    assert_eq!(link.cuts_left(), 0);
    let elsewhere = Spend { group: QuotaGroup::of("elsewhere"), ..spend(4) };
    link.cut_replies(1);
    store.spend(&consent, &elsewhere).await.unwrap();
    link.cut_replies(1);
    store.refund(&consent, &Refund { group: elsewhere.group, call: elsewhere.call }).await.unwrap();
    assert_eq!(
        store.spend(&consent, &Spend { group: elsewhere.group, ..spend(4) }).await,
        Ok(SpendOutcome::Counted { remaining: 3 })
    );
}

#[tokio::test]
async fn a_quota_that_cannot_be_understood_is_left_as_it_is() {
    let server = RedisServer::start().await;
    let (store, consent) = (server.store(), consent());
    let key = format!("consentry:c:{{{}}}:q", consent.as_str());
    server.cli(&["hset", &key, "v", "2", "exp", "9"]);
    let outcome = store.spend(&consent, &spend(4)).await;
    assert!(matches!(&outcome, Err(StoreError::Unreadable(text)) if text.contains("field v")), "{outcome:?}");
    assert!(server.cli(&["hget", &key, "v"]).contains('2'));
    assert!(!server.cli(&["hkeys", &key]).contains(&spend(4).group.to_string()));
}

#[tokio::test]
async fn a_redis_whose_memory_is_full_counts_nothing_and_says_so() {
    let server = RedisServer::start().await;
    let (store, consent) = (server.store(), consent());
    store.spend(&consent, &spend(4)).await.unwrap();
    server.cli(&["config", "set", "maxmemory", "1"]);
    let outcome = store.spend(&consent, &spend(4)).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

/// Random walks: whatever is asked in which order, the file and the server answer the same.
#[tokio::test]
async fn the_stores_agree_about_quotas_on_random_walks() {
    let (file, server) = (Embedded::start(), Redis::start().await);
    let mut seed = u64::from_be_bytes(random()[..8].try_into().unwrap());
    for _ in 0..20 {
        let consent = consent();
        let mut calls = Vec::new();
        for step in 0..120 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = |of: u64, shift: u32| (seed >> shift) % of;
            let group = QuotaGroup::of(&draw(3, 20).to_string());
            let earlier = calls.len().saturating_sub(1 + usize::try_from(draw(6, 35)).unwrap());
            let again = calls.get(earlier).copied().filter(|_| draw(3, 30) == 0);
            let call = again.unwrap_or_else(|| spend(1).call);
            calls.push(call);
            if draw(4, 40) == 0 {
                let refund = Refund { group, call };
                assert_eq!(
                    file.store().refund(&consent, &refund).await,
                    server.store().refund(&consent, &refund).await
                );
                continue;
            }
            let most = u32::try_from(1 + draw(5, 45)).unwrap();
            let asked = Spend { group, call, most, window: DAY };
            let (one, other) =
                (file.store().spend(&consent, &asked).await, server.store().spend(&consent, &asked).await);
            match (one.unwrap(), other.unwrap()) {
                // Their clocks are not the same.
                (SpendOutcome::Exhausted { .. }, SpendOutcome::Exhausted { .. }) => {}
                (one, other) => assert_eq!(one, other, "step {step}, {asked:?}"),
            }
        }
    }
}

fn consent() -> ConsentId {
    ConsentId::parse(&format!("c-{}", CallId::from_random(random()))).unwrap()
}

fn spend(most: u32) -> Spend {
    Spend { group: QuotaGroup::of("/v1/accounts"), call: CallId::from_random(random()), most, window: DAY }
}

fn remaining(outcome: SpendOutcome) -> Option<u32> {
    match outcome {
        SpendOutcome::Counted { remaining } => Some(remaining),
        SpendOutcome::Exhausted { .. } => None,
    }
}

fn is_exhausted(outcome: &Result<SpendOutcome, StoreError>) -> bool {
    matches!(outcome, Ok(SpendOutcome::Exhausted { .. }))
}
