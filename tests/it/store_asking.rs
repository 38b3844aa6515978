//! What every store does with a consent whose customer is asked: it waits, it is granted, or nothing comes of it.

use std::time::Duration;

use consentry::store::{
    Attempts, Await, AwaitOutcome, Begin, BeginOutcome, CommitOutcome, End, EndOutcome, EventKind, ReassertOutcome,
    RecordState, RestoreOutcome, Seed, SeedOutcome, Store, Tell, Term,
};
use consentry::words::clock::WallTime;
use consentry::words::ids::{AttemptId, GrantId, ProviderId, TokenKey, Version};
use consentry::words::said::{BankRequestId, Said};

use crate::store_contract::{
    HOUR, arm, attempt, begin, commit, consent, end, granted, reassert, restore, seed, seeded,
};
use crate::support::bench::Bench;

/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);

suite! {
    a_new_consent_is_pending_until_its_time_is_over_and_leaves_nothing
    a_consent_in_use_stays_as_it_is_while_its_customer_is_asked
    a_consent_in_use_elsewhere_is_not_asked_for
    a_customer_who_refuses_leaves_a_new_consent_denied_and_may_be_asked_again
    a_revoked_consent_stays_revoked_until_there_is_a_grant
    a_grant_takes_the_place_of_a_pending_consent_and_is_kept
    a_grant_beats_a_refresh_in_flight
    a_grant_that_comes_late_takes_the_place_of_nothing_later
    a_refusal_of_another_attempt_takes_no_grant_away
    a_grant_may_bring_a_refresh_token_that_was_spent_before
    an_import_takes_the_place_of_a_pending_consent
    what_was_spent_stays_spent_and_fences_grow_while_a_customer_is_asked
    what_was_forgotten_comes_back_over_a_pending_consent
    a_history_tells_that_a_customer_was_asked_and_brought_nothing
    when_a_consent_ends_is_noted_for_its_grant_while_it_lives
}

async fn a_new_consent_is_pending_until_its_time_is_over_and_leaves_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let wait = Await { life: A_WHILE, ..wait() };
    let version = Version { grant: wait.grant, generation: 0 };
    for _ in 0..2 {
        assert_eq!(store.await_grant(&key, &wait).await.unwrap(), AwaitOutcome::Pending(version));
    }
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.state, record.version, record.access), (RecordState::Pending, version, None));
    let BeginOutcome::Refused(record) = store.begin(&key, &begin(1)).await.unwrap() else { panic!("refused") };
    assert_eq!(record.state, RecordState::Pending);
    assert_eq!(kinds(store, &key).await, [EventKind::Asked], "told once");
    bench.pass(A_WHILE).await;
    assert!(store.read(&key).await.unwrap().is_none());
    assert!(matches!(store.begin(&key, &begin(1)).await.unwrap(), BeginOutcome::Unknown));
    assert_eq!(kinds(store, &key).await, []);
}

async fn a_consent_in_use_stays_as_it_is_while_its_customer_is_asked(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &seed(1)).await.unwrap();
    let before = store.read(&key).await.unwrap().unwrap();
    let stands = AwaitOutcome::Stands { state: RecordState::Active, version: before.version };
    let wait = wait();
    for _ in 0..2 {
        assert_eq!(store.await_grant(&key, &wait).await.unwrap(), stands);
    }
    let after = store.read(&key).await.unwrap().unwrap();
    assert_eq!((after.state, after.version, after.access), (before.state, before.version, before.access));
    assert_eq!(kinds(store, &key).await, [EventKind::Seeded, EventKind::Asked]);
    assert_eq!(store.end(&key, &refused(wait.grant)).await.unwrap(), EndOutcome::NotFound, "a refusal ends nothing");
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Active);
}

