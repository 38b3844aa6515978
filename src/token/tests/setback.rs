//! A store that is put back from an old backup: every provider is frozen before anything is spent, and only once.

use super::house::{House, build, provider};
use super::*;
use crate::store::spill::SpillDirectory;
use crate::store::{Arrival, FreezeReason, StoreAge};
use crate::token::setback::Watch;
use crate::words::clock::WallTime;

const EXPIRED: Duration = Duration::ZERO;
/// The newest beat of the store before it is put back, in milliseconds of its clock.
const NOON: u64 = 1_763_773_200_000;

fn age(steps: u64, newest_beat: u64) -> StoreAge {
    StoreAge { steps, newest_beat: WallTime::from_millis(newest_beat) }
}

fn arrival(incarnation: &str, age: Option<StoreAge>) -> Arrival {
    Arrival { incarnation: incarnation.to_owned(), age }
}

/// An hour behind, and forty steps.
fn put_back() -> Arrival {
    arrival("new", Some(age(60, NOON - 3_600_000)))
}

/// A watch that knows of a hundred steps until noon.
async fn watching(house: &House) -> Watch {
    let watch = Watch::begin(&house.tokens.core);
    watch.meet(&house.tokens.core, &[arrival("first", None)]).await.expect("the store works");
    watch.beat(&house.tokens.core, &arrival("first", None), age(100, NOON)).await.expect("the store works");
    watch
}

async fn reasons(house: &House) -> Vec<Option<FreezeReason>> {
    let mut reasons = Vec::new();
    for id in house.tokens.providers() {
        let standing = house.tokens.provider_standing(&id).await.expect("the store works");
        reasons.push(standing.freeze.map(|freeze| freeze.reason));
    }
    reasons
}

const FROZEN: [Option<FreezeReason>; 2] = [Some(FreezeReason::OldBackup); 2];
const FREE: [Option<FreezeReason>; 2] = [None; 2];

#[tokio::test]
async fn a_store_that_was_put_back_has_every_provider_frozen_and_nothing_is_spent() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let watch = watching(&house).await;
    watch.meet(&house.tokens.core, &[put_back()]).await.expect("the store works");
    assert_eq!(reasons(&house).await, FROZEN);
    let refused = house.ask("c").await.expect_err("frozen");
    assert_eq!(refused, TokenError::Frozen { why: "old_backup".to_owned() });
    assert!(house.bank.presented().is_empty());
    let standing = house.tokens.provider_standing(&provider("bank")).await.expect("the store works");
    let why = standing.freeze.and_then(|freeze| freeze.why).expect("said");
    assert!(why.contains("2025-11-22T00:00:00Z") && why.contains("40 steps"), "{why}");
}

#[tokio::test]
async fn whoever_thaws_a_provider_has_the_last_word() {
    let house = House::new();
    house.seed("c", Some("rt-0"), EXPIRED).await;
    let (one, other) = (watching(&house).await, watching(&house).await);
    one.meet(&house.tokens.core, &[put_back()]).await.expect("the store works");
    for id in house.tokens.providers() {
        house.tokens.thaw(&id).await.expect("the store works");
    }
    // Another process that was late, and this one at its next beat.
    other.meet(&house.tokens.core, &[put_back()]).await.expect("the store works");
    one.beat(&house.tokens.core, &put_back(), age(100, NOON + 60_000)).await.expect("the store works");
    assert_eq!(reasons(&house).await, FREE);
    assert!(house.ask("c").await.is_ok());
    // The next backup is another one, even if it is newer than the first.
    let next = arrival("newer", Some(age(80, NOON - 1_800_000)));
    one.meet(&house.tokens.core, &[next]).await.expect("the store works");
    assert_eq!(reasons(&house).await, FROZEN);
}

#[tokio::test]
async fn a_freeze_that_the_store_did_not_take_is_ordered_until_it_does() {
    let house = House::new();
    let watch = watching(&house).await;
    house.tokens.store().refuse(&["freeze"]);
    assert!(
        watch.meet(&house.tokens.core, &[put_back()]).await.is_err(),
        "it is told nothing else, and grants nothing"
    );
    assert!(watch.beat(&house.tokens.core, &put_back(), age(100, NOON + 1)).await.is_err());
    house.tokens.store().refuse(&[]);
    assert_eq!(reasons(&house).await, FREE);
    // What it is like by now says nothing any more.
    watch.beat(&house.tokens.core, &arrival("new", Some(age(100, NOON + 1))), age(100, NOON + 2)).await.expect("works");
    assert_eq!(reasons(&house).await, FROZEN);
}

#[tokio::test]
async fn a_store_that_went_on_that_lost_its_last_seconds_or_that_is_new_is_left_alone() {
    let house = House::new();
    let watch = watching(&house).await;
    let arrivals = [
        arrival("went-on", Some(age(100, NOON))),
        arrival("crashed", Some(age(97, NOON - 2_000))),
        arrival("idle-since", Some(age(100, NOON - 3_600_000))),
        arrival("empty", None),
    ];
    watch.meet(&house.tokens.core, &arrivals).await.expect("the store works");
    watch.beat(&house.tokens.core, &arrival("empty", None), age(100, NOON)).await.expect("the store works");
    // It was looked at when it came; what it was like then is old news by now.
    watch
        .beat(&house.tokens.core, &arrival("empty", Some(age(100, NOON))), age(500, NOON + 7_200_000))
        .await
        .expect("");
    watch.meet(&house.tokens.core, &arrivals[..2]).await.expect("the store works");
    assert_eq!(reasons(&house).await, FREE);
}

#[tokio::test]
async fn contents_that_are_put_back_under_a_running_server_are_noticed_with_the_next_beat() {
    let house = House::new();
    let watch = watching(&house).await;
    let before = arrival("first", Some(age(60, NOON - 3_600_000)));
    watch.beat(&house.tokens.core, &before, age(100, NOON + 2_000)).await.expect("the store works");
    assert_eq!(reasons(&house).await, FROZEN);
}

#[tokio::test]
async fn what_is_known_of_the_store_outlives_the_process() {
    let house = House::new();
    let watch = watching(&house).await;
    let file = house.directory.path().join("spill/high-water");
    house.until(|| file.exists()).await;
    let House { tokens, bank, clock, grant, behaviour, limits, directory } = house;
    drop((watch, tokens));
    // The file is there a moment before its writer is through, and until then the directory is taken. The writer is a
    // thread, for which no time of the test's own passes.
    let mut looks = 0;
    while SpillDirectory::open(&directory.path().join("spill")).is_err() {
        looks += 1;
        assert!(looks < 10_000, "the writer never ends");
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    let tokens = build(&directory, &bank, &clock, &behaviour, limits);
    let house = House { tokens, bank, clock, grant, behaviour, limits, directory };
    let watch = Watch::begin(&house.tokens.core);
    assert_eq!(watch.known(), 100);
    // The incarnation that it was known as, by what it was like when it came up, is not looked at again.
    let first = arrival("first", Some(age(1, NOON - 3_600_000)));
    watch.meet(&house.tokens.core, &[first]).await.expect("the store works");
    assert_eq!(reasons(&house).await, FREE);
    watch.meet(&house.tokens.core, &[put_back()]).await.expect("the store works");
    assert_eq!(reasons(&house).await, FROZEN);
}
