//! Tells an idle connection from a request whose head comes too slowly.
//!
//! hyper has one time for both: from when it could read a head until it has one. An app may keep a connection for
//! minutes without a word; a head that has begun and takes as long is an attack. So hyper is given the time that a
//! connection may be idle, and a timer of ours that comes sooner once the first bytes are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::{Instant as Now, sleep_until};

/// Whether anything came in since it was last forgotten. Shared by a connection and its timer.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl Heard {
    /// Something came in.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection's timer. A wait for a head ends at the deadline that hyper asks for, or `limit` after the first bytes,
/// whichever is sooner.
#[derive(Debug)]
pub(super) struct HeadTimer {
    limit: Duration,
    heard: Heard,
    alarm: Arc<Mutex<Option<Alarm>>>,
}

/// What wakes the task of a connection, for all its waits in turn: to set a timer for each of them would cost more than to
/// be woken once too often and to look at the clock.
#[derive(Debug)]
struct Alarm {
    timer: Pin<Box<tokio::time::Sleep>>,
    wakes: Waker,
}

impl HeadTimer {
    /// A head may take `limit` once it has begun.
    pub(super) fn new(limit: Duration, heard: Heard) -> Self {
        Self { limit, heard, alarm: Arc::default() }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.heard.forget();
        let alarm = Arc::clone(&self.alarm);
        Box::pin(Waiting { deadline: deadline.into(), limit: Some(self.limit), heard: self.heard.clone(), alarm })
    }

    fn now(&self) -> Instant {
        Now::now().into_std()
    }
}

/// A wait for a head.
struct Waiting {
    deadline: Now,
    /// How long the head may take once it has begun; `None` when it has.
    limit: Option<Duration>,
    heard: Heard,
    alarm: Arc<Mutex<Option<Alarm>>>,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.get_mut();
        if waiting.heard.is_noted()
            && let Some(limit) = waiting.limit.take()
        {
            waiting.deadline = waiting.deadline.min(Now::now() + limit);
        }
        let deadline = waiting.deadline;
        let mut alarm = waiting.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let Alarm { timer, wakes } =
            alarm.get_or_insert_with(|| Alarm { timer: Box::pin(sleep_until(deadline)), wakes: Waker::noop().clone() });
        if timer.deadline() <= deadline && !timer.is_elapsed() && wakes.will_wake(cx.waker()) {
            return Poll::Pending;
        }
        if timer.deadline() > deadline || timer.is_elapsed() {
            if timer.is_elapsed() && timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        wakes.clone_from(cx.waker());
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(100);
    const HEAD: Duration = Duration::from_secs(10);

    async fn waited(sleep: Pin<Box<dyn Sleep>>) -> Duration {
        let from = Now::now();
        sleep.await;
        from.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_may_be_idle_and_one_that_begins_a_head_may_not() {
        let heard = Heard::default();
        let timer = HeadTimer::new(HEAD, heard.clone());
        heard.note();
        let silent = timer.sleep(IDLE);
        assert_eq!(waited(silent).await.as_secs(), 100, "what came before does not count");
        let begun = timer.sleep(IDLE);
        heard.note();
        assert_eq!(waited(begun).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_as_long_as_it_is_whatever_the_alarm_was_set_for_before() {
        let heard = Heard::default();
        let timer = HeadTimer::new(HEAD, heard.clone());
        // The alarm is left set for sooner than the next wait ends, and for later.
        for (before, wait) in [(Duration::from_secs(3), IDLE), (IDLE, Duration::from_secs(3))] {
            let mut left = timer.sleep(before);
            assert!(tokio::time::timeout(Duration::from_secs(1), &mut left).await.is_err());
            drop(left);
            assert_eq!(waited(timer.sleep(wait)).await.as_secs(), wait.as_secs());
        }
        // And for a task that is not the one that waits.
        let mut asked = timer.sleep(IDLE);
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(waited(asked).await.as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_goes_on_coming_gets_no_more_time() {
        let heard = Heard::default();
        let timer = HeadTimer::new(HEAD, heard.clone());
        let mut sleep = timer.sleep(IDLE);
        let from = Now::now();
        loop {
            heard.note();
            if tokio::time::timeout(Duration::from_secs(3), &mut sleep).await.is_ok() {
                break;
            }
        }
        assert_eq!(from.elapsed().as_secs(), 10);
    }
}