async fn a_consent_in_use_elsewhere_is_not_asked_for(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &seed(1)).await.unwrap();
    let elsewhere = Await { provider: ProviderId::parse("another").unwrap(), ..wait() };
    assert!(matches!(store.await_grant(&key, &elsewhere).await.unwrap(), AwaitOutcome::Elsewhere(_)));
    assert_eq!(kinds(store, &key).await, [EventKind::Seeded]);
    store.end(&key, &end(None)).await.unwrap();
    assert!(matches!(store.await_grant(&key, &elsewhere).await.unwrap(), AwaitOutcome::Stands { .. }), "it has ended");
}

async fn a_customer_who_refuses_leaves_a_new_consent_denied_and_may_be_asked_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (first, second) = (wait(), wait());
    store.await_grant(&key, &first).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.end(&key, &refused(first.grant)).await.unwrap(), EndOutcome::Ended);
    }
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Denied);
    let version = Version { grant: second.grant, generation: 0 };
    assert_eq!(store.await_grant(&key, &second).await.unwrap(), AwaitOutcome::Pending(version));
    assert_eq!(store.end(&key, &refused(first.grant)).await.unwrap(), EndOutcome::NotFound, "of the first attempt");
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.state, record.version, record.why), (RecordState::Pending, version, None));
    assert_eq!(kinds(store, &key).await, [EventKind::Asked, EventKind::Ended, EventKind::Asked]);
}

async fn a_revoked_consent_stays_revoked_until_there_is_a_grant(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &seed(1)).await.unwrap();
    store.end(&key, &end(None)).await.unwrap();
    let AwaitOutcome::Stands { state, .. } = store.await_grant(&key, &wait()).await.unwrap() else { panic!("stands") };
    assert_eq!(state, RecordState::Revoked);
    bench.pass(Duration::from_millis(1)).await;
    let given = given(2, Duration::ZERO);
    let version = Version::first(given.grant);
    assert_eq!(store.seed(&key, &given).await.unwrap(), SeedOutcome::Created(version));
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Active);
}

async fn a_grant_takes_the_place_of_a_pending_consent_and_is_kept(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let given = given(1, Duration::ZERO);
    store.await_grant(&key, &Await { grant: given.grant, life: A_WHILE, ..wait() }).await.unwrap();
    let version = Version::first(given.grant);
    for _ in 0..2 {
        assert_eq!(store.seed(&key, &given).await.unwrap(), SeedOutcome::Created(version));
    }
    bench.pass(A_WHILE).await;
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.state, record.version), (RecordState::Active, version), "it lasts");
    assert_eq!(record.access, Some(given.access.clone()));
    assert_eq!(kinds(store, &key).await, [EventKind::Asked, EventKind::Seeded]);
    // Where the time of the pending consent was over before, there is nothing to replace.
    let (key, other) = (consent(), self::given(2, Duration::ZERO));
    assert_eq!(store.seed(&key, &other).await.unwrap(), SeedOutcome::Created(Version::first(other.grant)));
}

async fn a_grant_beats_a_refresh_in_flight(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let first = seed(1);
    store.seed(&key, &first).await.unwrap();
    let base = Version::first(first.grant);
    let BeginOutcome::Granted(lease, _) = store.begin(&key, &Begin { wanted: HOUR * 2, ..begin(1) }).await.unwrap()
    else {
        panic!("granted")
    };
    store.arm(&key, &arm(1, lease.fence, base)).await.unwrap();
    bench.pass(Duration::from_millis(1)).await;
    let given = given(2, Duration::ZERO);
    let version = Version::first(given.grant);
    for _ in 0..2 {
        let outcome = store.seed(&key, &given).await.unwrap();
        assert!(
            matches!(outcome, SeedOutcome::Replaced(it) | SeedOutcome::Created(it) if it == version),
            "{outcome:?}"
        );
    }
    let late = store.commit(&key, &commit(1, base)).await.unwrap();
    assert_eq!(late, CommitOutcome::Superseded { current: version });
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.state, record.version, record.sends), (RecordState::Active, version, 0));
    assert!(record.replaced.is_some(), "what it replaced is kept for a person");
}

