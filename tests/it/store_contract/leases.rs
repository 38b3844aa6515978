//! Asking for a token or for the right to get one, writing down that it is used, and how long it lasts.

use consentry::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Commit, CommitOutcome, EndOutcome, FailOutcome, FailTo, Grace, RecordState,
    RenewOutcome, Seed, SeedOutcome, Store, Waiting,
};
use consentry::words::ids::{ClientKey, GrantId, ProviderId, TokenKey, Version};

use super::{
    A_WHILE, HOUR, MINUTE, NONE, SHORT, arm, armed, attempt, bank, begin, commit, consent, end, fail, granted, probing,
    read, renew, sealed, seed, seeded, waiting,
};
use crate::support::bench::Bench;

pub(super) async fn what_is_not_there_is_unknown(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    assert!(store.read(&key).await.unwrap().is_none());
    assert!(matches!(store.begin(&key, &begin(1)).await.unwrap(), BeginOutcome::Unknown));
    assert_eq!(store.arm(&key, &arm(1, 1, version)).await.unwrap(), ArmOutcome::Lost);
    assert_eq!(store.renew(&key, &renew(1, 1, HOUR)).await.unwrap(), RenewOutcome::Lost);
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Missing);
    assert_eq!(store.fail(&key, &fail(1, 1, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Lost);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::NotFound);
    let seed = Seed { expected: Some(version), ..seed(1) };
    assert_eq!(store.seed(&key, &seed).await.unwrap(), SeedOutcome::Missing);
    assert!(store.read(&key).await.unwrap().is_none());
}

pub(super) async fn a_record_is_made_by_a_begin_only_where_it_is_asked_for(bench: &impl Bench) {
    let (store, grant) = (bench.store(), GrantId::random());
    let key = TokenKey::Client(ClientKey::new(bank(), Some("https://api.example"), Some("a b")));
    let create = Begin { create: Some(grant), ..begin(1) };
    let (lease, snapshot) = granted(store.begin(&key, &create).await.unwrap());
    assert_eq!((lease.base, lease.probe), (Version { grant, generation: 0 }, false));
    assert!(snapshot.access.is_none() && snapshot.remaining == NONE);
    let repeated = Begin { create: Some(GrantId::random()), ..begin(1) };
    assert_eq!(granted(store.begin(&key, &repeated).await.unwrap()).0.base.grant, grant);
    let outcome = store.commit(&key, &commit(1, lease.base)).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stored { version: Version::first(grant), rolled_back: false });
    let wanted = Begin { wanted: NONE, ..begin(2) };
    assert!(matches!(store.begin(&key, &wanted).await.unwrap(), BeginOutcome::Fresh(_)));
}

pub(super) async fn a_token_is_fresh_while_more_is_left_than_wanted(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &Seed { remaining: MINUTE, ..seed(1) }).await.unwrap();
    let fresh = store.begin(&key, &Begin { wanted: MINUTE / 2, ..begin(1) }).await.unwrap();
    let BeginOutcome::Fresh(snapshot) = fresh else { panic!("{fresh:?}") };
    assert!(snapshot.remaining > MINUTE / 2 && snapshot.remaining <= MINUTE);
    assert_eq!(snapshot.access, Some(sealed("access 1")));
    let soon = store.begin(&key, &Begin { wanted: MINUTE, ..begin(1) }).await.unwrap();
    assert_eq!(granted(soon).1.state, RecordState::Leased);
}

pub(super) async fn a_record_of_another_provider_is_as_good_as_absent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &seed(1)).await.unwrap();
    let other = Begin { provider: ProviderId::parse("other").unwrap(), create: Some(GrantId::random()), ..begin(1) };
    assert!(matches!(store.begin(&key, &other).await.unwrap(), BeginOutcome::Unknown));
    assert_eq!(read(store, &key).await.provider, bank());
}

pub(super) async fn of_many_attempts_at_once_one_is_granted(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    seeded(store, &key, 1).await;
    let (one, two, three, four) = (begin(1), begin(2), begin(3), begin(4));
    let (one, two, three, four) = tokio::join!(
        store.begin(&key, &one),
        store.begin(&key, &two),
        store.begin(&key, &three),
        store.begin(&key, &four)
    );
    let outcomes = [one.unwrap(), two.unwrap(), three.unwrap(), four.unwrap()];
    let leases = outcomes.iter().filter(|outcome| matches!(outcome, BeginOutcome::Granted(..))).count();
    let busy = outcomes.iter().filter(|outcome| matches!(outcome, BeginOutcome::Wait(Waiting::Busy, ..))).count();
    assert_eq!((leases, busy), (1, 3), "{outcomes:?}");
}

