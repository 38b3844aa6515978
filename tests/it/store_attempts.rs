//! What every store keeps of a customer on the way to the bank and back, and of a consent that waits for one.

use std::time::Duration;

use consentry::store::redis::{RedisSettings, RedisStore};
use consentry::store::{
    Attempt, AttemptStage, Attempts, Await, AwaitOutcome, Begin, BeginOutcome, Bind, BindOutcome, Claim, ClaimOutcome,
    ClaimTo, CommitOutcome, EndOutcome, EventKind, Open, ReassertOutcome, RecordState, RestoreOutcome, Seed,
    SeedOutcome, Settle, SettleOutcome, Store, StoreError, Tell,
};
use consentry::words::clock::WallTime;
use consentry::words::ids::{AttemptId, BrowserDigest, ConsentId, GrantId, ProviderId, StateDigest, TokenKey, Version};
use consentry::words::said::{BankRequestId, Said};
use consentry::words::token_set::Scope;

use tokio::time::Instant;

use crate::store_contract::{HOUR, begin, commit, consent, end, reassert, restore, sealed, seed};
use crate::support::bench::Bench;
use crate::support::redis::{RedisOptions, RedisServer};

/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);

macro_rules! suite {
    ($($test:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                let bench = crate::support::bench::Embedded::start();
                super::$test(&bench).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $test() {
                let bench = crate::support::bench::Redis::start().await;
                super::$test(&bench).await;
            })*
        }

        mod sentinel {
            #[tokio::test]
            async fn every_test_of_attempts() {
                let bench = crate::support::bench::Watched::start().await;
                $(Box::pin(super::$test(&bench)).await;)*
            }
        }

        mod cluster {
            #[tokio::test]
            async fn every_test_of_attempts() {
                let bench = crate::support::bench::Clustered::start().await;
                $(Box::pin(super::$test(&bench)).await;)*
            }
        }
    };
}

suite! {
    an_attempt_that_was_never_opened_or_whose_time_is_over_is_unknown
    an_attempt_tells_everything_it_was_given
    an_attempt_is_the_first_browsers_and_no_others
    an_attempt_is_claimed_once_and_only_from_its_browser
    of_many_claims_at_once_one_is_granted
    a_claim_that_is_repeated_after_a_lost_reply_answers_the_same
    an_attempt_that_ends_without_a_code_is_over_at_once
    an_outcome_is_written_once_and_only_by_who_claimed
    every_step_begins_the_time_of_an_attempt_anew
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
    what_was_forgotten_comes_back_over_a_pending_consent
    a_history_tells_that_a_customer_was_asked_and_brought_nothing
}

async fn an_attempt_that_was_never_opened_or_whose_time_is_over_is_unknown(bench: &impl Bench) {
    let (store, never) = (bench.store(), state());
    assert_eq!(store.attempt(&never).await.unwrap(), None);
    assert_eq!(store.bind(&never, &bind(1)).await.unwrap(), BindOutcome::Unknown);
    assert_eq!(store.claim(&never, &claim(1, 1)).await.unwrap(), ClaimOutcome::Unknown);
    assert_eq!(store.settle(&never, &settle(1, "granted")).await.unwrap(), SettleOutcome::Lost);
    assert_eq!(store.attempt(&never).await.unwrap(), None, "and none of that makes one");

    let short = state();
    store.open(&short, &Open { life: A_WHILE, ..open() }).await.unwrap();
    bench.pass(A_WHILE).await;
    assert_eq!(store.attempt(&short).await.unwrap(), None);
    assert_eq!(store.bind(&short, &bind(1)).await.unwrap(), BindOutcome::Unknown);
}

async fn an_attempt_tells_everything_it_was_given(bench: &impl Bench) {
    let store = bench.store();
    let bare = Open { scope: None, return_url: None, ..open() };
    for open in [open(), bare] {
        let state = state();
        store.open(&state, &open).await.unwrap();
        store.open(&state, &open).await.unwrap();
        let told = store.attempt(&state).await.unwrap().unwrap();
        let Attempt { consent, provider, grant, scope, return_url, verifier, browser, stage, since } = told;
        assert_eq!((consent, provider, grant), (open.consent, open.provider, open.grant));
        assert_eq!((scope, return_url, verifier), (open.scope, open.return_url, open.verifier));
        assert_eq!((browser, stage), (None, AttemptStage::Open));
        assert!(since < HOUR);
    }
}

async fn an_attempt_is_the_first_browsers_and_no_others(bench: &impl Bench) {
    let (store, state) = (bench.store(), opened(bench).await);
    assert_eq!(store.claim(&state, &claim(1, 1)).await.unwrap(), ClaimOutcome::Foreign, "nobody was sent");
    let BindOutcome::Bound(attempt) = store.bind(&state, &bind(1)).await.unwrap() else { panic!("bound") };
    assert_eq!((attempt.stage, attempt.browser), (AttemptStage::Bound, Some(browser(1))));
    assert!(matches!(store.bind(&state, &bind(1)).await.unwrap(), BindOutcome::Bound(_)), "it may come again");
    assert_eq!(store.bind(&state, &bind(2)).await.unwrap(), BindOutcome::Foreign);
    claimed(store.claim(&state, &claim(1, 1)).await.unwrap());
    assert!(matches!(store.bind(&state, &bind(1)).await.unwrap(), BindOutcome::Used(_)));
    assert_eq!(store.bind(&state, &bind(2)).await.unwrap(), BindOutcome::Foreign);
}

