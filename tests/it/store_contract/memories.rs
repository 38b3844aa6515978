//! What processes remember of a record that the store has forgotten, and what they are told of it.

use consentry::store::{
    ArmOutcome, Begin, Change, CommitOutcome, End, EndOutcome, FailTo, Reassert, ReassertOutcome, RecordState,
    RenewOutcome, Restore, RestoreOutcome, SeedOutcome, Store, Waiting,
};
use consentry::words::clock::WallTime;
use consentry::words::ids::{ClientKey, GrantId, TokenKey, Version};
use tokio::sync::mpsc;

use super::{
    A_WHILE, HOUR, MINUTE, arm, armed, attempt, bank, begin, commit, consent, end, fail, granted, next, read, reassert,
    renew, restore, sealed, seed, seeded, waiting,
};
use crate::support::bench::Bench;

pub(super) async fn a_restore_puts_back_what_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version { grant: GrantId::random(), generation: 5 };
    for _ in 0..2 {
        assert_eq!(store.restore(&key, &restore(1, version)).await.unwrap(), RestoreOutcome::Restored);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.version, snapshot.state), (version, RecordState::Active));
        assert_eq!(snapshot.refresh, Some(sealed("restored refresh")));
        assert_eq!(snapshot.bank_consent_id.as_deref(), Some("B-2"));
    }
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    let newer = version.next();
    assert_eq!(store.restore(&key, &restore(3, newer)).await.unwrap(), RestoreOutcome::Restored);
    assert_eq!(store.arm(&key, &arm(2, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let (next, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(next.fence > lease.fence && next.base == newer);
}

pub(super) async fn a_restore_changes_nothing_that_it_should_not(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let current = version;
    let foreign = Version { grant: GrantId::random(), generation: 9 };
    for needless in [restore(1, version), restore(1, foreign)] {
        assert_eq!(store.restore(&key, &needless).await.unwrap(), RestoreOutcome::NotNeeded { current });
    }
    assert_eq!(read(store, &key).await.access, Some(sealed("access 1")));
}

pub(super) async fn a_holder_has_back_the_lease_that_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let told = store.reassert(&key, &reassert(1, 7, version)).await.unwrap();
    assert_eq!(told, ReassertOutcome::Held(8));
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Busy);
    assert_eq!(store.reassert(&key, &reassert(1, 7, version)).await.unwrap(), ReassertOutcome::Held(8), "once");
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends), (RecordState::Armed, 1));
    assert_eq!(store.renew(&key, &renew(1, 8, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    let next = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), next);
}

pub(super) async fn a_holder_that_comes_back_too_late_is_counted_and_gets_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    let earlier = store.reassert(&key, &reassert(1, lease.fence + 3, version)).await.unwrap();
    let ReassertOutcome::Held(fence) = earlier else { panic!("a lease that is not armed gives way: {earlier:?}") };
    assert_eq!(store.arm(&key, &arm(2, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let late = store.reassert(&key, &reassert(3, fence, version)).await.unwrap();
    assert_eq!(late, ReassertOutcome::Noted);
    assert_eq!(store.reassert(&key, &reassert(3, fence, version)).await.unwrap(), ReassertOutcome::Noted);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.holder, snapshot.sends), (Some(attempt(1)), 2), "and is counted once");
}

pub(super) async fn a_token_that_may_have_been_spent_is_quarantined(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let doubt = Reassert { base: version, holder: None };
    assert_eq!(store.reassert(&key, &doubt).await.unwrap(), ReassertOutcome::Noted);
    assert_eq!(store.reassert(&key, &doubt).await.unwrap(), ReassertOutcome::Noted);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
}

pub(super) async fn a_reassertion_changes_nothing_that_moved_on(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    assert_eq!(store.reassert(&key, &reassert(1, 1, version)).await.unwrap(), ReassertOutcome::Missing);
    let (version, fence) = armed(bench, &key, HOUR).await;
    assert!(matches!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Stored { .. }));
    assert_eq!(store.reassert(&key, &reassert(1, fence, version)).await.unwrap(), ReassertOutcome::Moved);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::Ended);
    let ended = read(store, &key).await.version;
    assert_eq!(store.reassert(&key, &reassert(1, fence, ended)).await.unwrap(), ReassertOutcome::Moved);
    assert_eq!(read(store, &key).await.state, RecordState::Revoked);
}

