//! How fast the protocol's time runs, and how wrong the calendar is: what tests turn, in builds with debug assertions.
//!
//! `CONSENTRY_TIME_SCALE` divides every constant of the refresh protocol, so that a quarantine takes seconds in a test
//! and their inequality holds all the same. `CONSENTRY_WALL_SHIFT` moves the calendar clock by so many milliseconds,
//! forwards or back. A release build knows neither.

use std::time::Duration;

/// A constant of the protocol at this process' pace.
#[cfg(debug_assertions)]
pub fn paced(constant: Duration) -> Duration {
    static SCALE: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        told("CONSENTRY_TIME_SCALE").filter(|scale| (1..=100).contains(scale)).unwrap_or(1)
    });
    constant / *SCALE
}

/// A constant of the protocol, as it is.
#[cfg(not(debug_assertions))]
pub const fn paced(constant: Duration) -> Duration {
    constant
}

/// A calendar time in milliseconds, as wrong as this process is told to have it.
#[cfg(debug_assertions)]
pub(super) fn shifted(wall: u64) -> u64 {
    static SHIFT: std::sync::LazyLock<i64> =
        std::sync::LazyLock::new(|| told("CONSENTRY_WALL_SHIFT").unwrap_or_default());
    wall.saturating_add_signed(*SHIFT)
}

/// A calendar time, as it is.
#[cfg(not(debug_assertions))]
pub(super) const fn shifted(wall: u64) -> u64 {
    wall
}

#[cfg(debug_assertions)]
fn told<N: std::str::FromStr>(variable: &str) -> Option<N> {
    std::env::var(variable).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_as_it_does_unless_somebody_says_otherwise() {
        assert_eq!(paced(Duration::from_secs(40)), Duration::from_secs(40));
        assert_eq!(shifted(1_760_000_000_000), 1_760_000_000_000);
    }
}