async fn a_grant_that_comes_late_takes_the_place_of_nothing_later(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let later = given(1, Duration::ZERO);
    store.seed(&key, &later).await.unwrap();
    let version = Version::first(later.grant);
    let old = given(2, Duration::from_secs(60));
    assert_eq!(store.seed(&key, &old).await.unwrap(), SeedOutcome::Exists(version));
    assert_eq!(store.read(&key).await.unwrap().unwrap().version, version);
    store.end(&key, &end(None)).await.unwrap();
    assert!(matches!(store.seed(&key, &old).await.unwrap(), SeedOutcome::Mismatch(_)), "it ended after it");
    assert!(matches!(store.seed(&key, &later).await.unwrap(), SeedOutcome::Mismatch(_)), "and does not come back");
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Revoked);
}

async fn a_refusal_of_another_attempt_takes_no_grant_away(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let wait = wait();
    store.await_grant(&key, &wait).await.unwrap();
    store.end(&key, &refused(wait.grant)).await.unwrap();
    let old = given(1, Duration::from_secs(60));
    assert_eq!(store.seed(&key, &old).await.unwrap(), SeedOutcome::Created(Version::first(old.grant)));
}

async fn a_grant_may_bring_a_refresh_token_that_was_spent_before(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let first = seed(1);
    store.seed(&key, &first).await.unwrap();
    let base = Version::first(first.grant);
    store.begin(&key, &Begin { wanted: HOUR * 2, ..begin(1) }).await.unwrap();
    store.commit(&key, &commit(1, base)).await.unwrap();
    let spent = commit(1, base).spent;
    let imported = Seed { expected: Some(base.next()), refresh_fingerprint: spent, ..seed(3) };
    assert!(matches!(store.seed(&key, &imported).await.unwrap(), SeedOutcome::Spent(_)), "an import may not");
    bench.pass(Duration::from_millis(1)).await;
    let given = Seed { refresh_fingerprint: spent, ..given(4, Duration::ZERO) };
    assert_eq!(store.seed(&key, &given).await.unwrap(), SeedOutcome::Replaced(Version::first(given.grant)));
}

async fn an_import_takes_the_place_of_a_pending_consent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let wait = wait();
    store.await_grant(&key, &wait).await.unwrap();
    let wrong = Seed { expected: Some(Version::first(GrantId::random())), ..seed(1) };
    assert!(matches!(store.seed(&key, &wrong).await.unwrap(), SeedOutcome::Mismatch(_)));
    let import = seed(1);
    assert_eq!(store.seed(&key, &import).await.unwrap(), SeedOutcome::Created(Version::first(import.grant)));
    assert_eq!(store.end(&key, &refused(wait.grant)).await.unwrap(), EndOutcome::NotFound);
}

async fn what_was_spent_stays_spent_and_fences_grow_while_a_customer_is_asked(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    store.commit(&key, &commit(1, version)).await.unwrap();
    store.end(&key, &End { state: RecordState::Denied, ..end(None) }).await.unwrap();
    assert!(matches!(store.await_grant(&key, &wait()).await.unwrap(), AwaitOutcome::Pending(_)));
    assert!(matches!(store.seed(&key, &seed(1)).await.unwrap(), SeedOutcome::Spent(_)));
    seeded(store, &key, 2).await;
    let (next, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(next.fence > lease.fence, "{next:?} after {lease:?}");
}

async fn what_was_forgotten_comes_back_over_a_pending_consent(bench: &impl Bench) {
    let store = bench.store();
    let version = Version { grant: GrantId::random(), generation: 4 };
    let key = consent();
    store.await_grant(&key, &Await { life: A_WHILE, ..wait() }).await.unwrap();
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Missing);
    assert_eq!(store.reassert(&key, &reassert(1, 1, version)).await.unwrap(), ReassertOutcome::Missing);
    assert_eq!(store.restore(&key, &restore(1, version)).await.unwrap(), RestoreOutcome::Restored);
    bench.pass(A_WHILE).await;
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.state, record.version), (RecordState::Active, version));
    assert_eq!(kinds(store, &key).await, [EventKind::Asked, EventKind::Restored]);
    assert_eq!(store.history(&key).await.unwrap()[1].why.as_deref(), Some("forgotten"));
}

