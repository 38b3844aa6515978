//! The constants of the refresh protocol, in one table, and the inequality they must satisfy.
//!
//! A bank cannot check a fence, so safety against a slow or vanished holder rests on time: nobody else may send before
//! every request the holder could still send has died. [`Timing::check`] says so in numbers and runs at start.

use std::time::Duration;

use crate::oauth::UNACKNOWLEDGED;
use crate::store::Pace;
use crate::words::ids::random;
use crate::words::pace::paced;

/// How long each step of a refresh may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A granted lease, before the intent is written. Covers connecting to the bank.
    pub lease: Duration,
    /// The lease once the intent is written; renewed for as long as the bank thinks.
    pub armed_lease: Duration,
    /// How often a lease is renewed.
    pub renewal: Duration,
    /// From the last sign of a holder that may have sent, until somebody else may probe.
    pub quarantine: Duration,
    /// What clocks may disagree by, and a process may stall for, between the guard and the first byte.
    pub margin: Duration,
    /// How long connecting to a token endpoint may take.
    pub connect: Duration,
    /// How long a token request may take before it is given up as unknown. Nothing shorter hangs up on a bank.
    pub send: Duration,
    /// How long rejections of a token are not believed when that token came from a refresh a rejection had forced.
    pub rejection_pause: Duration,
    /// How long a request with a token at hand waits for the store to confirm it while changes do not arrive.
    pub verification: Duration,
    /// How long a store that failed is taken to be away without asking again, by requests that have a token at hand.
    pub store_pause: Duration,
    /// How long a spill stays after the outcome of its commit was known.
    pub spill_keep: Duration,
    /// How long a process that could not reach the store, or has just started, leaves probes to others: whoever has an
    /// answer to commit gets there first.
    pub reunion: Duration,
}

impl Timing {
    /// The values the program runs with.
    pub const STANDARD: Self = Self {
        lease: Duration::from_secs(6),
        armed_lease: Duration::from_secs(20),
        renewal: Duration::from_secs(2),
        quarantine: Duration::from_secs(40),
        margin: Duration::from_millis(500),
        connect: Duration::from_secs(3),
        send: Duration::from_secs(120),
        rejection_pause: Duration::from_secs(60),
        verification: Duration::from_secs(1),
        store_pause: Duration::from_millis(250),
        spill_keep: Duration::from_secs(10),
        reunion: Duration::from_secs(10),
    };

    /// How a store that came back is told what it may have forgotten.
    pub fn pace(&self) -> Pace {
        Pace {
            beat: self.renewal,
            look: Duration::from_millis(100).min(self.renewal / 10),
            alive: self.renewal * 8,
            patience: self.armed_lease + self.quarantine,
            rest: self.renewal * 3,
            setback: self.armed_lease * 3,
        }
    }

    /// Within a bank's grace of so long, how long after an unknown outcome nobody sends.
    pub fn grace_pause(&self, window: Duration) -> Duration {
        Duration::from_secs(5).min(window / 4).min(self.quarantine)
    }

    /// [`Timing::STANDARD`], at the pace of a test in a build that has one. How long a request waits for the store stays:
    /// that is about the machine and not about the protocol.
    pub fn at_pace() -> Self {
        let Self {
            lease,
            armed_lease,
            renewal,
            quarantine,
            margin,
            connect,
            send,
            rejection_pause,
            verification,
            store_pause,
            spill_keep,
            reunion,
        } = Self::STANDARD;
        Self {
            lease: paced(lease),
            armed_lease: paced(armed_lease),
            renewal: paced(renewal),
            quarantine: paced(quarantine),
            margin: paced(margin),
            connect: paced(connect),
            send: paced(send),
            rejection_pause: paced(rejection_pause),
            verification,
            store_pause,
            spill_keep: paced(spill_keep),
            reunion: paced(reunion),
        }
    }

    /// Checks that a lease outlasts what happens under it, and that the quarantine outlasts the longest stall the
    /// protocol is meant to survive.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.connect + 2 * self.margin >= self.lease {
            return Err("a lease must outlast connecting to the bank, with a margin on both sides");
        }
        if self.renewal * 3 > self.lease || self.renewal * 3 > self.armed_lease {
            return Err("a lease must survive two lost renewals");
        }
        if self.quarantine < self.armed_lease + 2 * self.margin {
            return Err("the quarantine must outlast an armed lease, with a margin on both sides");
        }
        if self.quarantine < paced(UNACKNOWLEDGED) + 2 * self.margin {
            return Err(
                "the quarantine must outlast a request that lingers in the kernel, with a margin on both sides",
            );
        }
        Ok(())
    }
}

/// Below this much remaining life a token is not sent any more: five seconds, or a tenth of its life if that is less.
pub fn min_ttl(life: Duration) -> Duration {
    Duration::from_secs(5).min(life / 10)
}

/// Below this much remaining life a token in use is replaced in the background. `spread` (0 to 999) shifts it by up to a
/// fifth either way, so that replicas do not start together.
pub fn soft_window(life: Duration, spread: u16) -> Duration {
    let tenth = (life / 10).clamp(Duration::from_secs(15), Duration::from_secs(300));
    tenth.min(life / 3) * (800 + u32::from(spread.min(999)) * 400 / 999) / 1_000
}

