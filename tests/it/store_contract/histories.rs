//! What the history of a record tells of each step.

use consentry::store::{Arm, Begin, Commit, EventKind, Fail, FailOutcome, FailTo, MOST_EVENTS, Seed, Store};
use consentry::words::ids::{ClientKey, GrantId, TokenKey, Version};
use consentry::words::said::{BankRequestId, Said};

use super::{
    HOUR, NONE, SHORT, arm, armed, attempt, bank, begin, commit, consent, end, fail, granted, read, renew, restore,
    revive, seed, seeded,
};
use crate::support::bench::Bench;

pub(super) async fn a_history_tells_every_step_that_changed_something_once(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    assert_eq!(store.history(&key).await.unwrap(), []);
    let (version, fence) = armed(bench, &key, HOUR).await;
    let said = Said { status: Some(503), request_id: BankRequestId::parse(b"bank-1"), late: true };
    let unknown = Fail { why: "server_error", said: said.clone(), ..fail(1, fence, version, FailTo::Uncertain) };
    for _ in 0..2 {
        store.fail(&key, &unknown).await.unwrap();
    }
    let (lease, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    let probe = Arm { probe: true, ..arm(2, lease.fence, version) };
    for _ in 0..2 {
        store.arm(&key, &probe).await.unwrap();
    }
    let back = Fail { why: "rate_limited", ..fail(2, lease.fence, version, FailTo::Active { backoff: HOUR }) };
    store.fail(&key, &back).await.unwrap();
    for _ in 0..2 {
        store.commit(&key, &Commit { said: said.clone(), ..commit(1, version) }).await.unwrap();
    }
    let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
    store.arm(&key, &arm(3, lease.fence, version.next())).await.unwrap();
    let refused = Fail { why: "lost_reply", ..fail(3, lease.fence, version.next(), FailTo::ReauthorizationRequired) };
    store.fail(&key, &refused).await.unwrap();
    store.revive(&key, &revive(4)).await.unwrap();
    let next = Seed { expected: Some(version.next()), ..seed(2) };
    for _ in 0..2 {
        store.seed(&key, &next).await.unwrap();
    }
    for _ in 0..2 {
        store.end(&key, &end(None)).await.unwrap();
    }

    let history = store.history(&key).await.unwrap();
    let told = history.iter().map(|event| (event.kind, event.why.as_deref().unwrap_or("-"))).collect::<Vec<_>>();
    let expected = [
        (EventKind::Seeded, "-"),
        (EventKind::Armed, "-"),
        (EventKind::Uncertain, "server_error"),
        (EventKind::ProbeGranted, "-"),
        (EventKind::Armed, "probe"),
        (EventKind::Failed, "rate_limited"),
        (EventKind::Committed, "late"),
        (EventKind::Armed, "-"),
        (EventKind::Suspended, "lost_reply"),
        (EventKind::Revived, "-"),
        (EventKind::Replaced, "-"),
        (EventKind::Ended, "asked"),
    ];
    assert_eq!(told, expected);
    let (uncertain, failed, committed) = (&history[2], &history[5], &history[6]);
    assert_eq!((&uncertain.said, uncertain.attempt.as_ref()), (&said, Some(&attempt(1))));
    assert_eq!((uncertain.fence, uncertain.version, uncertain.until), (fence, version, None));
    let until = failed.until.unwrap().checked_since(failed.at).unwrap();
    assert_eq!((until, failed.said.clone()), (HOUR, Said::default()));
    assert_eq!((committed.version, &committed.said), (version.next(), &said));
    assert!(history.is_sorted_by_key(|event| event.at), "{history:?}");
    let now = read(store, &key).await.version;
    assert_eq!(history.last().unwrap().version, now);
}

pub(super) async fn a_history_tells_what_came_late(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    for _ in 0..2 {
        store.begin(&key, &begin(2)).await.unwrap();
    }
    store.renew(&key, &renew(1, fence, SHORT)).await.unwrap();
    bench.pass(SHORT).await;
    let (lease, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    for to in [FailTo::Released, FailTo::Active { backoff: HOUR }, FailTo::Uncertain] {
        assert_eq!(store.fail(&key, &fail(1, fence, version, to)).await.unwrap(), FailOutcome::Lost);
    }
    store.commit(&key, &commit(2, version)).await.unwrap();
    for _ in 0..2 {
        store.commit(&key, &commit(1, version)).await.unwrap();
    }
    let further = Version { generation: 7, ..version };
    store.restore(&key, &restore(5, further)).await.unwrap();
    store.commit(&key, &commit(1, version)).await.unwrap();
    store.commit(&key, &commit(6, Version { generation: 9, ..version })).await.unwrap();
    store.commit(&key, &commit(1, Version::first(GrantId::random()))).await.unwrap();
    store.end(&key, &end(None)).await.unwrap();
    store.commit(&key, &commit(1, version)).await.unwrap();

    let history = store.history(&key).await.unwrap();
    let told = history.iter().map(|event| (event.kind, event.why.as_deref().unwrap_or("-"))).collect::<Vec<_>>();
    let expected = [
        (EventKind::Seeded, "-"),
        (EventKind::Armed, "-"),
        (EventKind::HolderLost, "-"),
        (EventKind::Resumed, "-"),
        (EventKind::HolderLost, "-"),
        (EventKind::ProbeGranted, "-"),
        (EventKind::Overtaken, "refused"),
        (EventKind::Committed, "late"),
        (EventKind::Superseded, "kept_as_alt"),
        (EventKind::Restored, "behind"),
        (EventKind::Superseded, "older"),
        (EventKind::Committed, "rolled_back"),
        (EventKind::Superseded, "other_grant"),
        (EventKind::Ended, "asked"),
        (EventKind::Superseded, "ended"),
    ];
    assert_eq!(told, expected);
    let lost = &history[2];
    assert_eq!((lost.attempt.as_ref(), lost.fence), (Some(&attempt(1)), fence));
    let quarantine = lost.until.unwrap().checked_since(lost.at).unwrap();
    assert_eq!(quarantine, HOUR);
    assert_eq!((history[6].attempt.as_ref(), history[6].fence), (Some(&attempt(1)), lease.fence));
    let forgotten = consent();
    store.restore(&forgotten, &restore(1, version)).await.unwrap();
    assert_eq!(store.history(&forgotten).await.unwrap()[0].why.as_deref(), Some("forgotten"));
}

pub(super) async fn a_history_is_bounded_and_outlives_its_consent_as_long_as_the_tombstone(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    for number in 0..50 {
        let (lease, _) = granted(store.begin(&key, &begin(number)).await.unwrap());
        store.arm(&key, &arm(number, lease.fence, version)).await.unwrap();
        let back = FailTo::Active { backoff: NONE };
        store.fail(&key, &fail(number, lease.fence, version, back)).await.unwrap();
    }
    let history = store.history(&key).await.unwrap();
    assert_eq!(history.len(), MOST_EVENTS);
    assert_eq!(history.last().unwrap().attempt, Some(attempt(49)));
    store.end(&key, &end(None)).await.unwrap();
    assert_eq!(store.history(&key).await.unwrap().last().unwrap().kind, EventKind::Ended);
    store.seed(&key, &seed(2)).await.unwrap();
    let kinds = store.history(&key).await.unwrap().iter().rev().map(|event| event.kind).take(2).collect::<Vec<_>>();
    assert_eq!(kinds, [EventKind::Seeded, EventKind::Ended], "what was before is still told");
}

pub(super) async fn a_lease_given_back_and_a_client_token_leave_no_history(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.fail(&key, &fail(1, lease.fence, version, FailTo::Released)).await.unwrap();
    assert_eq!(store.history(&key).await.unwrap().len(), 1);
    let client = TokenKey::Client(ClientKey::new(bank(), Some("https://api.example/history"), None));
    let create = Begin { create: Some(GrantId::random()), ..begin(1) };
    let (lease, _) = granted(store.begin(&client, &create).await.unwrap());
    store.commit(&client, &commit(1, lease.base)).await.unwrap();
    assert_eq!(store.history(&client).await.unwrap(), []);
}
