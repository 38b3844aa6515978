//! The steps on a provider's record, as one suite that runs against every store, and random walks on which they agree.

use std::time::Duration;

use consentry::store::{
    BeginOutcome, Breaker, BreakerClass, EmbeddedStore, FailTo, Freeze, FreezeReason, Lesson, Limits, PermitAnswer,
    PermitAsk, RecordState, Refusal, Report, Reprieve, ReprieveOutcome, Seed, SeedOutcome, Store, Verdict, Wanted,
};
use consentry::words::clock::SystemClock;
use consentry::words::ids::{AttemptId, ClientKey, ConsentId, GrantId, ProviderId, TokenKey, Version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::store_contract::{HOUR, arm, begin, consent, fail, seed};
use crate::support::bench::{Bench, Embedded, Redis};
use crate::support::redis::RedisServer;

const LIFE: Duration = Duration::from_secs(30);

fn provider(name: &str) -> ProviderId {
    ProviderId::parse(name).unwrap()
}

fn permit(number: u64) -> AttemptId {
    AttemptId::new("replica/1", number)
}

fn key(number: u64) -> TokenKey {
    if number == 9 {
        return TokenKey::Client(ClientKey::new(provider("bank"), Some("audience"), None));
    }
    TokenKey::Consent(ConsentId::parse(&format!("c-{number}")).unwrap())
}

fn ask(numbers: &[u64], in_flight: u32, per_second: u32) -> PermitAsk {
    let wanted = numbers.iter().map(|n| Wanted { permit: permit(*n), key: key(*n) }).collect();
    PermitAsk { wanted, waiting: true, limits: Limits { in_flight, per_second }, life: LIFE }
}

fn report(number: u64, lesson: Lesson) -> Report {
    Report { permit: permit(number), key: key(number), lesson, spread: 999 }
}

fn refusal(fence: u64) -> Lesson {
    let version = Version::first(GrantId::parse(&"0a".repeat(16)).unwrap());
    Lesson::Refused(Refusal { version, fence, probe: false })
}

#[tokio::test]
async fn in_redis_a_provider_is_shared() {
    what_is_shared(&Redis::start().await).await;
}

#[tokio::test]
async fn in_a_file_a_provider_is_shared() {
    what_is_shared(&Embedded::start()).await;
}

/// Permits, the breaker, refusals, a freeze: each once, to its end.
async fn what_is_shared(bench: &impl Bench) {
    let (store, bank) = (bench.store(), provider("bank"));
    assert_eq!(store.standing(&bank).await.unwrap().breaker, Breaker::Closed);
    // Permits.
    assert_eq!(store.permits(&bank, &ask(&[1, 2, 3], 2, 20)).await.unwrap(), PermitAnswer::Granted(0..2));
    assert!(matches!(store.permits(&bank, &ask(&[3], 2, 20)).await.unwrap(), PermitAnswer::Full(_)));
    store.renew_permit(&bank, &permit(1), LIFE).await.unwrap();
    store.report(&bank, &report(1, Lesson::Unused)).await.unwrap();
    assert_eq!(store.permits(&bank, &ask(&[3], 2, 20)).await.unwrap(), PermitAnswer::Granted(0..1));
    assert_eq!(store.standing(&bank).await.unwrap().in_flight, 2);
    // A freeze, and that another provider knows nothing of it.
    let order = Freeze {
        reason: FreezeReason::OldBackup,
        by: "me, here".into(),
        why: Some("a | b".into()),
        age: Duration::ZERO,
        over: None,
    };
    store.freeze(&bank, Some(&order)).await.unwrap();
    match store.permits(&bank, &ask(&[4], 8, 20)).await.unwrap() {
        PermitAnswer::Frozen(frozen) => assert_eq!(Freeze { age: Duration::ZERO, ..frozen }, order),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.permits(&provider("other"), &ask(&[4], 8, 20)).await.unwrap(), PermitAnswer::Granted(0..1));
    assert!(store.freeze(&bank, None).await.unwrap().freeze.is_none());
    // Over one and the same thing it is frozen once, whoever thaws it.
    for (over, frozen) in [("a-b/1", true), ("a-b/1", false), ("a-b/2", true), ("a-b/2", false)] {
        let order = Freeze { over: Some(over.to_owned()), ..order.clone() };
        assert_eq!(store.freeze(&bank, Some(&order)).await.unwrap().freeze.is_some(), frozen, "{over}");
        store.freeze(&bank, None).await.unwrap();
    }
    // The breaker opens at the fifth failure.
    for n in 10..15 {
        assert_eq!(store.permits(&bank, &ask(&[n], 8, 20)).await.unwrap(), PermitAnswer::Granted(0..1), "{n}");
        store.report(&bank, &report(n, Lesson::Failed(BreakerClass::Misconfigured, "tls_refused"))).await.unwrap();
    }
    match store.permits(&bank, &ask(&[15], 8, 20)).await.unwrap() {
        PermitAnswer::Open(opened) => {
            assert_eq!((opened.class, opened.why.as_str()), (BreakerClass::Misconfigured, "tls_refused"));
        }
        other => panic!("{other:?}"),
    }
    bench.pass(Duration::from_secs(1)).await;
    assert!(matches!(store.standing(&bank).await.unwrap().breaker, Breaker::HalfOpen(_)));
    assert_eq!(store.permits(&bank, &ask(&[15, 16], 8, 20)).await.unwrap(), PermitAnswer::Granted(0..1));
    assert!(matches!(store.permits(&bank, &ask(&[16], 8, 20)).await.unwrap(), PermitAnswer::Open(_)));
    store.report(&bank, &report(15, Lesson::Succeeded)).await.unwrap();
    assert_eq!(store.standing(&bank).await.unwrap().breaker, Breaker::Closed);
    // Three that are refused together.
    for (n, verdict) in [(20, Verdict::Suspend), (21, Verdict::Suspend), (22, Verdict::Spare)] {
        let reported = store.report(&bank, &report(n, refusal(n))).await.unwrap();
        assert_eq!((reported.verdict, reported.pardoned.len()), (verdict, if n == 22 { 3 } else { 0 }));
    }
}

#[tokio::test]
async fn in_redis_a_suspension_is_taken_back_only_by_its_own_refusal() {
    what_is_taken_back(&Redis::start().await).await;
}

#[tokio::test]
async fn in_a_file_a_suspension_is_taken_back_only_by_its_own_refusal() {
    what_is_taken_back(&Embedded::start()).await;
}

async fn what_is_taken_back(bench: &impl Bench) {
    let store = bench.store();
    // The lease may have been told again after the refusal, and has a later fence then.
    for (uncertain, since) in [(false, 0), (true, 1)] {
        let key = consent();
        let first = seed(1);
        assert!(matches!(
            store.seed(&key, &Seed { remaining: Duration::ZERO, ..first }).await.unwrap(),
            SeedOutcome::Created(_)
        ));
        let BeginOutcome::Granted(lease, _) = store.begin(&key, &begin(1)).await.unwrap() else {
            panic!("not granted")
        };
        store.arm(&key, &arm(1, lease.fence, lease.base)).await.unwrap();
        store.fail(&key, &fail(1, lease.fence, lease.base, FailTo::ReauthorizationRequired)).await.unwrap();
        let attempt = begin(1).attempt;
        let right = Reprieve { version: lease.base, fence: lease.fence - since, attempt, uncertain };
        let wrong = [
            Reprieve { version: lease.base.next(), ..right.clone() },
            Reprieve { fence: lease.fence + 1, ..right.clone() },
            Reprieve { attempt: permit(99), ..right.clone() },
        ];
        for wrong in &wrong {
            assert_eq!(store.reprieve(&key, wrong).await.unwrap(), ReprieveOutcome::NotNeeded);
        }
        assert_eq!(store.reprieve(&key, &right).await.unwrap(), ReprieveOutcome::Reprieved);
        assert_eq!(store.reprieve(&key, &right).await.unwrap(), ReprieveOutcome::NotNeeded);
        let now = store.read(&key).await.unwrap().unwrap();
        let state = if uncertain { RecordState::Uncertain } else { RecordState::Active };
        assert_eq!((now.state, now.sends, now.why.as_deref()), (state, u32::from(uncertain), Some("refused_once")));
        assert!(now.refresh.is_some());
    }
    assert!(HOUR > LIFE);
}

#[tokio::test]
async fn in_redis_a_freeze_takes_no_others_place() {
    what_freezes_leave(&Redis::start().await).await;
}

#[tokio::test]
async fn in_a_file_a_freeze_takes_no_others_place() {
    what_freezes_leave(&Embedded::start()).await;
}

async fn what_freezes_leave(bench: &impl Bench) {
    let (store, bank) = (bench.store(), provider("bank"));
    let (operator, backup) = (FreezeReason::Operator, FreezeReason::OldBackup);
    let orders =
        [order(operator, "a", Some("migration")), order(backup, "b", Some("12 behind")), order(operator, "c", None)];
    let stands = [
        vec![(operator, "a", Some("migration"))],
        vec![(backup, "b", Some("12 behind")), (operator, "a", Some("migration"))],
        vec![(backup, "b", Some("12 behind")), (operator, "c", None)],
    ];
    for (order, stands) in orders.iter().zip(stands) {
        let ordered = store.freeze(&bank, Some(order)).await.unwrap();
        let read = store.standing(&bank).await.unwrap();
        for standing in [&ordered, &read] {
            let freezes = standing.freeze.iter().chain(&standing.frozen_besides);
            let told: Vec<_> = freezes.map(|it| (it.reason, it.by.as_str(), it.why.as_deref())).collect();
            assert_eq!(told, stands);
        }
        match store.permits(&bank, &ask(&[1], 8, 20)).await.unwrap() {
            PermitAnswer::Frozen(freeze) => assert_eq!((freeze.reason, freeze.by.as_str()), (stands[0].0, stands[0].1)),
            other => panic!("frozen: {other:?}"),
        }
    }
    let thawed = store.freeze(&bank, None).await.unwrap();
    assert_eq!((thawed.freeze, thawed.frozen_besides), (None, Vec::new()));
    assert_eq!(store.permits(&bank, &ask(&[1], 8, 20)).await.unwrap(), PermitAnswer::Granted(0..1));
}

fn order(reason: FreezeReason, by: &str, why: Option<&str>) -> Freeze {
    Freeze { reason, by: by.to_owned(), why: why.map(str::to_owned), age: Duration::ZERO, over: None }
}

#[derive(Clone, Debug)]
enum Step {
    Ask {
        from: u64,
        count: u64,
        waiting: bool,
        in_flight: u32,
    },
    Report {
        number: u64,
        what: u8,
    },
    Renew(u64),
    Freeze(Option<FreezeReason>),
    /// Over something that freezes a provider only once.
    FreezeOver(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..10_u64, 1..5_u64, any::<bool>(), 1..5_u32)
            .prop_map(|(from, count, waiting, in_flight)| Step::Ask { from, count, waiting, in_flight }),
        8 => (0..10_u64, 0..8_u8).prop_map(|(number, what)| Step::Report { number, what }),
        1 => (0..10_u64).prop_map(Step::Renew),
        1 => prop_oneof![
            6 => Just(None),
            1 => Just(Some(FreezeReason::Operator)),
            1 => Just(Some(FreezeReason::OldBackup)),
        ]
        .prop_map(Step::Freeze),
        1 => (0_u8..2).prop_map(Step::FreezeOver),
    ]
}

