//! The streams of an HTTP/2 connection: each a task that is tracked and counted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::shutdown::Shutdown;

/// Runs the streams of an HTTP/2 connection as tracked tasks that the hard shutdown ends.
#[derive(Clone)]
pub(super) struct Streams {
    tracker: TaskTracker,
    shutdown: Shutdown,
    count: Arc<StreamCount>,
}

impl Streams {
    /// Of a connection that has none yet.
    pub(super) fn new(tracker: TaskTracker, shutdown: Shutdown) -> Self {
        Self { tracker, shutdown, count: Arc::default() }
    }

    /// How many there are and were.
    pub(super) fn count(&self) -> Arc<StreamCount> {
        Arc::clone(&self.count)
    }
}

/// The streams of one connection. HTTP/2 has no idle timeout of its own.
#[derive(Debug, Default)]
pub(super) struct StreamCount {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl StreamCount {
    /// Returns when there was no stream for so long, or for up to twice as long.
    pub(super) async fn stand_still(&self, limit: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            if self.begun.load(Ordering::Relaxed) == begun && self.ended.load(Ordering::Acquire) == begun {
                return;
            }
        }
    }
}

/// A stream that counts until it is dropped.
struct Begun(Arc<StreamCount>);

impl Begun {
    fn new(count: &Arc<StreamCount>) -> Self {
        count.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let shutdown = self.shutdown.clone();
        let begun = Begun::new(&self.count);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.hard() => {}
                _ = stream => {}
            }
            drop(begun);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_connection_stands_still_when_no_stream_began_or_was_open_for_the_time() {
        const LIMIT: Duration = Duration::from_secs(10);
        let count = Arc::new(StreamCount::default());
        let from = Instant::now();
        let open = Begun::new(&count);
        assert!(tokio::time::timeout(LIMIT * 5, count.stand_still(LIMIT)).await.is_err(), "one is open");
        drop(open);
        count.stand_still(LIMIT).await;
        assert_eq!(from.elapsed(), LIMIT * 6);
    }
}
