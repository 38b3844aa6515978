//! What every store keeps of a bank's feed: who reads, how far, and what consents are called there.

use std::time::Duration;

use consentry::store::{Feeds, MOST_NAMED, MoveFeed, MoveFeedOutcome, TakeFeed, TakeFeedOutcome};
use consentry::words::ids::{AttemptId, BankNameDigest, ConsentId, ProviderId, hex, random};

use crate::store_attempts::futures_all;
use crate::store_contract::HOUR;
use crate::support::bench::Bench;

/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);

suite! {
    one_reads_at_a_time_and_goes_on_as_the_same_reader
    whoever_takes_over_goes_on_where_the_last_one_stopped
    the_position_moves_only_for_who_reads_and_only_from_where_it_is
    a_move_that_is_repeated_after_a_lost_reply_answers_the_same
    a_right_that_is_given_back_is_anothers_at_once
    of_many_readers_at_once_one_reads
    a_name_leads_to_those_who_were_noted_last_for_as_long_as_it_is_kept
}

async fn one_reads_at_a_time_and_goes_on_as_the_same_reader(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    assert_eq!(taken(store, &bank, 1, HOUR).await, (1, None));
    assert_eq!(taken(store, &bank, 1, HOUR).await, (1, None));
    let TakeFeedOutcome::Busy(wait) = take(store, &bank, 2, HOUR).await else { panic!("busy") };
    assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
    assert_eq!(taken(store, &self::bank(), 2, HOUR).await, (1, None), "another provider's feed is another");
}

async fn whoever_takes_over_goes_on_where_the_last_one_stopped(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    let (fence, position) = taken(store, &bank, 1, HOUR).await;
    assert_eq!(advance(store, &bank, 1, fence, position, 17, A_WHILE).await, MoveFeedOutcome::Moved);
    bench.pass(A_WHILE).await;
    assert_eq!(taken(store, &bank, 2, HOUR).await, (2, Some(17)));
    assert_eq!(advance(store, &bank, 1, fence, Some(17), 18, HOUR).await, MoveFeedOutcome::Lost);
    let TakeFeedOutcome::Taken { idle, .. } = take(store, &bank, 2, HOUR).await else { panic!("taken") };
    assert!(idle.is_some_and(|idle| idle >= A_WHILE && idle < HOUR), "{idle:?}");
}

async fn the_position_moves_only_for_who_reads_and_only_from_where_it_is(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    assert_eq!(advance(store, &bank, 1, 0, None, 5, HOUR).await, MoveFeedOutcome::Lost, "nobody reads");
    let (fence, _) = taken(store, &bank, 1, HOUR).await;
    for (by, fence, from) in [(2, fence, None), (1, fence + 1, None), (1, fence, Some(4))] {
        assert_eq!(advance(store, &bank, by, fence, from, 5, HOUR).await, MoveFeedOutcome::Lost, "{by} {from:?}");
    }
    assert_eq!(taken(store, &bank, 1, HOUR).await.1, None, "and nothing moved");
    assert_eq!(advance(store, &bank, 1, fence, None, 5, HOUR).await, MoveFeedOutcome::Moved);
    assert_eq!(advance(store, &bank, 1, fence, Some(5), 5, HOUR).await, MoveFeedOutcome::Moved, "nothing new");
    assert_eq!(advance(store, &bank, 1, fence, Some(4), 9, HOUR).await, MoveFeedOutcome::Lost);
    assert_eq!(taken(store, &bank, 1, HOUR).await.1, Some(5));
}

async fn a_move_that_is_repeated_after_a_lost_reply_answers_the_same(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    let (fence, _) = taken(store, &bank, 1, HOUR).await;
    for _ in 0..2 {
        assert_eq!(advance(store, &bank, 1, fence, None, 5, HOUR).await, MoveFeedOutcome::Moved);
    }
    for _ in 0..2 {
        assert_eq!(advance(store, &bank, 1, fence, Some(5), 8, HOUR).await, MoveFeedOutcome::Moved);
    }
    assert_eq!(taken(store, &bank, 1, HOUR).await.1, Some(8));
}

async fn a_right_that_is_given_back_is_anothers_at_once(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    taken(store, &bank, 1, HOUR).await;
    taken(store, &bank, 1, Duration::ZERO).await;
    assert_eq!(taken(store, &bank, 2, HOUR).await, (2, None));
    assert!(
        matches!(take(store, &bank, 1, Duration::ZERO).await, TakeFeedOutcome::Busy(_)),
        "it is no longer its to give"
    );
}

async fn of_many_readers_at_once_one_reads(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    let takes = (0..16).map(|by| take(store, &bank, by, HOUR));
    let outcomes = futures_all(takes).await;
    assert_eq!(outcomes.iter().filter(|it| matches!(it, TakeFeedOutcome::Taken { .. })).count(), 1, "{outcomes:?}");
}

async fn a_name_leads_to_those_who_were_noted_last_for_as_long_as_it_is_kept(bench: &impl Bench) {
    let (store, bank) = (bench.store(), bank());
    let (name, other) = (BankNameDigest::of("urn:bank:{a} b"), BankNameDigest::of("another"));
    assert_eq!(store.consents_named(&bank, &name).await.unwrap(), []);
    let consents: Vec<_> = (0..=MOST_NAMED).map(|n| ConsentId::parse(&format!("c:{n}")).unwrap()).collect();
    for consent in consents.iter().chain([&consents[1]]) {
        store.name_consent(&bank, &name, consent, HOUR).await.unwrap();
    }
    let named = store.consents_named(&bank, &name).await.unwrap();
    assert_eq!((named.len(), named.contains(&consents[0]), named.last()), (MOST_NAMED, false, Some(&consents[1])));
    assert_eq!(store.consents_named(&self::bank(), &name).await.unwrap(), [], "another provider's names are others");
    store.name_consent(&bank, &other, &consents[0], A_WHILE).await.unwrap();
    assert_eq!(store.consents_named(&bank, &other).await.unwrap(), [consents[0].clone()]);
    bench.pass(A_WHILE).await;
    assert_eq!(store.consents_named(&bank, &other).await.unwrap(), []);
}

/// A provider of a test's own.
fn bank() -> ProviderId {
    ProviderId::parse(&format!("bank-{}", hex(&random()[..8]))).unwrap()
}

fn reader(number: u64) -> AttemptId {
    AttemptId::new("replica", number)
}

async fn take(store: &impl Feeds, bank: &ProviderId, by: u64, life: Duration) -> TakeFeedOutcome {
    store.take_feed(bank, &TakeFeed { by: reader(by), life }).await.unwrap()
}

/// The fence and the position.
async fn taken(store: &impl Feeds, bank: &ProviderId, by: u64, life: Duration) -> (u64, Option<u64>) {
    match take(store, bank, by, life).await {
        TakeFeedOutcome::Taken { fence, position, .. } => (fence, position),
        TakeFeedOutcome::Busy(wait) => panic!("busy for {wait:?}"),
    }
}

async fn advance(
    store: &impl Feeds,
    bank: &ProviderId,
    by: u64,
    fence: u64,
    from: Option<u64>,
    to: u64,
    life: Duration,
) -> MoveFeedOutcome {
    store.move_feed(bank, &MoveFeed { by: reader(by), fence, from, to, life }).await.unwrap()
}
