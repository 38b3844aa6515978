//! The families of histories: what the store and the banks are like, and what befalls them and the replicas.

use std::time::Duration;

use crate::bank::Manners;
use crate::oracle::Cause;
use crate::redis::Fsync;

/// What may happen in a family's histories.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of fault of its own")]
pub(crate) struct Faults {
    /// Per request, per mille, for each kind of network fault.
    pub(crate) network: u64,
    /// Routes between a replica and the store or the banks are cut.
    pub(crate) cuts: bool,
    /// Processes are killed.
    pub(crate) kills: bool,
    /// Machines lose power.
    pub(crate) power: bool,
    /// Processes stand still for up to 15 seconds.
    pub(crate) stops: bool,
    /// Processes stand still for longer than lease and quarantine together.
    pub(crate) long_stops: bool,
    /// Calendars jump by an hour.
    pub(crate) calendars: bool,
    /// Disks are full for a while.
    pub(crate) disks: bool,
    /// The store's process dies and starts again.
    pub(crate) restarts: bool,
    /// A replica of the store is promoted.
    pub(crate) failovers: bool,
    /// It may be the wrong one.
    pub(crate) wrongly: bool,
    /// Banks are closed for a while.
    pub(crate) outages: bool,
}

/// A family of histories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) replicas: usize,
    pub(crate) consents: usize,
    /// How long faults happen.
    pub(crate) lasts: Duration,
    pub(crate) fsync: Fsync,
    pub(crate) store_replicas: usize,
    pub(crate) required: u32,
    pub(crate) manners: Manners,
    pub(crate) faults: Faults,
    /// Which losses nobody can help here.
    pub(crate) unavoidable: &'static [Cause],
}

const LIFE: Duration = Duration::from_secs(60);

const BASE: Family = Family {
    name: "",
    replicas: 3,
    consents: 4,
    lasts: Duration::from_secs(300),
    fsync: Fsync::Always,
    store_replicas: 0,
    required: 0,
    manners: Manners { slow: 30, endless: 3, ..Manners::good(LIFE) },
    faults: Faults {
        network: 4,
        cuts: true,
        kills: true,
        power: true,
        stops: true,
        calendars: true,
        disks: false,
        long_stops: false,
        restarts: false,
        failovers: false,
        wrongly: false,
        outages: false,
    },
    unavoidable: &[Cause::W1, Cause::W2],
};

/// Nothing happens but slow banks and a network that is as it should be.
pub(crate) const QUIET: Family = Family {
    name: "quiet",
    manners: Manners { slow: 60, ..Manners::good(LIFE) },
    faults: CALM,
    unavoidable: &[],
    ..BASE
};

const CALM: Faults = Faults {
    network: 0,
    cuts: false,
    kills: false,
    power: false,
    stops: false,
    long_stops: false,
    calendars: false,
    disks: false,
    restarts: false,
    failovers: false,
    wrongly: false,
    outages: false,
};

/// A store that never fails; everything else does.
pub(crate) const CALM_STORE: Family = Family { name: "calm-store", ..BASE };

/// A store that restarts, and syncs before it answers.
pub(crate) const ALWAYS: Family = Family { name: "always", faults: Faults { restarts: true, ..BASE.faults }, ..BASE };

/// A store with one replica, which must acknowledge and may be promoted.
pub(crate) const ONE_REPLICA: Family = Family {
    name: "one-replica",
    store_replicas: 1,
    required: 1,
    faults: Faults { failovers: true, ..BASE.faults },
    ..BASE
};

/// Two replicas, which must both acknowledge; either may be promoted.
pub(crate) const TWO_OF_TWO: Family = Family {
    name: "two-of-two",
    store_replicas: 2,
    required: 2,
    faults: Faults { failovers: true, wrongly: true, ..BASE.faults },
    ..BASE
};

/// Banks that answer 5xx before and after processing, half, or not at all, and are closed for a while.
pub(crate) const BAD_BANKS: Family = Family {
    name: "bad-banks",
    manners: Manners {
        error_before: 40,
        error_after: 4,
        truncated: 4,
        hung_up: 4,
        busy: 30,
        slow: 60,
        endless: 5,
        ..Manners::good(LIFE)
    },
    faults: Faults { outages: true, ..BASE.faults },
    ..BASE
};

/// Banks that think for long, before and after they have taken a token.
pub(crate) const SLOW_BANKS: Family =
    Family { name: "slow-banks", manners: Manners { slow: 150, ..Manners::good(LIFE) }, ..ALWAYS };

/// The same, and nothing but deaths beside it: for what only shows when a process dies at a bad moment.
pub(crate) const DEADLY: Family =
    Family { name: "deadly", faults: Faults { kills: true, power: true, restarts: true, ..CALM }, ..SLOW_BANKS };

/// Banks that take the last spent refresh token again for a while.
pub(crate) const TOLERANT: Family = Family {
    name: "tolerant",
    manners: Manners { grace: Some(Duration::from_secs(600)), ..BAD_BANKS.manners },
    faults: Faults { restarts: true, outages: true, ..BASE.faults },
    ..BASE
};

/// Full disks: a refresh goes on without a spill.
pub(crate) const FULL_DISKS: Family = Family {
    name: "full-disks",
    faults: Faults { disks: true, restarts: true, ..BASE.faults },
    unavoidable: &[Cause::W1, Cause::W2, Cause::NoSpill],
    ..BASE
};

/// Processes that stand still for longer than the protocol allows for.
pub(crate) const STALLS: Family = Family {
    name: "stalls",
    faults: Faults { long_stops: true, ..BASE.faults },
    unavoidable: &[Cause::W1, Cause::W2, Cause::W5, Cause::Away],
    ..BASE
};

/// A store that forgets up to two seconds when it restarts.
pub(crate) const EVERY_SECOND: Family = Family {
    name: "every-second",
    fsync: Fsync::EverySecond,
    faults: Faults { restarts: true, ..BASE.faults },
    unavoidable: &[Cause::W1, Cause::W2, Cause::W7],
    ..BASE
};

/// Two replicas of which one must acknowledge, and the other may be promoted.
pub(crate) const WRONG_PROMOTION: Family = Family {
    name: "wrong-promotion",
    store_replicas: 2,
    required: 1,
    faults: Faults { failovers: true, wrongly: true, ..BASE.faults },
    unavoidable: &[Cause::W1, Cause::W2, Cause::W7],
    ..BASE
};

/// Every family, to be found by its name.
pub(crate) const ALL: &[Family] = &[
    QUIET,
    CALM_STORE,
    ALWAYS,
    ONE_REPLICA,
    TWO_OF_TWO,
    BAD_BANKS,
    SLOW_BANKS,
    DEADLY,
    TOLERANT,
    FULL_DISKS,
    STALLS,
    EVERY_SECOND,
    WRONG_PROMOTION,
];