pub(super) async fn a_repeated_begin_has_the_same_lease(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    seeded(store, &key, 1).await;
    let (first, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let (again, snapshot) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!((first.fence, first.base), (again.fence, again.base));
    assert_eq!(snapshot.holder, Some(attempt(1)));
    let wait = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(wait.0 == Waiting::Busy && wait.1 <= HOUR && wait.1 > HOUR / 2, "{wait:?}");
}

pub(super) async fn a_lease_that_ran_out_unarmed_is_passed_on_at_once(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (first, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    bench.pass(SHORT).await;
    let (second, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(second.fence > first.fence && !second.probe);
    assert_eq!(store.arm(&key, &arm(1, first.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let back = FailTo::Active { backoff: NONE };
    assert_eq!(store.fail(&key, &fail(1, first.fence, version, back)).await.unwrap(), FailOutcome::Lost);
    assert_eq!(store.renew(&key, &renew(1, first.fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
}

pub(super) async fn an_intent_is_written_once_and_only_by_the_holder(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    bench.pass(SHORT).await;
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Lost, "it ran out");
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    for stranger in
        [arm(2, lease.fence, version), arm(1, lease.fence + 1, version), arm(1, lease.fence, version.next())]
    {
        assert_eq!(store.arm(&key, &stranger).await.unwrap(), ArmOutcome::Lost, "{stranger:?}");
    }
    assert_eq!(read(store, &key).await.sends, 0);
    for _ in 0..2 {
        assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Armed, 1));
    }
    assert_eq!(waiting(store.begin(&key, &begin(1)).await.unwrap()).0, Waiting::Busy, "even its own holder waits");
}

pub(super) async fn after_an_armed_lease_ran_out_there_is_quarantine_then_hold_then_a_probe(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    let (why, wait) = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(why == Waiting::Quarantine && wait <= HOUR, "{why:?} {wait:?}");
    assert_eq!(read(store, &key).await.state, RecordState::Uncertain);
    let early = Begin { quarantine: NONE, grace: None, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &early).await.unwrap()).0, Waiting::Hold);
    let rejected = Begin { rejected: Some(version), lease: SHORT, ..early };
    let (lease, _) = granted(store.begin(&key, &rejected).await.unwrap());
    assert!(lease.probe, "an access token that is refused is no reason to hold");
    bench.pass(SHORT).await;
    let (lease, snapshot) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(3) }).await.unwrap());
    assert!(lease.probe && snapshot.state == RecordState::Uncertain && snapshot.refresh.is_some());
    let (again, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(3) }).await.unwrap());
    assert_eq!((again.fence, again.probe), (lease.fence, true));
    let busy = store.begin(&key, &Begin { quarantine: NONE, ..begin(4) }).await.unwrap();
    assert_eq!(waiting(busy).0, Waiting::Busy);
    assert_eq!(store.arm(&key, &arm(3, lease.fence, version)).await.unwrap(), ArmOutcome::ProbeNeeded);
    let probe = Arm { probe: true, ..arm(3, lease.fence, version) };
    for _ in 0..2 {
        assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Armed);
        assert_eq!(read(store, &key).await.sends, 2);
    }
}

pub(super) async fn a_holder_that_nobody_could_hear_still_has_the_quarantine_to_come_back_in(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    // Longer than lease and quarantine together: nobody reached the store, the holder included.
    bench.pass(SHORT * 3).await;
    let (why, wait) = waiting(store.begin(&key, &Begin { quarantine: A_WHILE, ..begin(2) }).await.unwrap());
    assert!(why == Waiting::Quarantine && wait > A_WHILE / 2, "{why:?} {wait:?}");
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }), "{outcome:?}");
}

pub(super) async fn a_renewed_lease_lasts_and_a_lost_one_is_not_renewed(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Busy);
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    for stranger in [renew(2, lease.fence, HOUR), renew(1, lease.fence + 1, HOUR)] {
        assert_eq!(store.renew(&key, &stranger).await.unwrap(), RenewOutcome::Lost);
    }
    store.commit(&key, &commit(1, version)).await.unwrap();
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
}

pub(super) async fn a_late_sender_that_renews_is_in_flight_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (_, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    assert_eq!(read(store, &key).await.state, RecordState::Armed);
    let probe = Begin { quarantine: NONE, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &probe).await.unwrap()).0, Waiting::Busy);
}

pub(super) async fn a_rejected_version_is_refreshed_once_and_then_believed_for_a_while(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let usual = Begin { wanted: NONE, rejection_pause: HOUR, ..begin(1) };
    assert!(matches!(store.begin(&key, &usual).await.unwrap(), BeginOutcome::Fresh(_)));
    let rejected = Begin { rejected: Some(version), ..usual };
    let (lease, _) = granted(store.begin(&key, &rejected).await.unwrap());
    store.commit(&key, &Commit { forced: true, ..commit(1, lease.base) }).await.unwrap();
    let stale = store.begin(&key, &rejected).await.unwrap();
    let BeginOutcome::Fresh(snapshot) = stale else { panic!("{stale:?}") };
    assert_eq!(snapshot.version, version.next(), "a stale caller learns of the newer generation");
    let again = Begin { rejected: Some(version.next()), ..rejected };
    assert!(matches!(store.begin(&key, &again).await.unwrap(), BeginOutcome::Fresh(_)));
    let later = Begin { rejection_pause: NONE, ..again };
    granted(store.begin(&key, &later).await.unwrap());
}

pub(super) async fn within_its_grace_a_bank_is_asked_again_soon_and_after_it_as_any_other(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    assert_eq!(store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Recorded);
    let within = |pause| Begin { grace: Some(Grace { window: HOUR, pause }), ..begin(2) };
    let (why, wait) = waiting(store.begin(&key, &within(MINUTE)).await.unwrap());
    assert!(why == Waiting::Quarantine && wait <= MINUTE, "{why:?} {wait:?}");
    let over = Begin { grace: Some(Grace { window: NONE, pause: NONE }), ..begin(2) };
    assert!(waiting(store.begin(&key, &over).await.unwrap()).1 > MINUTE);
    let over = Begin { quarantine: NONE, ..over };
    assert_eq!(waiting(store.begin(&key, &over).await.unwrap()).0, Waiting::Hold, "the old access token lives");
    assert!(granted(store.begin(&key, &within(NONE)).await.unwrap()).0.probe);
}

pub(super) async fn a_probe_that_renews_its_lease_leaves_the_record_uncertain(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (_, lease) = probing(bench, &key).await;
    assert_eq!(store.renew(&key, &renew(2, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    assert_eq!(read(store, &key).await.state, RecordState::Uncertain);
}
