//! The embedded store's clock.
//!
//! Within one process it is the calendar as it was at the opening, moved on by the clock that counts suspended time and
//! that nobody can set. Across a restart only the calendar is left. If it has jumped back behind the last writing, the
//! records are shifted with it (see [`super::file`]).

use crate::words::clock::{BootInstant, Clock, WallTime, millis};

#[derive(Debug)]
pub(super) struct StoreTime<C> {
    clock: C,
    opened_boot: BootInstant,
    opened_wall: WallTime,
}

impl<C: Clock> StoreTime<C> {
    pub(super) fn starting(clock: C) -> Self {
        Self { opened_boot: clock.boot(), opened_wall: clock.wall(), clock }
    }

    /// Milliseconds since the Unix epoch, as this process has counted them.
    pub(super) fn now(&self) -> u64 {
        self.opened_wall.as_millis().saturating_add(millis(self.clock.boot().since(self.opened_boot)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::clock::ManualClock;

    #[test]
    fn setting_the_calendar_does_not_move_it() {
        let clock = ManualClock::new(WallTime::from_millis(1_000_000));
        let time = StoreTime::starting(clock.clone());
        clock.set_wall(WallTime::from_millis(5));
        clock.advance(Duration::from_secs(2));
        assert_eq!(time.now(), 1_002_000);
    }
}
