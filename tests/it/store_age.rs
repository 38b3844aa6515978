//! How far a store has come stands in it, and what it was like when it came back is not written over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use consentry::store::{ArmOutcome, Arrival, CommitOutcome, Occasion, Pace, RedisStore, Store as _, StoreAge};
use tokio::task::JoinHandle;

use crate::store_contract::{HOUR, arm, begin, commit, consent, end, granted, seeded};
use crate::support::redis::{RedisServer, until};

const PACE: Pace = Pace {
    beat: Duration::from_millis(50),
    look: Duration::from_millis(20),
    alive: Duration::from_millis(500),
    patience: Duration::from_secs(2),
    rest: Duration::from_millis(200),
    setback: Duration::from_secs(60),
};

/// A process that keeps a store company and writes down what it is told.
struct Process {
    store: RedisStore,
    heard: Arc<Mutex<Vec<Occasion>>>,
    task: JoinHandle<()>,
}

impl Process {
    fn start(server: &RedisServer, name: &'static str, known: u64) -> Self {
        let (store, heard) = (server.store(), Arc::<Mutex<Vec<Occasion>>>::default());
        let (member, told) = (store.clone(), Arc::clone(&heard));
        let task = tokio::spawn(async move {
            let attend = |occasion| {
                told.lock().unwrap().push(occasion);
                async { Ok(()) }
            };
            member.reunite(name, PACE, known, attend).await;
        });
        Self { store, heard, task }
    }

    fn met(&self) -> Vec<Arrival> {
        let heard = self.heard.lock().unwrap();
        let met = heard.iter().filter_map(|occasion| match occasion {
            Occasion::Met(arrivals) => Some(arrivals.clone()),
            Occasion::Beat { .. } => None,
        });
        met.flatten().collect()
    }

    fn beats(&self) -> Vec<(Option<StoreAge>, StoreAge)> {
        let heard = self.heard.lock().unwrap();
        let beats = heard.iter().filter_map(|occasion| match occasion {
            Occasion::Beat { before, after } => Some((before.age, *after)),
            Occasion::Met(_) => None,
        });
        beats.collect()
    }

    fn steps(&self) -> u64 {
        self.beats().last().map_or(0, |(_, after)| after.steps)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A refresh of a consent of its own: a grant, an intent and a token set.
async fn refresh(store: &RedisStore, attempt: u64) {
    let key = consent();
    let version = seeded(store, &key, 1).await;
    until("a lease is granted", async || store.begin(&key, &begin(attempt)).await.is_ok()).await;
    let (lease, _) = granted(store.begin(&key, &begin(attempt)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(attempt, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    let stored = store.commit(&key, &commit(attempt, version)).await.unwrap();
    assert!(matches!(stored, CommitOutcome::Stored { .. }));
}

#[tokio::test]
async fn a_new_store_says_that_it_is_new_and_counts_what_a_backup_would_lack() {
    let server = RedisServer::start().await;
    let one = Process::start(&server, "one", 0);
    until("it says that it lives", async || !one.beats().is_empty()).await;
    assert!(matches!(one.met().as_slice(), [Arrival { age: None, .. }]), "{:?}", one.met());
    assert_eq!(one.beats()[0].0, None);
    refresh(&one.store, 1).await;
    until("three steps are counted", async || one.steps() == 3).await;
    let key = consent();
    seeded(&one.store, &key, 1).await;
    one.store.end(&key, &end(None)).await.unwrap();
    until("so are a grant and an end", async || one.steps() == 5).await;
    // What changes nothing, or nothing that could be spent, is not.
    one.store.read(&key).await.unwrap();
    one.store.end(&consent(), &end(None)).await.unwrap();
    let other = Process::start(&server, "other", 0);
    until("others hear of them", async || other.beats().len() > 2).await;
    assert_eq!((one.steps(), other.steps()), (5, 5));
    assert_eq!(other.met()[0].age, None, "so it was when somebody first asked about this incarnation");
    refresh(&other.store, 2).await;
    until("steps of all are added", async || one.steps() == 8).await;
}

#[tokio::test]
async fn what_a_store_was_like_when_it_came_back_is_told_to_whoever_comes_later() {
    let mut server = RedisServer::start().await;
    let one = Process::start(&server, "one", 0);
    refresh(&one.store, 1).await;
    until("three steps are counted", async || one.steps() == 3).await;
    let backup = server.back_up();
    refresh(&one.store, 2).await;
    until("three more are counted", async || one.steps() == 6).await;
    let known = one.beats().last().unwrap().1;
    server.put_back(&backup).await;
    until("the server is met", async || one.met().len() == 2).await;
    let seen = one.beats().len();
    until("it was told that one lives", async || one.beats().len() > seen + 3).await;
    let late = Process::start(&server, "late", known.steps);
    until("the late one meets it", async || !late.met().is_empty()).await;
    let (came, told_late) = (one.met()[1].clone(), late.met()[0].clone());
    assert_eq!(came, told_late);
    let came = came.age.unwrap();
    assert_eq!(came.steps, 3);
    assert!(came.newest_beat < known.newest_beat);
    assert!(known.is_set_back_to(&came, Duration::ZERO));
    assert!(!known.is_set_back_to(&came, HOUR));
    assert_ne!(one.met()[0].incarnation, one.met()[1].incarnation);
    until("what is known is counted on from", async || one.steps() == 6).await;
}

#[tokio::test]
async fn what_somebody_knows_of_a_store_is_told_to_one_that_lost_its_count() {
    let server = RedisServer::start().await;
    let one = Process::start(&server, "one", 0);
    refresh(&one.store, 1).await;
    until("three steps are counted", async || one.steps() == 3).await;
    server.cli(&["FLUSHALL"]);
    until("it is told again", async || one.beats().iter().skip(1).any(|(before, _)| before.is_none())).await;
    until("nothing is lost of the count", async || one.steps() == 3).await;
    let knowing = Process::start(&server, "knowing", 1_000);
    until("the greatest count is taken", async || one.steps() == 1_000).await;
    refresh(&knowing.store, 2).await;
    until("and counted on from", async || one.steps() == 1_003).await;
}
