//! How far a store has come, by which one that was put back from an old backup is told from one that went on.
//!
//! A store counts the steps that a copy of it from before would lack, and knows when a process last said that it lives.
//! Both stand in the store itself, so a backup brings back an old count and an old time.

use std::time::Duration;

use crate::words::clock::WallTime;

/// How far a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreAge {
    /// How many intents, token sets, new grants and ends of consents it has taken, at least.
    pub steps: u64,
    /// When a process last said that it lives, by the clock of the store that was told. Only to be compared with another
    /// of the same installation.
    pub newest_beat: WallTime,
}

impl StoreAge {
    /// Whether a store that was known to have come so far, and now has come no further than `came`, was put back from a
    /// backup: steps are missing, and so is every sign of life of longer than `setback`. A failover or a crash loses steps,
    /// too, but no more than those of the last seconds, however long the store was away.
    pub fn is_set_back_to(&self, came: &Self, setback: Duration) -> bool {
        let behind = self.newest_beat.checked_since(came.newest_beat);
        came.steps < self.steps && behind.is_some_and(|behind| behind > setback)
    }
}

/// A store's server as it came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which incarnation of which server: letters, digits and hyphens, 100 at most.
    pub incarnation: String,
    /// How far the store had come when some process first asked about this incarnation; nothing, where it knew of no
    /// process at all and so is new.
    pub age: Option<StoreAge>,
}

/// What a process is called upon for while it keeps a store company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It met incarnations that it has told nothing yet. It tells what it remembers, and is called again unless it
    /// succeeds.
    Met(Vec<Arrival>),
    /// It said that it lives.
    Beat {
        /// The store just before that, under the first of the servers' names.
        before: Arrival,
        /// And just after.
        after: StoreAge,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(steps: u64, newest_beat: u64) -> StoreAge {
        StoreAge { steps, newest_beat: WallTime::from_millis(newest_beat) }
    }

    #[test]
    fn a_store_was_set_back_where_it_lacks_both_steps_and_more_than_a_minute_of_beats() {
        let (known, setback) = (age(100, 1_000_000), Duration::from_secs(60));
        assert!(known.is_set_back_to(&age(99, 939_999), setback));
        assert!(known.is_set_back_to(&age(0, 0), setback));
        assert!(!known.is_set_back_to(&age(99, 940_000), setback), "a crash may lose the last seconds");
        assert!(!known.is_set_back_to(&age(100, 1), setback), "nothing was spent since");
        assert!(!known.is_set_back_to(&age(99, 2_000_000), setback), "others have used it since");
    }
}
