//! The two stages in which the process ends.
//!
//! Soft: nothing new is taken on, what is under way may finish. Hard: what is still under way is dropped. Both are
//! levels, not events: whoever asks late still learns that the stage has begun.

use tokio_util::sync::CancellationToken;

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
    pub async fn soft(&self) {
        self.soft.cancelled().await;
    }

    /// Completes when the hard stage has begun. Cancel safe.
    pub async fn hard(&self) {
        self.hard.cancelled().await;
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
    async fn the_hard_stage_includes_the_soft_one() {
        let shutdown = Shutdown::new();
        shutdown.clone().force();
        shutdown.soft().await;
        shutdown.hard().await;
    }
}
