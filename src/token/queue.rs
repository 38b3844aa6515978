//! Who of this process asks the store next for leave to send to a provider.
//!
//! A herd that asks all at once would cost the store more than it gains, so those who found no room stand in a line of
//! their own: only the first asks, and the others move up. Nearest expiry comes first. Whoever has a token that still
//! serves does not stand here at all. The line is as long as there are flights, which are bounded.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::words::clock::BootInstant;

/// The line of one provider.
#[derive(Debug)]
pub(super) struct Queue {
    line: Mutex<Line>,
    moved: Notify,
    length: Gauge,
}

#[derive(Debug, Default)]
struct Line {
    places: BTreeSet<Place>,
    next: u64,
}

/// When the token at hand ends, and who came first.
type Place = (BootInstant, u64);

/// A place in the line, given up when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    queue: Arc<Queue>,
    place: Place,
}

impl Queue {
    /// An empty line. Its length is told to `length`.
    pub(super) fn new(length: Gauge) -> Arc<Self> {
        Arc::new(Self { line: Mutex::default(), moved: Notify::new(), length })
    }

    /// Joins the line, for a token that ends at this time.
    pub(super) fn join(self: &Arc<Self>, expires_at: BootInstant) -> Turn {
        let mut line = self.lock();
        let place = (expires_at, line.next);
        line.next += 1;
        line.places.insert(place);
        self.length.inc();
        Turn { queue: Arc::clone(self), place }
    }

    /// Whether nobody stands here.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().places.is_empty()
    }

    /// A panic in a holder of this lock leaves a set that is still whole: every change to it is one call.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Resolves when nobody stands before this place. Somebody more pressed may come before it later.
    pub(super) async fn come(&self) {
        loop {
            let moved = self.queue.moved.notified();
            tokio::pin!(moved);
            // Listens before it looks, so that no move is missed.
            moved.as_mut().enable();
            if self.queue.lock().places.first() == Some(&self.place) {
                return;
            }
            moved.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.lock().places.remove(&self.place);
        self.queue.length.dec();
        self.queue.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_token_that_ends_first_comes_first_and_among_equals_whoever_came_first() {
        let (length, at) = (Gauge::default(), BootInstant::from_millis);
        let queue = Queue::new(length.clone());
        let (late, early, also) = (queue.join(at(2_000)), queue.join(at(1_000)), queue.join(at(1_000)));
        assert_eq!(length.get(), 3);
        for (turn, rest) in [(&early, [&late, &also]), (&early, [&also, &late])] {
            assert!(timeout(SOON, turn.come()).await.is_ok());
            for other in rest {
                assert!(timeout(SOON, other.come()).await.is_err());
            }
        }
        let waiting = tokio::spawn(async move {
            also.come().await;
            also
        });
        tokio::task::yield_now().await;
        drop(early);
        let also = timeout(Duration::from_secs(5), waiting).await.expect("it moves up").expect("no panic");
        assert!(timeout(SOON, late.come()).await.is_err());
        drop(also);
        assert!(timeout(SOON, late.come()).await.is_ok());
        drop(late);
        assert!(queue.is_empty());
        assert_eq!(length.get(), 0);
    }
}
