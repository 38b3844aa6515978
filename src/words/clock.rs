//! Where time comes from.
//!
//! Two clocks, never mixed. [`BootInstant`] counts suspended time and cannot be set, so a token's life is measured on
//! it inside one process. [`WallTime`] is what a calendar says; it is used only for what must survive a restart or be
//! shown to a person. Both come in as arguments, from the [`Clock`] seam; the machine's clock is read here and nowhere
//! else.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::pace::shifted;

/// Gives the time. One of the program's three seams.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Milliseconds since the machine booted, suspended time included.
    fn boot(&self) -> BootInstant;
    /// Milliseconds since the Unix epoch by the machine's calendar clock, which may jump.
    fn wall(&self) -> WallTime;
}

/// A point in time of this machine since its boot, in milliseconds. Comparable only within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(u64);

impl BootInstant {
    /// `milliseconds` after boot.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This instant, `later` by so much.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }
}

/// A calendar time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// `milliseconds` after the Unix epoch.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; `None` if the clock jumped back behind it.
    pub const fn checked_since(self, earlier: Self) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
            None => None,
        }
    }

    /// This time, `later` by so much.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parsed = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match parsed {
            Some(timestamp) => write!(f, "{timestamp}"),
            None => f.write_str("beyond the calendar"),
        }
    }
}

/// A duration in whole milliseconds, capped at what 64 bits hold.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootInstant {
        // Linux counts suspended time in BOOTTIME only; elsewhere MONOTONIC already does.
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(id);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        BootInstant(seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's calendar clock is read")]
    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        WallTime(shifted(since.map_or(0, millis)))
    }
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Clone, Debug)]
pub struct ManualClock(std::sync::Arc<Mutex<(u64, u64)>>);

impl ManualClock {
    /// Starts one hour after boot, at the given calendar time.
    pub fn new(wall: WallTime) -> Self {
        Self(std::sync::Arc::new(Mutex::new((3_600_000, wall.0))))
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.with(|clocks| {
            clocks.0 = clocks.0.saturating_add(millis(by));
            clocks.1 = clocks.1.saturating_add(millis(by));
        });
    }

    /// Sets the calendar clock alone, as an administrator or NTP would.
    pub fn set_wall(&self, wall: WallTime) {
        self.with(|clocks| clocks.1 = wall.0);
    }

    fn with<T>(&self, change: impl FnOnce(&mut (u64, u64)) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootInstant {
        self.with(|clocks| BootInstant(clocks.0))
    }

    fn wall(&self) -> WallTime {
        self.with(|clocks| WallTime(clocks.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_clock_that_jumped_back_gives_no_age() {
        let noon = WallTime::from_millis(1_000);
        assert_eq!(WallTime::from_millis(999).checked_since(noon), None);
        assert_eq!(WallTime::from_millis(1_250).checked_since(noon), Some(Duration::from_millis(250)));
    }

    #[test]
    fn the_system_clock_moves_on() {
        let first = SystemClock.boot();
        while SystemClock.boot() == first {
            std::thread::yield_now();
        }
        assert!(SystemClock.boot() > first);
        assert!(SystemClock.wall() > WallTime::from_millis(1_700_000_000_000));
    }

    #[test]
    fn wall_time_is_shown_as_rfc_3339() {
        assert_eq!(WallTime::from_millis(1_763_773_200_000).to_string(), "2025-11-22T01:00:00Z");
    }
}