/// What was answered, without the milliseconds that two clocks differ by.
async fn run(step: &Step, store: &impl Store, bank: &ProviderId) -> String {
    let said = match step {
        Step::Ask { from, count, waiting, in_flight } => {
            let numbers: Vec<u64> = (*from..from + count).map(|n| n % 10).collect();
            let ask = PermitAsk { waiting: *waiting, ..ask(&numbers, *in_flight, 1_000) };
            match store.permits(bank, &ask).await.unwrap() {
                PermitAnswer::Granted(range) => format!("granted {range:?}"),
                PermitAnswer::Full(_) => "full".into(),
                PermitAnswer::Open(opened) => format!("open {:?} {}", opened.class, opened.why),
                PermitAnswer::Frozen(freeze) => format!("frozen {} {:?}", freeze.by, freeze.why),
            }
        }
        Step::Report { number, what } => {
            let lesson = match what {
                0 => Lesson::Unused,
                1 => Lesson::Neutral,
                2 => Lesson::Succeeded,
                3 | 4 => Lesson::Failed(BreakerClass::Unavailable, "server_error"),
                5 => Lesson::Held(HOUR),
                _ => refusal((*what).into()),
            };
            format!("{:?}", store.report(bank, &report(*number, lesson)).await.unwrap())
        }
        Step::Renew(number) => format!("{:?}", store.renew_permit(bank, &permit(*number), LIFE).await.unwrap()),
        Step::Freeze(reason) => {
            let order = reason.map(|reason| order(reason, "x", None));
            store.freeze(bank, order.as_ref()).await.unwrap();
            String::new()
        }
        Step::FreezeOver(over) => {
            let reason = FreezeReason::OldBackup;
            let order =
                Freeze { reason, by: "x".into(), why: None, age: Duration::ZERO, over: Some(format!("a-b/{over}")) };
            let standing = store.freeze(bank, Some(&order)).await.unwrap();
            // A walk that stays frozen shows nothing else.
            store.freeze(bank, None).await.unwrap();
            format!("{:?}", standing.freeze.map(|freeze| freeze.reason))
        }
    };
    let standing = store.standing(bank).await.unwrap();
    let breaker = match standing.breaker {
        Breaker::Closed => "closed".to_owned(),
        Breaker::Open(opened) | Breaker::HalfOpen(opened) => format!("{:?} {}", opened.class, opened.why),
    };
    let frozen: Vec<_> = standing.freeze.iter().chain(&standing.frozen_besides).map(|freeze| freeze.reason).collect();
    format!("{said}; {breaker}; {frozen:?}; {}; {:?}", standing.in_flight, standing.suspects)
}

#[test]
fn every_store_answers_the_same_on_any_walk_of_a_provider() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let home = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(&home.path().join("store.redb"), SystemClock).unwrap();
    let redis = server.store();
    let walk_number = std::cell::Cell::new(0_u32);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&proptest::collection::vec(step(), 1..40), |walk| {
        walk_number.set(walk_number.get() + 1);
        let bank = provider(&format!("bank-{}", walk_number.get()));
        for step in &walk {
            let (one, two) =
                runtime.block_on(async { (run(step, &redis, &bank).await, run(step, &embedded, &bank).await) });
            // Within a millisecond, two steps are at once in the quick one and one after the other in the slow one.
            std::thread::sleep(Duration::from_millis(2));
            prop_assert_eq!(one, two, "redis on the left, embedded on the right, after {:?}", step);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
