//! Random walks through the steps, on which every store must agree.
//!
//! The decisions exist twice, in Rust and in Lua. Two stores take the same walk and must answer the same at every step.
//! Times are an hour or nothing, so that the milliseconds between the two do not matter.

use std::fmt::Write as _;
use std::time::Duration;

use consentry::store::{
    Attempts, Await, Begin, BeginOutcome, Commit, EmbeddedStore, End, Event, EventKind, FailTo, Grace, Holder,
    Reassert, RecordState, RedisStore, Resealed, Restore, Revive, Seed, Snapshot, Tell, Term,
};
use consentry::words::clock::{SystemClock, WallTime};
use consentry::words::ids::{Fence, GrantId, TokenKey, Version};
use consentry::words::said::Said;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::store_contract::{
    HOUR, arm, attempt, bank, begin, commit, consent, end, fail, fingerprint, renew, resealed, restore, revive, sealed,
    seed,
};
use crate::support::redis::RedisServer;

/// One step of a walk. Numbers choose among a few attempts, fences, versions and fingerprints. `None`, and a
/// version above the six that there may be, is the right one.
#[derive(Clone, Debug)]
enum Step {
    Begin { who: u64, wanted: bool, rejected: Option<u8>, pause: bool, lease: bool, quarantine: bool, hold: bool },
    Arm { who: Option<u64>, fence: Option<Fence>, base: u8, lease: bool, probe: bool },
    Renew { who: Option<u64>, fence: Option<Fence>, lease: bool },
    Commit { who: Option<u64>, base: u8, mark: u8, refresh: bool, forced: bool, life: bool },
    Fail { who: Option<u64>, fence: Option<Fence>, base: u8, to: u8 },
    Restore { who: u64, version: u8, mark: u8, granted: Option<bool> },
    Reassert { who: Option<u64>, fence: Option<Fence>, base: u8, lease: bool, held: bool },
    Seed { grant: bool, expected: Option<u8>, mark: u8, over: bool, age: Option<bool> },
    Await { grant: bool },
    Tell { who: u64 },
    Term { grant: bool, over: bool },
    End { grant: Option<bool>, remembered: Option<u8> },
    Revive { who: u64, expected: Option<u8>, replaced: Option<(u8, bool, u8)> },
}