async fn an_attempt_is_claimed_once_and_only_from_its_browser(bench: &impl Bench) {
    let (store, state) = (bench.store(), bound(bench).await);
    assert_eq!(store.claim(&state, &claim(2, 1)).await.unwrap(), ClaimOutcome::Foreign);
    assert_eq!(store.attempt(&state).await.unwrap().unwrap().stage, AttemptStage::Bound, "and nothing changed");
    let attempt = claimed(store.claim(&state, &claim(1, 1)).await.unwrap());
    assert_eq!(attempt.stage, AttemptStage::Exchanging);
    assert!(matches!(store.claim(&state, &claim(1, 2)).await.unwrap(), ClaimOutcome::Busy(_)));
    assert!(matches!(store.claim(&state, &refusal(1, 2)).await.unwrap(), ClaimOutcome::Busy(_)));
    assert_eq!(store.claim(&state, &claim(2, 1)).await.unwrap(), ClaimOutcome::Foreign);
}

async fn of_many_claims_at_once_one_is_granted(bench: &impl Bench) {
    let (store, state) = (bench.store(), bound(bench).await);
    let claims = (0..16).map(|who| {
        let (state, claim) = (state, if who % 2 == 0 { claim(1, who) } else { refusal(1, who) });
        async move { store.claim(&state, &claim).await.unwrap() }
    });
    let mut granted = 0;
    for outcome in futures_all(claims).await {
        match outcome {
            ClaimOutcome::Claimed(_) => granted += 1,
            ClaimOutcome::Busy(_) | ClaimOutcome::Over(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(granted, 1);
}

async fn a_claim_that_is_repeated_after_a_lost_reply_answers_the_same(bench: &impl Bench) {
    let store = bench.store();
    for claim in [claim(1, 1), refusal(1, 1)] {
        let state = bound(bench).await;
        let first = claimed(store.claim(&state, &claim).await.unwrap());
        let again = claimed(store.claim(&state, &claim).await.unwrap());
        assert_eq!(first.stage, again.stage);
    }
    let state = bound(bench).await;
    claimed(store.claim(&state, &claim(1, 1)).await.unwrap());
    store.settle(&state, &settle(1, "granted")).await.unwrap();
    assert!(matches!(store.claim(&state, &claim(1, 1)).await.unwrap(), ClaimOutcome::Over(_)), "it was sent already");
}

async fn an_attempt_that_ends_without_a_code_is_over_at_once(bench: &impl Bench) {
    let (store, state) = (bench.store(), bound(bench).await);
    let attempt = claimed(store.claim(&state, &refusal(1, 1)).await.unwrap());
    assert_eq!(attempt.stage, AttemptStage::Over("denied".into()));
    let ClaimOutcome::Over(attempt) = store.claim(&state, &claim(1, 2)).await.unwrap() else { panic!("over") };
    assert_eq!(attempt.stage, AttemptStage::Over("denied".into()));
    assert!(matches!(store.claim(&state, &refusal(1, 2)).await.unwrap(), ClaimOutcome::Over(_)));
}

async fn an_outcome_is_written_once_and_only_by_who_claimed(bench: &impl Bench) {
    let (store, state) = (bench.store(), bound(bench).await);
    assert_eq!(store.settle(&state, &settle(1, "granted")).await.unwrap(), SettleOutcome::Lost);
    claimed(store.claim(&state, &claim(1, 1)).await.unwrap());
    assert_eq!(store.settle(&state, &settle(2, "granted")).await.unwrap(), SettleOutcome::Lost);
    for _ in 0..2 {
        assert_eq!(store.settle(&state, &settle(1, "granted")).await.unwrap(), SettleOutcome::Settled);
    }
    assert_eq!(store.settle(&state, &settle(1, "server_error")).await.unwrap(), SettleOutcome::Lost);
    let attempt = store.attempt(&state).await.unwrap().unwrap();
    assert_eq!(attempt.stage, AttemptStage::Over("granted".into()));
}

async fn every_step_begins_the_time_of_an_attempt_anew(bench: &impl Bench) {
    let (store, state) = (bench.store(), state());
    store.open(&state, &Open { life: A_WHILE, ..open() }).await.unwrap();
    store.bind(&state, &bind(1)).await.unwrap();
    bench.pass(A_WHILE).await;
    store.claim(&state, &Claim { life: A_WHILE, ..claim(1, 1) }).await.unwrap();
    bench.pass(A_WHILE / 2).await;
    store.settle(&state, &settle(1, "granted")).await.unwrap();
    bench.pass(A_WHILE).await;
    assert!(store.attempt(&state).await.unwrap().is_some());
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
    store.arm(&key, &crate::store_contract::arm(1, lease.fence, base)).await.unwrap();
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
    let tell = Tell { why: "invalid_grant".into(), said: said.clone(), attempt: Some(who(1)) };
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
    assert_eq!(ended.attempt, Some(who(1)));
    assert_eq!(store.read(&key).await.unwrap().unwrap().state, RecordState::Pending, "and nothing else");
}

#[tokio::test]
async fn a_claim_counts_only_when_a_replica_has_it_and_may_be_repeated_until_then() {
    let primary = RedisServer::start().await;
    let demanding = |milliseconds| RedisSettings {
        replicas_required: 1,
        replica_wait: Duration::from_millis(milliseconds),
        ..primary.settings()
    };
    let plain = primary.store();
    let state = state();
    let impatient = RedisStore::connect(&demanding(50)).unwrap();
    let unheard = impatient.open(&state, &open()).await;
    assert!(matches!(&unheard, Err(StoreError::Unavailable(text)) if text.contains("OPEN")), "{unheard:?}");
    plain.bind(&state, &bind(1)).await.unwrap();
    let alone = ClaimOutcome::NotDurable { acknowledged: 0, required: 1 };
    for _ in 0..2 {
        assert_eq!(impatient.claim(&state, &claim(1, 1)).await.unwrap(), alone);
    }
    let port = primary.port().to_string();
    let _replica =
        RedisServer::start_with(RedisOptions::default().with("replicaof", &format!("127.0.0.1 {port}"))).await;
    let patient = RedisStore::connect(&demanding(2_000)).unwrap();
    // The replica may need a moment until it acknowledges; asking again is the same step.
    let deadline = Instant::now() + Duration::from_secs(20);
    while patient.claim(&state, &claim(1, 1)).await.unwrap() == alone {
        assert!(Instant::now() < deadline, "the replica never acknowledged");
    }
    claimed(patient.claim(&state, &claim(1, 1)).await.unwrap());
    assert!(matches!(patient.claim(&state, &claim(1, 2)).await.unwrap(), ClaimOutcome::Busy(_)));
}

async fn kinds(store: &impl Store, key: &TokenKey) -> Vec<EventKind> {
    store.history(key).await.unwrap().into_iter().map(|event| event.kind).collect()
}

/// All of them at once.
async fn futures_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut futures {
            if done.is_none()
                && let std::task::Poll::Ready(outcome) = future.as_mut().poll(context)
            {
                *done = Some(outcome);
            }
        }
        if futures.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

async fn opened(bench: &impl Bench) -> StateDigest {
    let state = state();
    bench.store().open(&state, &open()).await.unwrap();
    state
}

async fn bound(bench: &impl Bench) -> StateDigest {
    let state = opened(bench).await;
    bench.store().bind(&state, &bind(1)).await.unwrap();
    state
}

fn claimed(outcome: ClaimOutcome) -> Attempt {
    match outcome {
        ClaimOutcome::Claimed(attempt) => attempt,
        other => panic!("not claimed: {other:?}"),
    }
}

fn state() -> StateDigest {
    StateDigest::of(&GrantId::random().to_string())
}

fn browser(number: u8) -> BrowserDigest {
    BrowserDigest::of(&format!("browser {number}"))
}

fn who(number: u64) -> AttemptId {
    AttemptId::new("replica/boot", number)
}

fn open() -> Open {
    Open {
        consent: ConsentId::parse("customer~4711:a.b_c-d").unwrap(),
        provider: ProviderId::parse("bank").unwrap(),
        grant: GrantId::random(),
        scope: Scope::parse("psd2:account:balance:read [odd]"),
        return_url: Some("https://app.example/done?a=b".to_owned()),
        verifier: sealed("verifier\0\u{ff}"),
        life: HOUR,
    }
}

fn bind(number: u8) -> Bind {
    Bind { browser: browser(number), life: HOUR }
}

fn claim(browser_number: u8, number: u64) -> Claim {
    Claim { browser: browser(browser_number), by: who(number), to: ClaimTo::Exchange, life: HOUR }
}

fn refusal(browser_number: u8, number: u64) -> Claim {
    Claim { to: ClaimTo::End("denied".into()), ..claim(browser_number, number) }
}

fn settle(number: u64, outcome: &str) -> Settle {
    Settle { by: who(number), outcome: outcome.to_owned(), life: HOUR }
}

fn wait() -> Await {
    Await { provider: ProviderId::parse("bank").unwrap(), grant: GrantId::random(), life: HOUR }
}

/// A token set that the bank gave so long ago.
fn given(number: u8, age: Duration) -> Seed {
    Seed { age: Some(age), ..seed(number) }
}

fn refused(grant: GrantId) -> consentry::store::End {
    consentry::store::End {
        grant: Some(grant),
        state: RecordState::Denied,
        why: "access_denied".into(),
        remembered: None,
    }
}
