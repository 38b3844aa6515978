//! What every store keeps of a customer on the way to the bank and back.

use std::time::Duration;

use consentry::store::redis::{RedisSettings, RedisStore};
use consentry::store::{
    Attempt, AttemptStage, Attempts, Bind, BindOutcome, Claim, ClaimOutcome, ClaimTo, Open, Settle, SettleOutcome,
    StoreError,
};
use consentry::words::ids::{AttemptId, BrowserDigest, ConsentId, GrantId, ProviderId, StateDigest};
use consentry::words::token_set::Scope;
use tokio::time::Instant;

use crate::store_contract::{HOUR, sealed};
use crate::support::bench::Bench;
use crate::support::redis::{RedisOptions, RedisServer};

/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);

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

/// All of them at once.
pub(crate) async fn futures_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
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