#[test]
fn every_store_answers_the_same_on_any_walk() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let home = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(&home.path().join("store.redb"), SystemClock).unwrap();
    let redis = server.store();
    // Failures print the walk itself, shortened; a file of seeds would add nothing.
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let walks = proptest::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&walks, |walk| {
        runtime.block_on(take(&walk, &redis, &embedded));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

async fn take(walk: &[Step], redis: &RedisStore, embedded: &EmbeddedStore<SystemClock>) {
    let (key, grants) = (consent(), [GrantId::random(), GrantId::random()]);
    let mut right = Right { who: 1, fence: 1, version: Version::first(grants[0]) };
    for step in walk {
        let mut other = right;
        let one = run(step, redis, &key, grants, &mut right).await;
        let two = run(step, embedded, &key, grants, &mut other).await;
        assert_eq!(one, two, "redis on the left, embedded on the right, after {step:?}");
    }
}

/// Who was granted the last lease, with which fence, and what the record holds.
#[derive(Clone, Copy)]
struct Right {
    who: u64,
    fence: Fence,
    version: Version,
}

/// What the store answered and how it then stands, without times that differ by milliseconds.
async fn run(step: &Step, store: &impl Attempts, key: &TokenKey, grants: [GrantId; 2], right: &mut Right) -> String {
    let hour = |yes: bool| if yes { HOUR } else { Duration::ZERO };
    // Six versions: generations one to three of two grants.
    let Right { who: holder, fence: held, version: current } = *right;
    let version = |number: u8| match number {
        0..6 => Version { grant: grants[usize::from(number / 3)], generation: u64::from(number % 3) + 1 },
        _ => current,
    };
    let mut said = match step.clone() {
        Step::Begin { who, wanted, rejected, pause, lease, quarantine, hold } => {
            let begin = Begin {
                wanted: hour(wanted),
                rejected: rejected.map(version),
                rejection_pause: hour(pause),
                lease: hour(lease),
                quarantine: hour(quarantine),
                grace: (!hold).then_some(Grace { window: hour(pause), pause: hour(rejected.is_some()) }),
                ..begin(who)
            };
            match store.begin(key, &begin).await.unwrap() {
                BeginOutcome::Wait(why, wait, snapshot) => format!("{why:?} {} {}", near(wait), shown(&snapshot)),
                BeginOutcome::Granted(lease, snapshot) => {
                    (right.who, right.fence) = (who, lease.fence);
                    format!("{lease:?} {}", shown(&snapshot))
                }
                BeginOutcome::Refused(snapshot) => format!("refused {}", shown(&snapshot)),
                BeginOutcome::Fresh(snapshot) => format!("fresh {}", shown(&snapshot)),
                BeginOutcome::Unknown => "unknown".into(),
            }
        }
        Step::Arm { who, fence, base, lease, probe } => {
            let arm = consentry::store::Arm {
                lease: hour(lease),
                probe,
                ..arm(who.unwrap_or(holder), fence.unwrap_or(held), version(base))
            };
            format!("{:?}", store.arm(key, &arm).await.unwrap())
        }
        Step::Renew { who, fence, lease } => {
            format!(
                "{:?}",
                store.renew(key, &renew(who.unwrap_or(holder), fence.unwrap_or(held), hour(lease))).await.unwrap()
            )
        }
        Step::Commit { who, base, mark, refresh, forced, life } => {
            let commit = Commit {
                refresh: refresh.then(|| sealed(&format!("refresh {mark}"))),
                refresh_fingerprint: refresh.then(|| fingerprint(mark)),
                spent: forced.then(|| fingerprint(mark.wrapping_add(1) % 4)),
                remaining: hour(life),
                forced,
                since_intent: life.then(|| hour(refresh)),
                ..commit(who.unwrap_or(holder), version(base))
            };
            format!("{:?}", store.commit(key, &commit).await.unwrap())
        }
        Step::Fail { who, fence, base, to } => {
            let to = match to {
                0 => FailTo::Active { backoff: HOUR },
                1 => FailTo::Active { backoff: Duration::ZERO },
                2 => FailTo::Uncertain,
                3 => FailTo::ReauthorizationRequired,
                4 => FailTo::Alternate,
                _ => FailTo::Released,
            };
            format!(
                "{:?}",
                store.fail(key, &fail(who.unwrap_or(holder), fence.unwrap_or(held), version(base), to)).await.unwrap()
            )
        }
        Step::Restore { who, version: number, mark, granted } => {
            // Long ago, or a day from now.
            let granted_at = granted.map(|later| if later { u64::from(u32::MAX) * 1_000 } else { 1 });
            let restore = Restore {
                refresh_fingerprint: Some(fingerprint(mark)),
                granted_at: granted_at.map(WallTime::from_millis),
                ..restore(who, version(number))
            };
            format!("{:?}", store.restore(key, &restore).await.unwrap())
        }
        Step::Reassert { who, fence, base, lease, held: holds } => {
            let holder = holds.then(|| Holder {
                attempt: attempt(who.unwrap_or(holder)),
                fence: fence.unwrap_or(held),
                lease: hour(lease),
            });
            format!("{:?}", store.reassert(key, &Reassert { base: version(base), holder }).await.unwrap())
        }
        Step::Await { grant } => {
            let wait = Await { provider: bank(), grant: grants[usize::from(grant)], life: HOUR };
            format!("{:?}", store.await_grant(key, &wait).await.unwrap())
        }
        Step::Tell { who } => {
            let kind = if who == 1 { EventKind::NotGranted } else { EventKind::NotRevoked };
            let tell = Tell { kind, why: "server_error".into(), said: Said::default(), attempt: Some(attempt(who)) };
            format!("{:?}", store.tell(key, &tell).await.unwrap())
        }
        Step::Term { grant, over } => {
            let until = WallTime::from_millis(if over { 5 } else { 4_000_000_000_000 });
            format!("{:?}", store.term(key, &Term { grant: grants[usize::from(grant)], until }).await.unwrap())
        }
        Step::Seed { grant, expected, mark, over, age } => {
            let seed = Seed {
                grant: grants[usize::from(grant)],
                expected: expected.map(version),
                // Just given, or before everything else.
                age: age.map(|old| hour(old) * 24),
                consent_expires_at: over.then_some(WallTime::from_millis(5)),
                ..seed(mark)
            };
            format!("{:?}", store.seed(key, &seed).await.unwrap())
        }
        Step::End { grant, remembered } => {
            let grant = grant.map(|grant| grants[usize::from(grant)]);
            let remembered = remembered.map(|number| (bank(), version(number)));
            let state = if remembered.is_some() { RecordState::Revoked } else { RecordState::Denied };
            let end = End { state, remembered, ..end(grant) };
            format!("{:?}", store.end(key, &end).await.unwrap())
        }
        Step::Revive { who, expected, replaced } => {
            let replaced = replaced.map(|(from, grant, mark)| Resealed {
                grant: grants[usize::from(grant)],
                ..resealed(who, version(from), mark).replaced.unwrap()
            });
            let revive = Revive { expected: expected.map(version), replaced, ..revive(who) };
            format!("{:?}", store.revive(key, &revive).await.unwrap())
        }
    };
    for event in store.history(key).await.unwrap() {
        let until = event.until.map(|until| near(until.checked_since(event.at).unwrap_or_default()));
        let timeless = Event { at: WallTime::from_millis(0), until: None, ..event };
        write!(said, "\n  {} until {until:?}", timeless.without_time()).unwrap();
    }
    let snapshot = store.read(key).await.unwrap();
    right.version = snapshot.as_ref().map_or(right.version, |snapshot| snapshot.version);
    write!(said, " then {}", snapshot.as_ref().map_or("none".into(), shown)).unwrap();
    said
}

fn shown(snapshot: &Snapshot) -> String {
    let (remaining, backoff) = (near(snapshot.remaining), near(snapshot.backoff));
    let lease = near(snapshot.lease_left);
    let uncertain_for = snapshot.uncertain_for.map(|_| Duration::ZERO);
    let granted_at = snapshot.granted_at.map(|at| WallTime::from_millis(at.as_millis() / 100_000_000));
    let consent_remaining = snapshot.consent_remaining.map(|rest| if rest.is_zero() { rest } else { HOUR });
    let zero = Duration::ZERO;
    let timeless = Snapshot {
        remaining: zero,
        backoff: zero,
        lease_left: zero,
        uncertain_for,
        granted_at,
        consent_remaining,
        ..snapshot.clone()
    };
    format!("{timeless:?} remaining {remaining} backoff {backoff} lease {lease}")
}

/// Whether a time is an hour or nothing, give or take what a slow machine adds.
fn near(time: Duration) -> &'static str {
    if time > HOUR / 2 { "an hour" } else { "nothing" }
}

