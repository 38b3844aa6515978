//! One piece of work per token and process, as a task of its own.
//!
//! While a token is being fetched, whoever needs it waits for the same flight. The flight belongs to the process, not
//! to the request that started it: a caller that goes away cancels only its own waiting. A flight may *announce* its
//! outcome before it ends, because a new token can be used while its commit is still being repeated; until it ends, no
//! second flight for the same token takes off.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::error::TokenError;
use crate::simulation;
use crate::words::ids::{ProviderId, TokenKey, Version};

/// How a flight turned out: the cache holds the token, or there is none.
pub(super) type Outcome = Result<(), TokenError>;

/// The flights under way.
#[derive(Clone, Debug)]
pub(super) struct Flights {
    board: Arc<Mutex<HashMap<TokenKey, Boarded>>>,
    tasks: TaskTracker,
    /// Where flights run, whatever runtime their first caller is on: that one may end before they do.
    runtime: Option<Handle>,
    most: usize,
}

#[derive(Clone, Debug)]
struct Boarded {
    provider: ProviderId,
    outcome: watch::Receiver<Option<Outcome>>,
    news: Arc<News>,
}

/// What the store told about a record while its flight was under way.
#[derive(Debug, Default)]
struct News {
    nudge: Notify,
    moved_to: Mutex<Option<Version>>,
}

/// A waiter's end of a flight.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    outcome: watch::Receiver<Option<Outcome>>,
    /// Whether the outcome was known when the seat was taken, or is another provider's and says nothing here.
    late: bool,
}

/// The flying task's end: dropped when the flight ends, however it ends.
#[derive(Debug)]
pub(super) struct Cockpit {
    key: TokenKey,
    board: Arc<Mutex<HashMap<TokenKey, Boarded>>>,
    outcome: watch::Sender<Option<Outcome>>,
    news: Arc<News>,
}

/// Which end of a flight was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// The outcome was announced while waiting.
    Announced(Outcome),
    /// The flight had announced before, or was none of the caller's, and has ended since; things have moved on.
    Over,
}

impl Flights {
    /// At most `most` flights at a time, on the runtime this is called on.
    pub(super) fn new(most: usize) -> Self {
        Self { board: Arc::default(), tasks: TaskTracker::new(), runtime: Handle::try_current().ok(), most }
    }

    /// Takes a seat on the flight for `key`; if there is none, starts one with `work`, which asks as of `provider`.
    /// `None`: too many are under way.
    pub(super) fn board<F>(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        work: impl FnOnce(Cockpit) -> F,
    ) -> Option<Seat>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.board_among(self.most, key, provider, work)
    }

    /// [`Flights::board`] for work that must be done, however much is under way.
    pub(super) fn board_regardless<F>(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        work: impl FnOnce(Cockpit) -> F,
    ) -> Option<Seat>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.board_among(usize::MAX, key, provider, work)
    }

    fn board_among<F>(
        &self,
        most: usize,
        key: &TokenKey,
        provider: &ProviderId,
        work: impl FnOnce(Cockpit) -> F,
    ) -> Option<Seat>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut board = lock(&self.board);
        if let Some(boarded) = board.get(key) {
            let late = boarded.outcome.borrow().is_some() || boarded.provider != *provider;
            return Some(Seat { outcome: boarded.outcome.clone(), late });
        }
        if board.len() >= most {
            return None;
        }
        let (sender, outcome) = watch::channel(None);
        let news = Arc::<News>::default();
        let boarded = Boarded { provider: provider.clone(), outcome: outcome.clone(), news: Arc::clone(&news) };
        board.insert(key.clone(), boarded);
        drop(board);
        let cockpit = Cockpit { key: key.clone(), board: Arc::clone(&self.board), outcome: sender, news };
        self.detach(work(cockpit));
        Some(Seat { outcome, late: false })
    }

    /// Tells the flight for `key` that its record has moved, and whether there is one.
    pub(super) fn nudge(&self, key: &TokenKey, version: Version) -> bool {
        let board = lock(&self.board);
        let Some(boarded) = board.get(key) else { return false };
        *lock(&boarded.news.moved_to) = Some(version);
        boarded.news.nudge.notify_one();
        true
    }

    /// Runs work that must finish but that nobody waits for.
    pub(super) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = simulation::task(work);
        match &self.runtime {
            Some(runtime) => self.tasks.spawn_on(work, runtime),
            None => self.tasks.spawn(work),
        };
    }

    /// Runs work that may be cut off when the process ends.
    pub(super) fn detach_idle(work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(simulation::task(work));
    }

    /// Resolves once every flight has ended.
    pub(super) async fn all_landed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        lock(&self.board).len()
    }
}