async fn a_history_tells_that_a_customer_was_asked_and_brought_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let said = Said { status: Some(400), request_id: BankRequestId::parse(b"abc"), late: false };
    let tell = Tell {
        kind: EventKind::NotGranted,
        why: "invalid_grant".into(),
        said: said.clone(),
        attempt: Some(attempt(1)),
    };
    store.tell(&key, &tell).await.unwrap();
    assert_eq!(store.history(&key).await.unwrap(), [], "where there is no record there is no history");
    let wait = wait();
    store.await_grant(&key, &wait).await.unwrap();
    for _ in 0..2 {
        store.tell(&key, &tell).await.unwrap();
    }
    let events = store.history(&key).await.unwrap();
    let [asked, ended] = events.as_slice() else { panic!("two events: {events:?}") };
    assert_eq!((asked.kind, asked.version.grant), (EventKind::Asked, wait.grant));
    assert_eq!(asked.attempt.as_ref().map(AttemptId::as_str), Some(wait.grant.to_string().as_str()));
    assert_eq!((ended.kind, ended.why.as_deref(), &ended.said), (EventKind::NotGranted, Some("invalid_grant"), &said));
    assert!(ended.at >= asked.at && ended.at > WallTime::from_millis(0));
    assert_eq!(ended.attempt, Some(attempt(1)));
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Pending, "and nothing else");
}

async fn when_a_consent_ends_is_noted_for_its_grant_while_it_lives(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let until = WallTime::from_millis(4_000_000_000_000);
    let other = Term { grant: GrantId::random(), until };
    assert!(!store.term(&key, &other).await.unwrap(), "there is no record");
    let wait = wait();
    store.await_grant(&key, &wait).await.unwrap();
    assert!(!store.term(&key, &Term { grant: wait.grant, until }).await.unwrap(), "nothing is granted");
    let key = consent();
    let seeded = seed(1);
    store.seed(&key, &seeded).await.unwrap();
    assert!(!store.term(&key, &other).await.unwrap(), "it is another grant's");
    let before = store.read(&key).await.unwrap().unwrap();
    for until in [until, WallTime::from_millis(5)] {
        for _ in 0..2 {
            assert!(store.term(&key, &Term { grant: seeded.grant, until }).await.unwrap());
        }
        let after = store.read(&key).await.unwrap().unwrap();
        assert_eq!((after.consent_expires_at, after.version), (Some(until), before.version));
    }
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Expired, "its time is over");
    assert!(store.term(&key, &Term { grant: seeded.grant, until }).await.unwrap(), "and is not for ever");
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Active);
    store.end(&key, &end(Some(seeded.grant))).await.unwrap();
    assert!(!store.term(&key, &Term { grant: seeded.grant, until }).await.unwrap(), "it has ended");
}

async fn kinds(store: &impl Store, key: &TokenKey) -> Vec<EventKind> {
    store.history(key).await.unwrap().into_iter().map(|event| event.kind).collect()
}

fn wait() -> Await {
    Await { provider: ProviderId::parse("bank").unwrap(), grant: GrantId::random(), life: HOUR }
}

/// A token set that the bank gave so long ago.
fn given(number: u8, age: Duration) -> Seed {
    Seed { age: Some(age), ..seed(number) }
}

fn refused(grant: GrantId) -> End {
    End { grant: Some(grant), state: RecordState::Denied, why: "access_denied".into(), remembered: None }
}
