//! After a Redis came back no lease is granted before every process has told it what it may have forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use consentry::store::{BeginOutcome, Occasion, Pace, RedisStore, SeedOutcome, Store as _, StoreError};
use consentry::words::ids::TokenKey;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::store_contract::{begin, consent, seed};
use crate::support::redis::{RedisOptions, RedisServer};

const PACE: Pace = Pace {
    beat: Duration::from_millis(50),
    look: Duration::from_millis(20),
    alive: Duration::from_secs(20),
    patience: Duration::from_secs(4),
    rest: Duration::from_millis(200),
    setback: Duration::from_secs(60),
};

/// A process that tells the store what it remembers as soon as it may.
struct Process {
    store: RedisStore,
    told: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Process {
    fn start(server: &RedisServer, name: &'static str, may_tell: &Arc<AtomicBool>) -> Self {
        let (store, told) = (server.store(), Arc::<AtomicUsize>::default());
        let (teller, count, may_tell) = (store.clone(), Arc::clone(&told), Arc::clone(may_tell));
        let task = tokio::spawn(async move {
            let attend = |occasion| {
                let (count, may_tell) = (Arc::clone(&count), Arc::clone(&may_tell));
                async move {
                    if matches!(occasion, Occasion::Beat { .. }) {
                        return Ok(());
                    }
                    if !may_tell.load(Ordering::SeqCst) {
                        return Err(StoreError::Unavailable("the test says so".to_owned()));
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            };
            teller.reunite(name, PACE, 0, attend).await;
        });
        Self { store, told, task }
    }

    /// Waits until a lease is granted, or held up for the reason that `expected` says.
    async fn begins(&self, key: &TokenKey, attempt: u64, expected: Option<StoreError>) {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let outcome = self.store.begin(key, &begin(attempt)).await;
            match (&outcome, &expected) {
                (Ok(BeginOutcome::Granted(..)), None) => return,
                (Err(error), Some(expected)) if error == expected => return,
                _ => assert!(Instant::now() < deadline, "{outcome:?}, and not {expected:?}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn a_server_that_keeps_what_it_is_told() -> RedisServer {
    RedisServer::start_with(RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")).await
}

async fn seeded(store: &RedisStore) -> TokenKey {
    let key = consent();
    assert!(matches!(store.seed(&key, &seed(1)).await, Ok(SeedOutcome::Created(_))));
    key
}

#[tokio::test]
async fn a_restarted_server_grants_nothing_before_every_living_process_has_told_it() {
    let mut server = a_server_that_keeps_what_it_is_told().await;
    let (free, held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (one, other) = (Process::start(&server, "one", &free), Process::start(&server, "other", &held));
    let (first, second) = (seeded(&one.store).await, seeded(&one.store).await);
    one.begins(&first, 1, None).await;
    other.begins(&second, 2, None).await;
    let keys = [seeded(&one.store).await, seeded(&one.store).await];
    held.store(false, Ordering::SeqCst);
    server.stop();
    server.start_again().await;
    one.begins(&keys[0], 3, Some(StoreError::Reuniting)).await;
    while one.told.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(PACE.beat * 4).await;
    one.begins(&keys[0], 3, Some(StoreError::Reuniting)).await;
    held.store(true, Ordering::SeqCst);
    one.begins(&keys[0], 3, None).await;
    other.begins(&keys[1], 4, None).await;
    assert_eq!((one.told.load(Ordering::SeqCst), other.told.load(Ordering::SeqCst)), (2, 2), "each told it once");
}

#[tokio::test]
async fn a_process_that_is_gone_is_waited_for_no_longer_than_a_lease_and_a_quarantine() {
    let mut server = a_server_that_keeps_what_it_is_told().await;
    let free = Arc::new(AtomicBool::new(true));
    let one = Process::start(&server, "one", &free);
    let gone = Process::start(&server, "gone", &free);
    let (first, second, third) = (seeded(&one.store).await, seeded(&one.store).await, seeded(&one.store).await);
    one.begins(&first, 1, None).await;
    gone.begins(&second, 2, None).await;
    drop(gone);
    server.stop();
    let stopped = Instant::now();
    server.start_again().await;
    one.begins(&third, 3, Some(StoreError::Reuniting)).await;
    one.begins(&third, 3, None).await;
    assert!(stopped.elapsed() >= PACE.patience, "it was given its time");
}

#[tokio::test]
async fn a_new_process_does_not_hold_up_a_server_that_the_others_have_told() {
    let server = a_server_that_keeps_what_it_is_told().await;
    let free = Arc::new(AtomicBool::new(true));
    let one = Process::start(&server, "one", &free);
    let (first, second) = (seeded(&one.store).await, seeded(&one.store).await);
    one.begins(&first, 1, None).await;
    let late = Process::start(&server, "late", &free);
    late.begins(&second, 2, None).await;
    assert_eq!(late.told.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_lost_everything_is_given_a_moment_in_which_all_can_speak() {
    let mut server = RedisServer::start().await;
    let free = Arc::new(AtomicBool::new(true));
    let one = Process::start(&server, "one", &free);
    let first = seeded(&one.store).await;
    one.begins(&first, 1, None).await;
    server.stop();
    let stopped = Instant::now();
    server.start_again().await;
    let key = loop {
        let key = consent();
        if one.store.seed(&key, &seed(2)).await.is_ok() {
            break key;
        }
    };
    one.begins(&key, 2, None).await;
    assert!(stopped.elapsed() >= PACE.rest);
}
