//! What a person or an app orders: a grant, an end, a revival.

use consentry::store::{
    Begin, BeginOutcome, CommitOutcome, EndOutcome, FailOutcome, FailTo, RecordState, RenewOutcome, Revive,
    ReviveOutcome, Seed, SeedOutcome, Store,
};
use consentry::words::clock::WallTime;
use consentry::words::ids::{GrantId, Version};

use super::{
    HOUR, NONE, arm, armed, bank, begin, commit, consent, end, fail, fingerprint, granted, read, renew, resealed,
    revive, sealed, seed, seeded,
};
use crate::support::bench::Bench;

pub(super) async fn a_seed_repeated_after_its_consent_ended_brings_nothing_back(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let first = seed(1);
    assert!(matches!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Created(_)));
    store.end(&key, &end(None)).await.unwrap();
    assert!(matches!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Mismatch(_)));
    assert_eq!(read(store, &key).await.state, RecordState::Revoked);
    assert!(matches!(store.seed(&key, &seed(2)).await.unwrap(), SeedOutcome::Created(_)), "a new grant may");
}

pub(super) async fn a_seed_creates_and_replaces_only_what_it_expects(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (first, second) = (seed(1), seed(2));
    let (one, two) = (Version::first(first.grant), Version::first(second.grant));
    for _ in 0..2 {
        assert_eq!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Created(one));
    }
    assert_eq!(store.seed(&key, &second).await.unwrap(), SeedOutcome::Exists(one));
    let wrong = Seed { expected: Some(one.next()), ..second.clone() };
    assert_eq!(store.seed(&key, &wrong).await.unwrap(), SeedOutcome::Mismatch(one));
    let right = Seed { expected: Some(one), ..second };
    for _ in 0..2 {
        assert_eq!(store.seed(&key, &right).await.unwrap(), SeedOutcome::Replaced(two));
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.access), (two, Some(sealed("access 2"))));
    assert_eq!(snapshot.replaced, Some((sealed("refresh 1"), one)));
}

pub(super) async fn a_seed_refuses_a_refresh_token_that_was_spent_or_is_being_spent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let same = Seed { expected: Some(version), ..seed(1) };
    assert_eq!(store.seed(&key, &same).await.unwrap(), SeedOutcome::Spent(version), "it is being spent");
    store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap();
    assert_eq!(store.seed(&key, &same).await.unwrap(), SeedOutcome::Spent(version), "it may have been spent");
    store.commit(&key, &commit(1, version)).await.unwrap();
    let after = Seed { expected: Some(version.next()), ..same };
    assert_eq!(store.seed(&key, &after).await.unwrap(), SeedOutcome::Spent(version.next()), "it was spent");
    let idle = Seed {
        refresh_fingerprint: read(store, &key).await.refresh_fingerprint,
        expected: Some(version.next()),
        ..seed(2)
    };
    let outcome = store.seed(&key, &idle).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Replaced(Version::first(idle.grant)), "nobody is spending it");
    store.end(&key, &end(None)).await.unwrap();
    let tombstone = read(store, &key).await.version;
    assert_eq!(store.seed(&key, &seed(1)).await.unwrap(), SeedOutcome::Spent(tombstone), "an end forgives nothing");
}

pub(super) async fn a_grant_of_this_very_moment_counts(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    seeded(store, &key, 1).await;
    let second = Seed { age: Some(NONE), ..seed(2) };
    let outcome = store.seed(&key, &second).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Replaced(Version::first(second.grant)));
    store.end(&key, &end(None)).await.unwrap();
    let third = Seed { age: Some(NONE), ..seed(3) };
    let outcome = store.seed(&key, &third).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Created(Version::first(third.grant)));
}

pub(super) async fn a_seed_beats_any_refresh_in_flight(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let next = Seed { expected: Some(version), ..seed(2) };
    let current = Version::first(next.grant);
    assert_eq!(store.seed(&key, &next).await.unwrap(), SeedOutcome::Replaced(current));
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Superseded { current });
    assert_eq!(store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Lost);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.state, snapshot.sends), (current, RecordState::Active, 0));
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(lease.fence > fence && !lease.alternate && !lease.probe);
}

pub(super) async fn an_end_wipes_the_tokens_and_leaves_a_tombstone(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let foreign = end(Some(GrantId::random()));
    assert_eq!(store.end(&key, &foreign).await.unwrap(), EndOutcome::NotFound);
    for _ in 0..2 {
        assert_eq!(store.end(&key, &end(Some(version.grant))).await.unwrap(), EndOutcome::Ended);
        let refused = store.begin(&key, &Begin { create: Some(GrantId::random()), ..begin(1) }).await.unwrap();
        let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
        assert_eq!((snapshot.state, snapshot.why.as_deref()), (RecordState::Revoked, Some("asked")));
        assert_eq!((&snapshot.access, &snapshot.refresh, &snapshot.replaced), (&None, &None, &None));
        assert_eq!(snapshot.version, version.next(), "whoever remembers the last version hears of a newer one");
    }
    let again = seed(2);
    let outcome = store.seed(&key, &again).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Created(Version::first(again.grant)));
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(1) }).await.unwrap(), BeginOutcome::Fresh(_)));
}

pub(super) async fn a_consent_whose_time_is_over_is_refused_and_keeps_its_tokens(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let over = Seed { consent_expires_at: Some(WallTime::from_millis(1_000)), ..seed(1) };
    store.seed(&key, &over).await.unwrap();
    let refused = store.begin(&key, &begin(1)).await.unwrap();
    let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
    assert_eq!((snapshot.state, snapshot.consent_remaining), (RecordState::Expired, Some(NONE)));
    assert!(snapshot.refresh.is_some());
    assert_eq!(read(store, &key).await.state, RecordState::Expired);
}

