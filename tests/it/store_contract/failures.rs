//! How a lease ends that brought nothing: given back, refused, or nobody knows.

use consentry::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, CommitOutcome, FailOutcome, FailTo, RecordState, Store, Waiting,
};
use consentry::words::ids::{ConsentId, TokenKey};

use super::{
    A_WHILE, HOUR, NONE, SHORT, arm, armed, begin, commit, consent, fail, granted, probing, read, sealed, seeded,
    waiting,
};
use crate::support::bench::Bench;

pub(super) async fn a_lease_that_is_given_back_leaves_no_trace(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    for _ in 0..2 {
        let released = store.fail(&key, &fail(1, lease.fence, version, FailTo::Released)).await.unwrap();
        assert_eq!(released, FailOutcome::Recorded);
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.failures, snapshot.why, snapshot.backoff), (0, None, NONE));
    assert_eq!((snapshot.state, snapshot.holder), (RecordState::Active, None));
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(!lease.probe);
    let (version, lease) = probing(bench, &ConsentId::parse("other").map(TokenKey::Consent).unwrap()).await;
    let other = TokenKey::Consent(ConsentId::parse("other").unwrap());
    store.fail(&other, &fail(2, lease.fence, version, FailTo::Released)).await.unwrap();
    assert_eq!(read(store, &other).await.state, RecordState::Uncertain, "an earlier send is still unexplained");
}

pub(super) async fn a_failed_refresh_makes_everybody_wait(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let failure = fail(1, lease.fence, version, FailTo::Active { backoff: A_WHILE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.failures, snapshot.why.as_deref()), (1, Some("refused")));
        assert_eq!((snapshot.state, snapshot.holder), (RecordState::Active, None));
    }
    let (why, wait) = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(why == Waiting::Backoff && wait <= A_WHILE && wait > SHORT / 10, "{why:?} {wait:?}");
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(2) }).await.unwrap(), BeginOutcome::Fresh(_)));
    bench.pass(A_WHILE).await;
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    store.arm(&key, &arm(2, lease.fence, version)).await.unwrap();
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.failures, snapshot.sends, snapshot.state), (2, 0, RecordState::Active));
    assert!(!granted(store.begin(&key, &begin(3)).await.unwrap()).0.probe);
}

pub(super) async fn an_unknown_outcome_is_quarantined_from_the_report_on(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    bench.pass(SHORT).await;
    let failure = fail(1, fence, version, FailTo::Uncertain);
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends, snapshot.holder), (RecordState::Uncertain, 1, None));
    assert!(snapshot.access.is_some() && snapshot.refresh.is_some());
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(2) }).await.unwrap(), BeginOutcome::Fresh(_)));
    let soon = Begin { quarantine: A_WHILE, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &soon).await.unwrap()).0, Waiting::Quarantine);
    bench.pass(A_WHILE).await;
    assert!(granted(store.begin(&key, &soon).await.unwrap()).0.probe);
}

pub(super) async fn a_refused_refresh_token_is_kept_and_the_consent_suspended(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let failure = fail(1, fence, version, FailTo::ReauthorizationRequired);
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    }
    let refused = store.begin(&key, &begin(2)).await.unwrap();
    let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
    assert_eq!(snapshot.state, RecordState::ReauthorizationRequired);
    assert_eq!((snapshot.version, snapshot.refresh), (version, Some(sealed("refresh 1"))));
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }), "a token set that comes after all is the newest there is");
    assert_eq!(read(store, &key).await.state, RecordState::Active);
}

pub(super) async fn a_probe_that_sent_nothing_leaves_the_record_uncertain(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, lease) = probing(bench, &key).await;
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    }
    let next = store.begin(&key, &Begin { quarantine: SHORT, ..begin(3) }).await.unwrap();
    assert!(granted(next).0.probe, "the quarantine is over and does not begin anew");
}

pub(super) async fn a_probe_that_was_turned_away_leaves_the_record_uncertain(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, lease) = probing(bench, &key).await;
    let probe = Arm { probe: true, ..arm(2, lease.fence, version) };
    assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Armed);
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    }
    let again = Begin { quarantine: NONE, rejected: Some(version), ..begin(3) };
    assert!(granted(store.begin(&key, &again).await.unwrap()).0.probe);
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }));
    assert_eq!(read(store, &key).await.sends, 0);
}

pub(super) async fn a_sender_that_reports_not_sent_ends_the_quarantine(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
    let failure = fail(1, fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Active, 0));
    }
    assert!(!granted(store.begin(&key, &begin(2)).await.unwrap()).0.probe);
}
