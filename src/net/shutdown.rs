//! The two stages in which the process ends.
//!
//! Soft: nothing new is taken on, what is under way may finish. Hard: what is still under way is dropped. Both are
//! levels, not events: whoever asks late still learns that the stage has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A handle on both stages. All clones belong to the same end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes when the soft stage has begun. Cancel safe.
    pub fn soft(&self) -> Begun<'_> {
        Begun { stage: &self.soft, waiting: self.soft.cancelled(), heard: false }
    }

    /// Completes when the hard stage has begun. Cancel safe.
    pub fn hard(&self) -> Begun<'_> {
        Begun { stage: &self.hard, waiting: self.hard.cancelled(), heard: false }
    }

    /// Begins the soft stage. Again is the same as once.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Begins the hard stage, and with it the soft one.
    pub fn force(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether the soft stage has begun.
    pub fn is_draining(&self) -> bool {
        self.soft.is_cancelled()
    }
}

pin_project! {
    /// Waits for a stage to begin. It has to stay with the task that polled it first: that one is woken. A connection
    /// polls this several times in every call, so that it only looks at the stage after the first time.
    #[derive(Debug)]
    pub struct Begun<'s> {
        stage: &'s CancellationToken,
        #[pin]
        waiting: WaitForCancellationFuture<'s>,
        heard: bool,
    }
}

impl Future for Begun<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if std::mem::replace(this.heard, true) && !this.stage.is_cancelled() {
            return Poll::Pending;
        }
        this.waiting.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_late_still_learns_it() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_draining());
        shutdown.begin();
        shutdown.clone().soft().await;
        assert!(shutdown.is_draining());
    }

    #[tokio::test]
    async fn whoever_has_looked_several_times_is_woken() {
        let shutdown = Shutdown::new();
        let ending = shutdown.clone();
        let waiting = tokio::spawn(async move {
            let mut begun = std::pin::pin!(ending.soft());
            for _ in 0..3 {
                let looked = std::future::poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx))).await;
                assert!(looked.is_pending());
            }
            begun.await;
        });
        tokio::task::yield_now().await;
        shutdown.begin();
        let woken = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
        woken.expect("it is woken").expect("no panic");
    }

    #[tokio::test]
    async fn the_hard_stage_includes_the_soft_one() {
        let shutdown = Shutdown::new();
        shutdown.clone().force();
        shutdown.soft().await;
        shutdown.hard().await;
    }
}