pub(super) async fn a_record_tells_everything_it_was_given(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let ends = WallTime::from_millis(4_102_444_800_000);
    let full = Seed { consent_expires_at: Some(ends), life: HOUR * 2, ..seed(1) };
    store.seed(&key, &full).await.unwrap();
    let snapshot = read(store, &key).await;
    assert_eq!(snapshot.provider, bank());
    assert_eq!((snapshot.access, snapshot.refresh), (Some(full.access), full.refresh));
    assert_eq!(snapshot.refresh_fingerprint, full.refresh_fingerprint);
    assert_eq!((snapshot.scope, snapshot.bank_consent_id), (full.scope, full.bank_consent_id));
    assert_eq!((snapshot.certificate, snapshot.consent_expires_at), (full.certificate, Some(ends)));
    assert!(snapshot.life == HOUR * 2 && snapshot.consent_remaining.is_some_and(|left| left > HOUR));
}

pub(super) async fn a_revival_has_the_kept_refresh_token_tried_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    assert_eq!(store.revive(&key, &revive(1)).await.unwrap(), ReviveOutcome::NotFound);
    let (version, fence) = armed(bench, &key, HOUR).await;
    store.fail(&key, &fail(1, fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
    let elsewhere = Revive { expected: Some(version.next()), ..revive(1) };
    assert_eq!(store.revive(&key, &elsewhere).await.unwrap(), ReviveOutcome::Mismatch(version));
    let right = Revive { expected: Some(version), ..revive(1) };
    for _ in 0..2 {
        assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(version));
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.version), (RecordState::Active, version));
        assert_eq!((snapshot.failures, snapshot.why, snapshot.sends), (0, None, 0));
        assert_eq!(snapshot.refresh, Some(sealed("refresh 1")));
    }
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(!lease.probe && lease.fence > fence + 1, "who held it before holds nothing");
    store.arm(&key, &arm(2, lease.fence, version)).await.unwrap();
    store.fail(&key, &fail(2, lease.fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
    assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(version));
    let state = read(store, &key).await.state;
    assert_eq!(state, RecordState::ReauthorizationRequired, "a repeated revival revives nothing a second time");
}

pub(super) async fn a_revival_of_what_is_not_suspended_changes_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let refused = async |state, current| {
        let outcome = store.revive(&key, &revive(1)).await.unwrap();
        assert_eq!(outcome, ReviveOutcome::NotSuspended { state, current });
        assert_eq!(read(store, &key).await.state, state);
    };
    refused(RecordState::Active, version).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    refused(RecordState::Leased, version).await;
    store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    refused(RecordState::Armed, version).await;
    store.fail(&key, &fail(1, lease.fence, version, FailTo::Uncertain)).await.unwrap();
    refused(RecordState::Uncertain, version).await;
    store.end(&key, &end(None)).await.unwrap();
    refused(RecordState::Revoked, version.next()).await;

    let bare = consent();
    let seed = Seed { refresh: None, refresh_fingerprint: None, ..seed(1) };
    store.seed(&bare, &seed).await.unwrap();
    let (lease, _) = granted(store.begin(&bare, &begin(1)).await.unwrap());
    store.fail(&bare, &fail(1, lease.fence, lease.base, FailTo::ReauthorizationRequired)).await.unwrap();
    assert_eq!(store.revive(&bare, &revive(1)).await.unwrap(), ReviveOutcome::Nothing(lease.base));
}

pub(super) async fn a_replaced_grant_comes_back_as_a_new_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let old = seeded(store, &key, 1).await;
    let none = resealed(1, old, 1);
    assert_eq!(store.revive(&key, &none).await.unwrap(), ReviveOutcome::Nothing(old));
    let wrong = Seed { expected: Some(old), consent_expires_at: Some(WallTime::from_millis(9)), ..seed(2) };
    let current = Version::first(wrong.grant);
    store.seed(&key, &wrong).await.unwrap();
    let stale = resealed(1, current, 1);
    assert_eq!(store.revive(&key, &stale).await.unwrap(), ReviveOutcome::Nothing(current));
    let right = Revive { expected: Some(current), ..resealed(1, old, 1) };
    let new = Version::first(right.replaced.as_ref().unwrap().grant);
    for _ in 0..2 {
        assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(new));
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.state), (new, RecordState::Active));
    assert_eq!((snapshot.refresh, snapshot.refresh_fingerprint), (Some(sealed("resealed 1")), Some(fingerprint(1))));
    assert_eq!((snapshot.access, snapshot.remaining, snapshot.consent_expires_at), (None, NONE, None));
    assert_eq!(snapshot.replaced, Some((sealed("refresh 2"), current)), "and so can this be taken back");
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert_eq!(lease.base, new);
    let busy = store.revive(&key, &resealed(2, current, 2)).await.unwrap();
    assert_eq!(busy, ReviveOutcome::NotSuspended { state: RecordState::Leased, current: new });
}

pub(super) async fn a_replaced_refresh_token_that_was_spent_stays_where_it_is(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (old, _) = armed(bench, &key, HOUR).await;
    let next = Seed { expected: Some(old), ..seed(2) };
    let current = Version::first(next.grant);
    store.seed(&key, &next).await.unwrap();
    assert_eq!(store.revive(&key, &resealed(1, old, 1)).await.unwrap(), ReviveOutcome::Spent(current));
    let again = Seed { expected: Some(current), ..seed(1) };
    assert_eq!(store.seed(&key, &again).await.unwrap(), SeedOutcome::Spent(current), "it was being spent");
}