impl Seat {
    /// Waits for the flight's outcome. A flight that had already announced one is waited for to its end, because that
    /// outcome is what the caller found wanting. A flight that ends without a word was cut short: `WaitTimeout`.
    pub(super) async fn landing(mut self) -> Landing {
        if self.late {
            while self.outcome.changed().await.is_ok() {}
            return Landing::Over;
        }
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => Landing::Announced(outcome.clone().unwrap_or(Err(TokenError::WaitTimeout))),
            Err(_) => Landing::Announced(Err(TokenError::WaitTimeout)),
        }
    }

    /// Whether the flight has announced an outcome and goes on working.
    pub(super) fn is_settling(&self) -> bool {
        self.outcome.borrow().is_some() && self.outcome.has_changed().is_ok()
    }
}

impl Cockpit {
    /// Tells those who wait. The first word counts.
    pub(super) fn announce(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(outcome);
            }
            first
        });
    }

    /// Resolves when the store tells that the record has moved.
    pub(super) async fn nudged(&self) {
        self.news.nudge.notified().await;
    }

    /// Leaves the board, so that news goes elsewhere from here on, and says what the last news was.
    pub(super) fn leave(self) -> Option<Version> {
        let news = Arc::clone(&self.news);
        drop(self);
        *lock(&news.moved_to)
    }

    /// Whether the store told, while this flight was under way, that the record holds something else than `version`.
    pub(super) fn is_overtaken(&self, version: Version) -> bool {
        lock(&self.news.moved_to).is_some_and(|moved_to| moved_to != version)
    }
}

impl Drop for Cockpit {
    fn drop(&mut self) {
        lock(&self.board).remove(&self.key);
    }
}

/// A panic in a holder of this lock leaves a map that is still whole: every change to it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::ConsentId;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key() -> TokenKey {
        TokenKey::Consent(ConsentId::parse("c-1").expect("valid"))
    }

    fn bank() -> ProviderId {
        ProviderId::parse("bank").expect("valid")
    }

    #[tokio::test]
    async fn a_thousand_callers_share_one_flight() {
        let flights = Flights::new(10);
        let started = Arc::new(AtomicUsize::new(0));
        let (open, gate) = watch::channel(false);
        let seats: Vec<_> = (0..1_000)
            .map(|_| {
                let (started, mut gate) = (Arc::clone(&started), gate.clone());
                flights.board(&key(), &bank(), |cockpit| async move {
                    started.fetch_add(1, Ordering::Relaxed);
                    gate.wait_for(|open| *open).await.expect("the test holds the sender");
                    cockpit.announce(Ok(()));
                })
            })
            .collect();
        open.send(true).expect("the flight holds a receiver");
        for seat in seats {
            assert_eq!(seat.expect("there is room").landing().await, Landing::Announced(Ok(())));
        }
        assert_eq!(started.load(Ordering::Relaxed), 1);
        flights.all_landed().await;
        assert_eq!(flights.under_way(), 0);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_end_the_flight() {
        let flights = Flights::new(10);
        let (open, mut gate) = watch::channel(false);
        let landed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&landed);
        let seat = flights.board(&key(), &bank(), |cockpit| async move {
            gate.wait_for(|open| *open).await.expect("the test holds the sender");
            counter.fetch_add(1, Ordering::Relaxed);
            cockpit.announce(Ok(()));
        });
        drop(seat);
        open.send(true).expect("the flight holds a receiver");
        flights.all_landed().await;
        assert_eq!(landed.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_flight_that_panics_frees_its_place_and_tells_those_who_wait() {
        let flights = Flights::new(10);
        let seat = flights.board(&key(), &bank(), |cockpit| async move {
            let _cockpit = cockpit;
            panic!("a defect");
        });
        let landing = seat.expect("there is room").landing().await;
        assert_eq!(landing, Landing::Announced(Err(TokenError::WaitTimeout)));
        flights.all_landed().await;
        assert_eq!(flights.under_way(), 0);
    }

    #[tokio::test]
    async fn whoever_boards_after_the_announcement_waits_for_the_end() {
        let flights = Flights::new(10);
        let (open, mut gate) = watch::channel(false);
        let early = flights.board(&key(), &bank(), |cockpit| async move {
            cockpit.announce(Ok(()));
            gate.wait_for(|open| *open).await.expect("the test holds the sender");
        });
        assert_eq!(early.expect("there is room").landing().await, Landing::Announced(Ok(())));
        let late = flights.board(&key(), &bank(), |_| async {}).expect("there is room");
        assert!(late.is_settling());
        open.send(true).expect("the flight holds a receiver");
        assert_eq!(late.landing().await, Landing::Over);
    }

    #[tokio::test]
    async fn there_are_never_more_flights_than_allowed() {
        let flights = Flights::new(1);
        let (_open, mut gate) = watch::channel(false);
        let first = flights.board(&key(), &bank(), |cockpit| async move {
            let _waiting = (gate.wait_for(|open| *open).await.is_ok(), cockpit);
        });
        assert!(first.is_some());
        let other = TokenKey::Consent(ConsentId::parse("c-2").expect("valid"));
        assert!(flights.board(&other, &bank(), |_| async {}).is_none());
    }
}
