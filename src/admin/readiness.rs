//! Whether the program has started, as a type.
//!
//! Whatever must have happened before is a [`Latch`] in the hands of whoever makes it happen. Releasing it cannot be
//! undone: a store or a bank that goes away later takes no app out of service.

use std::sync::{Arc, Mutex, PoisonError};

/// What is still to happen before the program is ready. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Vec<&'static str>>>);

/// One thing that has to happen. Dropped without [`Latch::release`] it never has, and the program never is ready.
#[derive(Debug)]
#[must_use = "the program is not ready before every latch is released"]
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Waits for all of `names`, such as `["bound", "store reached"]`, each of which is told to whoever asks what is
    /// missing. The latches come in the same order.
    pub fn new<const N: usize>(names: [&'static str; N]) -> (Self, [Latch; N]) {
        let readiness = Self(Arc::new(Mutex::new(names.to_vec())));
        let latches = names.map(|name| Latch { readiness: readiness.clone(), name });
        (readiness, latches)
    }

    /// Whether everything has happened.
    pub fn is_ready(&self) -> bool {
        self.with(|missing| missing.is_empty())
    }

    /// What has not happened yet.
    pub fn missing(&self) -> Vec<&'static str> {
        self.with(|missing| missing.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        // Nothing panics while it is held, and half a change cannot be seen.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Latch {
    /// It has happened.
    pub fn release(self) {
        self.readiness.with(|missing| {
            if let Some(at) = missing.iter().position(|name| *name == self.name) {
                missing.swap_remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_latch_is_released_and_none_is_merely_dropped() {
        let (readiness, [bound, store]) = Readiness::new(["bound", "store reached"]);
        assert!(!readiness.is_ready());
        store.release();
        assert_eq!(readiness.missing(), ["bound"]);
        drop(bound);
        assert!(!readiness.is_ready());

        let (readiness, latches) = Readiness::new(["twice", "twice"]);
        let [first, second] = latches;
        first.release();
        assert!(!readiness.is_ready());
        second.release();
        assert!(readiness.clone().is_ready());
    }
}