pub(super) async fn a_restore_puts_back_a_later_grant_and_no_earlier_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(_) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let granted_at = read(store, &key).await.granted_at.unwrap();
    let later = Version::first(GrantId::random());
    let at = |time| Restore { granted_at: Some(time), ..restore(1, later) };
    let early = at(WallTime::from_millis(granted_at.as_millis() - 1));
    assert!(matches!(store.restore(&key, &early).await.unwrap(), RestoreOutcome::NotNeeded { .. }));
    let late = at(granted_at.plus(MINUTE));
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Restored);
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Restored, "a lost reply is repeated");
    assert_eq!(read(store, &key).await.version, later);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::Ended);
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Gone, "its own end is final");
    let other = Restore { version: Version::first(GrantId::random()), granted_at: Some(granted_at), ..late.clone() };
    assert_eq!(store.restore(&key, &other).await.unwrap(), RestoreOutcome::Gone, "it was granted before the end");
    let newer = Restore { granted_at: Some(granted_at.plus(HOUR)), ..other };
    assert_eq!(store.restore(&key, &newer).await.unwrap(), RestoreOutcome::Restored);
}

pub(super) async fn a_holder_that_tells_of_its_lease_again_prolongs_it(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, A_WHILE).await;
    assert_eq!(store.reassert(&key, &reassert(1, fence, version)).await.unwrap(), ReassertOutcome::Held(fence));
    bench.pass(A_WHILE).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Busy);
}

pub(super) async fn whatever_takes_a_record_out_of_its_holder_s_hands_has_a_fence_of_its_own(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (first, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.restore(&key, &restore(2, version.next())).await.unwrap();
    let (second, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(second.fence > first.fence + 1, "{second:?} after {first:?} and a restore");
    store.end(&key, &end(None)).await.unwrap();
    seeded(store, &key, 2).await;
    let (third, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
    assert!(third.fence > second.fence + 2, "{third:?} after {second:?}, an end and a seed");
}

pub(super) async fn a_remembered_tombstone_is_put_up_where_nothing_is_stored(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    let remembered = End { remembered: Some((bank(), version.next())), ..end(Some(version.grant)) };
    assert_eq!(store.end(&key, &remembered).await.unwrap(), EndOutcome::Ended);
    let tombstone = read(store, &key).await;
    assert_eq!((tombstone.state, tombstone.version), (RecordState::Revoked, version.next().next()));
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Gone);
    assert_eq!(store.restore(&key, &restore(1, version.next())).await.unwrap(), RestoreOutcome::Gone);
}

pub(super) async fn a_follower_hears_of_every_replaced_record(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (sender, mut changes) = mpsc::channel(16);
    let follow = store.follow(sender);
    let script = async {
        assert_eq!(next(&mut changes).await, Change::Connected);
        // News of another test's records may still be on its way between the nodes of a cluster.
        let mut told = async |version| loop {
            match next(&mut changes).await {
                Change::Moved { key: other, .. } if other != key => {}
                change => break assert_eq!(change, Change::Moved { key: key.clone(), version }),
            }
        };
        let version = seeded(store, &key, 1).await;
        told(version).await;
        let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
        store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
        store.commit(&key, &commit(1, version)).await.unwrap();
        told(version.next()).await;
        store.restore(&key, &restore(2, version.next().next())).await.unwrap();
        let version = version.next().next();
        told(version).await;
        let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
        store.fail(&key, &fail(3, lease.fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
        told(version).await;
        store.end(&key, &end(None)).await.unwrap();
        told(version.next()).await;
    };
    tokio::select! {
        () = follow => panic!("it stopped following"),
        () = script => {}
    }
}

pub(super) async fn a_follower_hears_nothing_of_a_record_that_holds_no_token_yet(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let audience = format!("https://api.example/{}", GrantId::random());
    let client = TokenKey::Client(ClientKey::new(bank(), Some(&audience), None));
    let (sender, mut changes) = mpsc::channel(16);
    let follow = store.follow(sender);
    let script = async {
        assert_eq!(next(&mut changes).await, Change::Connected);
        granted(store.begin(&client, &Begin { create: Some(GrantId::random()), ..begin(1) }).await.unwrap());
        let seeded = Change::Moved { key: key.clone(), version: seeded(store, &key, 1).await };
        loop {
            match next(&mut changes).await {
                Change::Moved { key, .. } if key == client => panic!("there is nothing to be had of it"),
                change if change == seeded => break,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = follow => panic!("it stopped following"),
        () = script => {}
    }
}
