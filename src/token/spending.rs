//! The refresh tokens that this process is spending at the moment.
//!
//! A store that came back from a failover may have forgotten an intent, and then somebody else could be granted the same
//! refresh token. So whoever spends one says so here, from the intent on until the store knows how it ended, and tells
//! the store again when it has to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{Holder, Reassert, ReassertOutcome, Store, StoreError};
use crate::words::ids::{AttemptId, Fence, TokenKey, Version};

/// Everything that is being spent. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spendings(Arc<Mutex<BTreeMap<AttemptId, Arc<Spending>>>>);

/// One refresh token on its way.
#[derive(Debug)]
pub(super) struct Spending {
    key: TokenKey,
    attempt: AttemptId,
    base: Version,
    /// The lock is held while the store is told, so that an intent is never told again after its end.
    stage: tokio::sync::Mutex<Stage>,
}

/// How far a spending is. The fence is the lease's, as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was written down yet.
    Leased(Fence),
    /// The intent was, perhaps.
    Armed(Fence),
    /// The store was told how it ended.
    Over,
}

/// What the store said to the end of a spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It took it, or never will.
    Yes,
    /// The lease is not the teller's.
    NotOurs,
    /// Nothing.
    No,
}

/// Takes a spending off the list when its flight ends, however it ends.
#[derive(Debug)]
pub(super) struct Spent {
    list: Spendings,
    pub(super) spending: Arc<Spending>,
}

impl Spendings {
    pub(super) fn begin(&self, key: &TokenKey, attempt: &AttemptId, base: Version, fence: Fence) -> Spent {
        let spending = Arc::new(Spending {
            key: key.clone(),
            attempt: attempt.clone(),
            base,
            stage: tokio::sync::Mutex::new(Stage::Leased(fence)),
        });
        self.lock().insert(attempt.clone(), Arc::clone(&spending));
        Spent { list: self.clone(), spending }
    }

    /// All of them, as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Spending>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Arc<Spending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.list.lock().remove(&self.spending.attempt);
    }
}

impl Spending {
    /// The fence for the next step; `None` once it is over.
    pub(super) async fn fence(&self) -> Option<Fence> {
        self.stage.lock().await.fence()
    }

    /// The intent is about to be written. The fence to write it with; `None` once it is over.
    pub(super) async fn arm(&self) -> Option<Fence> {
        let mut stage = self.stage.lock().await;
        if let Stage::Leased(fence) = *stage {
            *stage = Stage::Armed(fence);
        }
        stage.fence()
    }

    /// Runs `tell`, which says to the store how the spending with this fence ended. Once the store took it nothing is told
    /// of this intent again.
    pub(super) async fn end(&self, tell: impl AsyncFnOnce(Fence) -> Told) -> Told {
        let mut stage = self.stage.lock().await;
        let Some(fence) = stage.fence() else { return Told::Yes };
        let told = tell(fence).await;
        if told == Told::Yes {
            *stage = Stage::Over;
        }
        told
    }

    /// Tells the store of the intent once more. `Moved` also stands for a spending that has not begun or is over.
    pub(super) async fn reassert(&self, store: &impl Store, lease: Duration) -> Result<ReassertOutcome, StoreError> {
        let mut stage = self.stage.lock().await;
        let Stage::Armed(fence) = *stage else { return Ok(ReassertOutcome::Moved) };
        let holder = Some(Holder { attempt: self.attempt.clone(), fence, lease });
        let outcome = store.reassert(&self.key, &Reassert { base: self.base, holder }).await?;
        if let ReassertOutcome::Held(held) = outcome {
            *stage = Stage::Armed(held);
        }
        Ok(outcome)
    }
}

impl Stage {
    fn fence(self) -> Option<Fence> {
        match self {
            Self::Leased(fence) | Self::Armed(fence) => Some(fence),
            Self::Over => None,
        }
    }
}
