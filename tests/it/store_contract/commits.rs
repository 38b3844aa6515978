//! What a bank granted takes the place of what was there, unless something newer is.

use consentry::store::{
    Arm, ArmOutcome, Begin, Commit, CommitOutcome, FailOutcome, FailTo, RecordState, RenewOutcome, RestoreOutcome,
    Seed, SeedOutcome, Store,
};
use consentry::words::ids::{GrantId, Version};
use consentry::words::token_set::Scope;

use super::{
    A_WHILE, HOUR, NONE, SHORT, arm, armed, begin, commit, consent, end, fail, fingerprint, granted, read, renew,
    restore, sealed, seed, seeded,
};
use crate::support::bench::Bench;

pub(super) async fn a_commit_replaces_the_token_set_and_may_be_repeated(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Stored { version: version.next(), rolled_back: false });
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.version, snapshot.state), (version.next(), RecordState::Active));
        assert_eq!(snapshot.access, Some(sealed("access of attempt 1")));
        assert_eq!(snapshot.refresh_fingerprint, Some(fingerprint(101)));
        assert_eq!((snapshot.sends, snapshot.failures, snapshot.holder), (0, 0, None));
        assert_eq!(snapshot.scope, Scope::parse("granted"), "an answer without scope keeps the stored one");
        assert!(snapshot.remaining <= HOUR && snapshot.remaining > HOUR / 2);
    }
    let scoped = Commit { scope: Scope::parse("less"), refresh: None, ..commit(2, version.next()) };
    store.commit(&key, &scoped).await.unwrap();
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.scope, snapshot.refresh), (Scope::parse("less"), None));
}

pub(super) async fn a_commit_is_accepted_after_its_lease_ran_out(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    let (prober, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }));
    let probe = Arm { probe: true, ..arm(2, prober.fence, version) };
    assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Lost, "nothing is left to probe");
}

pub(super) async fn a_commit_that_was_held_up_does_not_lengthen_a_life(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    bench.pass(A_WHILE).await;
    let held_up = Commit { since_intent: Some(NONE), ..commit(1, version) };
    assert!(matches!(store.commit(&key, &held_up).await.unwrap(), CommitOutcome::Stored { .. }));
    let snapshot = read(store, &key).await;
    assert!(snapshot.remaining + A_WHILE <= HOUR && snapshot.life == HOUR, "{:?}", snapshot.remaining);
    let other = consent();
    let (version, _) = armed(bench, &other, HOUR).await;
    let prompt = Commit { since_intent: Some(HOUR), ..commit(1, version) };
    assert!(matches!(store.commit(&other, &prompt).await.unwrap(), CommitOutcome::Stored { .. }));
    assert!(read(store, &other).await.remaining + A_WHILE > HOUR, "a holder's own slowness is no reason");
}

pub(super) async fn a_commit_that_lost_by_one_is_kept_as_alt(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    store.commit(&key, &commit(1, version)).await.unwrap();
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(2, version)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Superseded { current: version.next() });
    }
    assert_eq!(read(store, &key).await.access, Some(sealed("access of attempt 1")));
    let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
    assert!(lease.alternate);
    store.commit(&key, &commit(3, version.next())).await.unwrap();
    let (lease, _) = granted(store.begin(&key, &begin(4)).await.unwrap());
    assert!(!lease.alternate, "a newer token set has no need of it");
}

pub(super) async fn a_commit_that_lost_to_another_grant_or_by_more_is_not_kept(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    store.commit(&key, &commit(1, version)).await.unwrap();
    store.commit(&key, &commit(2, version.next())).await.unwrap();
    let current = version.next().next();
    let foreign = Version::first(GrantId::random());
    let same_pair = Commit { refresh_fingerprint: Some(fingerprint(102)), ..commit(3, version.next()) };
    for lost in [commit(3, version), commit(3, foreign), same_pair] {
        assert_eq!(store.commit(&key, &lost).await.unwrap(), CommitOutcome::Superseded { current });
    }
    assert!(!granted(store.begin(&key, &begin(4)).await.unwrap()).0.alternate);
}

pub(super) async fn a_commit_brings_back_generations_that_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let base = Version { generation: 7, ..version };
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(1, base)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Stored { version: base.next(), rolled_back: true });
    }
    let outcome = store.commit(&key, &commit(2, base.next())).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stored { version: base.next().next(), rolled_back: false });
}

pub(super) async fn a_commit_never_revives_an_ended_consent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    store.end(&key, &end(None)).await.unwrap();
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
    for _ in 0..2 {
        assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Gone);
    }
    assert_eq!(store.restore(&key, &restore(1, version.next())).await.unwrap(), RestoreOutcome::Gone);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.access, snapshot.refresh), (RecordState::Revoked, None, None));
}

pub(super) async fn a_record_remembers_the_last_spent_fingerprints_only(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let mut version = seeded(store, &key, 1).await;
    for spent in 0..40 {
        let commit = Commit { spent: Some(fingerprint(spent)), ..commit(u64::from(spent), version) };
        store.commit(&key, &commit).await.unwrap();
        version = version.next();
    }
    let again = |spent| Seed { refresh_fingerprint: Some(fingerprint(spent)), expected: Some(version), ..seed(2) };
    for spent in [8, 39] {
        assert_eq!(store.seed(&key, &again(spent)).await.unwrap(), SeedOutcome::Spent(version), "{spent}");
    }
    assert!(matches!(store.seed(&key, &again(7)).await.unwrap(), SeedOutcome::Replaced(_)));
}

pub(super) async fn a_token_that_came_second_takes_the_place_of_a_refused_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    assert!(matches!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Stored { .. }));
    assert!(matches!(store.commit(&key, &commit(2, version)).await.unwrap(), CommitOutcome::Superseded { .. }));
    let (lease, before) = granted(store.begin(&key, &begin(3)).await.unwrap());
    assert!(lease.alternate);
    let refused = fail(3, lease.fence, lease.base, FailTo::Alternate);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded, "a lost reply is repeated");
    let after = read(store, &key).await;
    assert_eq!((after.state, after.version), (RecordState::Active, before.version));
    assert_eq!(after.refresh, Some(sealed("refresh of attempt 2")));
    assert_eq!(after.refresh_fingerprint, Some(fingerprint(102)));
    let again = Seed { expected: Some(after.version), refresh_fingerprint: Some(fingerprint(101)), ..seed(5) };
    assert!(matches!(store.seed(&key, &again).await.unwrap(), SeedOutcome::Spent(_)), "the refused one is spent");
    let (lease, _) = granted(store.begin(&key, &begin(4)).await.unwrap());
    assert!(!lease.alternate && !lease.probe);
    let refused = fail(4, lease.fence, lease.base, FailTo::Alternate);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded);
    assert_eq!(read(store, &key).await.state, RecordState::ReauthorizationRequired, "there is no third");
}