/// How long to wait after `failures` failures in a row: 1 s doubled up to 60 s, between half and all of it by `spread`
/// (0 to 999).
pub fn backoff(failures: u32, spread: u16) -> Duration {
    let full = Duration::from_secs(1).saturating_mul(1 << failures.min(6)).min(Duration::from_secs(60));
    full * (500 + u32::from(spread.min(999)) * 500 / 999) / 1_000
}

/// Between half and all of `pause`, at random.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause * (500 + u32::from(spread()) / 2) / 1_000
}

/// 0 to 999, at random.
pub(super) fn spread() -> u16 {
    let bytes = random();
    u16::from_le_bytes([bytes[0], bytes[1]]) % 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_values_satisfy_their_own_inequality() {
        assert_eq!(Timing::STANDARD.check(), Ok(()));
    }

    #[test]
    fn each_inequality_holds_up_to_its_border_and_not_beyond() {
        let (standard, bit) = (Timing::STANDARD, Duration::from_millis(1));
        let connect = standard.lease.saturating_sub(2 * standard.margin);
        let renewal = standard.lease / 3;
        let armed_renewal = standard.armed_lease / 3;
        let armed_lease = standard.quarantine.saturating_sub(2 * standard.margin);
        let quarantine = UNACKNOWLEDGED + 2 * standard.margin;
        let rows = [
            (Timing { connect: connect.saturating_sub(bit), ..standard }, Timing { connect, ..standard }, "connecting"),
            (Timing { renewal, ..standard }, Timing { renewal: renewal + bit, ..standard }, "two lost renewals"),
            (
                Timing { lease: standard.quarantine, renewal: armed_renewal, ..standard },
                Timing { lease: standard.quarantine, renewal: armed_renewal + bit, ..standard },
                "two lost renewals",
            ),
            (
                Timing { armed_lease, ..standard },
                Timing { armed_lease: armed_lease + bit, ..standard },
                "an armed lease",
            ),
            (
                Timing { quarantine, ..standard },
                Timing { quarantine: quarantine.saturating_sub(bit), ..standard },
                "the kernel",
            ),
        ];
        for (holds, breaks, why) in rows {
            assert_eq!(holds.check(), Ok(()), "{holds:?}");
            assert!(breaks.check().is_err_and(|error| error.contains(why)), "{breaks:?}");
        }
    }

    #[test]
    fn what_follows_from_the_constants_is_what_is_written_down() {
        let seconds = Duration::from_secs;
        let pace = Pace {
            beat: seconds(2),
            look: Duration::from_millis(100),
            alive: seconds(16),
            patience: seconds(60),
            rest: seconds(6),
            setback: seconds(60),
        };
        assert_eq!(Timing::STANDARD.pace(), pace);
        let hasty = Timing { renewal: Duration::from_millis(500), ..Timing::STANDARD };
        assert_eq!(hasty.pace().look, Duration::from_millis(50));
        assert_eq!(Timing::at_pace(), Timing::STANDARD);
        assert_eq!(Timing::STANDARD.grace_pause(seconds(8)), seconds(2));
        assert_eq!(Timing::STANDARD.grace_pause(seconds(60)), seconds(5));
        let short = Timing { quarantine: seconds(1), ..Timing::STANDARD };
        assert_eq!(short.grace_pause(seconds(60)), seconds(1));
    }

    #[test]
    fn chance_spreads_a_pause_over_its_second_half() {
        let pause = Duration::from_secs(1);
        let pauses: Vec<_> = (0..200).map(|_| jittered(pause)).collect();
        assert!(pauses.iter().all(|it| (pause / 2..pause).contains(it)), "{pauses:?}");
        let quarters = [500, 625, 750, 875].map(Duration::from_millis);
        for quarter in quarters {
            let hits = pauses.iter().filter(|it| (quarter..quarter + pause / 8).contains(*it)).count();
            assert!(hits > 0, "one chance in 10^24 that none is within {quarter:?}");
        }
    }

    #[test]
    fn short_lived_tokens_have_short_windows() {
        assert_eq!(min_ttl(Duration::from_secs(7_200)), Duration::from_secs(5));
        assert_eq!(min_ttl(Duration::from_secs(10)), Duration::from_secs(1));
        assert_eq!(soft_window(Duration::from_secs(7_200), 500), Duration::from_secs(300));
        assert_eq!(soft_window(Duration::from_secs(7_200), 0), Duration::from_secs(240));
        assert_eq!(soft_window(Duration::from_secs(7_200), 999), Duration::from_secs(360));
        assert_eq!(soft_window(Duration::from_secs(100), 500), Duration::from_secs(15));
        assert_eq!(soft_window(Duration::from_secs(9), 999), Duration::from_millis(3_600));
        for life in [0, 1, 5, 60, 600, 86_400].map(Duration::from_secs) {
            for spread in [0, 500, 999] {
                assert!(soft_window(life, spread) <= life / 2, "{life:?}");
            }
        }
    }

    #[test]
    fn backoff_doubles_and_stops_at_a_minute() {
        assert_eq!(backoff(0, 999), Duration::from_secs(1));
        assert_eq!(backoff(3, 999), Duration::from_secs(8));
        assert_eq!(backoff(5, 999), Duration::from_secs(32));
        assert_eq!(backoff(6, 999), Duration::from_secs(60));
        assert_eq!(backoff(40, 999), Duration::from_secs(60));
        assert_eq!(backoff(1, 0), Duration::from_secs(1));
    }
}