fn step() -> impl Strategy<Value = Step> {
    let (who, fence, version, mark) = (1..3_u64, 1..5_u64, 0..6_u8, 0..4_u8);
    let yes = any::<bool>;
    // Wrong in one case of ten, each; a walk where nothing fits goes nowhere.
    let a_who = proptest::option::weighted(0.1, who.clone());
    let a_fence = proptest::option::weighted(0.1, fence);
    let a_base = prop_oneof![1 => version.clone(), 9 => Just(6_u8)];
    let some_version = proptest::option::of(prop_oneof![1 => version.clone(), 2 => Just(6_u8)]);
    let (revived_version, version_from) = (some_version.clone(), version.clone());
    prop_oneof![
        6 => (who.clone(), yes(), some_version.clone(), yes(), yes(), yes(), yes()).prop_map(
            |(who, wanted, rejected, pause, lease, quarantine, hold)| Step::Begin {
                who, wanted, rejected, pause, lease, quarantine, hold
            }
        ),
        5 => (a_who.clone(), a_fence.clone(), a_base.clone(), yes(), yes())
            .prop_map(|(who, fence, base, lease, probe)| Step::Arm { who, fence, base, lease, probe }),
        2 => (a_who.clone(), a_fence.clone(), yes()).prop_map(|(who, fence, lease)| Step::Renew { who, fence, lease }),
        3 => (a_who.clone(), a_base.clone(), mark.clone(), yes(), yes(), yes()).prop_map(
            |(who, base, mark, refresh, forced, life)| Step::Commit { who, base, mark, refresh, forced, life }
        ),
        4 => (a_who.clone(), a_fence.clone(), a_base.clone(), 0..6_u8).prop_map(|(who, fence, base, to)| Step::Fail { who, fence, base, to }),
        1 => (who, version.clone(), mark.clone(), proptest::option::of(yes()))
            .prop_map(|(who, version, mark, granted)| Step::Restore { who, version, mark, granted }),
        3 => (a_who, a_fence, a_base, yes(), proptest::bool::weighted(0.8)).prop_map(
            |(who, fence, base, lease, held)| Step::Reassert { who, fence, base, lease, held }
        ),
        3 => (yes(), some_version, mark, proptest::bool::weighted(0.1), proptest::option::weighted(0.3, yes()))
            .prop_map(|(grant, expected, mark, over, age)| Step::Seed { grant, expected, mark, over, age }),
        2 => yes().prop_map(|grant| Step::Await { grant }),
        1 => (1..3_u64).prop_map(|who| Step::Tell { who }),
        1 => (yes(), proptest::bool::weighted(0.2)).prop_map(|(grant, over)| Step::Term { grant, over }),
        1 => (proptest::option::weighted(0.8, yes()), proptest::option::of(version))
            .prop_map(|(grant, remembered)| Step::End { grant, remembered }),
        2 => (3..9_u64, revived_version.clone(), proptest::option::of((version_from, yes(), 0..4_u8)))
            .prop_map(|(who, expected, replaced)| Step::Revive { who, expected, replaced }),
    ]
}
