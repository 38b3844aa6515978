//! What is known where: in the store, in the replicas, at the bank, and on the wire between them.
//!
//! Nothing here acts. A state is small and plain, because millions of them are compared. Replicas are alike, so the
//! array of them is kept sorted: states that differ only in which replica is which are one state.

use std::collections::BTreeSet;

/// Who spends: each granted lease has a number of its own, which also names its request and its answer.
pub(crate) type Attempt = u8;

/// Most leases that a run may grant, plus one, so that an [`Attempt`] is an index.
pub(crate) const ATTEMPTS: usize = 4;

/// The token set of a consent: which act of consenting, and how often it was rotated since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Version {
    pub(crate) grant: u8,
    pub(crate) generation: u8,
}

impl Version {
    pub(crate) fn next(self) -> Self {
        Self { generation: self.generation + 1, ..self }
    }
}

/// A refresh token. A bank numbers those of a grant as it hands them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Token {
    pub(crate) grant: u8,
    pub(crate) serial: u8,
}

/// The state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Phase {
    #[default]
    Active,
    /// Somebody may refresh; nothing was sent.
    Leased,
    /// The intent is written; the request may be on its way.
    Armed,
    /// Nobody knows what became of a request.
    Uncertain,
    /// The bank said no. The token is kept.
    Refused,
    /// A tombstone.
    Ended,
}

/// The consent as a store keeps it. Access tokens are left out: they can always be taken to have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) version: Version,
    pub(crate) token: Token,
    /// What a commit brought that came second.
    pub(crate) alt: Option<Token>,
    pub(crate) fence: u8,
    pub(crate) owner: Option<Attempt>,
    /// Whether the lease still runs on the store's clock.
    pub(crate) leased: bool,
    pub(crate) intent: Option<Attempt>,
    /// Intents that nobody has explained.
    pub(crate) sends: u8,
    /// Whether the quarantine still runs on the store's clock.
    pub(crate) quarantined: bool,
    pub(crate) committed_by: Option<Attempt>,
    /// The record is gone, and so is the memory of it. Only a mutant gets here.
    pub(crate) absent: bool,
}

/// How far a write has come that must not be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Written {
    No,
    /// It is at the primary. The store's own replicas in this set lack it.
    Waiting(u8),
    /// As many have it as are required.
    Durable,
}

/// A granted lease, as its holder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lease {
    pub(crate) attempt: Attempt,
    pub(crate) fence: u8,
    pub(crate) base: Version,
    pub(crate) token: Token,
    pub(crate) probe: bool,
}

/// What becomes of a record when a refresh got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Failure {
    NotSpent,
    Unknown,
    InvalidGrant,
}

/// A replica's refresh under way. There is at most one, and no request of an app can cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Flight {
    None,
    /// The connection to the bank is open, and nothing was sent.
    Leased(Lease),
    Armed(Lease, Written),
    Sent(Lease),
    /// The answer was read. Both spill and commit are due, in whichever order.
    Keeping {
        lease: Lease,
        token: Token,
        spilled: bool,
        commit: Written,
        /// It comes from a spill of the process that ran here before.
        replayed: bool,
    },
    /// The failure has to be told to the store.
    Failing(Lease, Failure),
}

/// A synced file: what a bank answered, and to which version. It outlives its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Spill {
    pub(crate) lease: Lease,
    pub(crate) token: Token,
    /// The outcome of its commit is known to this process.
    pub(crate) settled: bool,
}

/// What a replica's operator or customer asked for, which is repeated until it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    None,
    /// Store the first token set of the new grant.
    Seed(Written),
    /// Put up a tombstone for this grant.
    End(u8, Written),
}

/// What a replica remembers of the store's record; the newest it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Memory {
    pub(crate) version: Version,
    pub(crate) token: Token,
    pub(crate) ended: bool,
    /// Its token may have been spent: nobody knows.
    pub(crate) doubtful: bool,
}

/// One process of the sidecar and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Replica {
    pub(crate) up: bool,
    pub(crate) memory: Option<Memory>,
    pub(crate) flight: Flight,
    pub(crate) spills: BTreeSet<Spill>,
    pub(crate) task: Task,
    /// After a store came back, it must say what it remembers before anybody is granted a lease.
    pub(crate) unheard: bool,
}

/// What a bank says to a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    Tokens(Token),
    InvalidGrant,
    /// It was turned away before it was looked at.
    NotProcessed,
}

/// What is on its way between a replica and the bank. Anything here is delayed until it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wire {
    Nothing,
    Request {
        token: Token,
        probe: bool,
        /// Its sender has died.
        orphan: bool,
    },
    Reply(Answer),
}

/// A grant as its bank sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Grant {
    pub(crate) alive: bool,
    /// The newest refresh token.
    pub(crate) latest: u8,
    /// The token that was presented to get it.
    pub(crate) parent: Option<u8>,
    /// Which tokens were presented, bit by bit.
    pub(crate) presented: u8,
}

/// Faults that may still happen, and things that may still be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Budget {
    /// Leases that may be granted; fewer than [`ATTEMPTS`].
    pub(crate) rounds: u8,
    pub(crate) crashes: u8,
    /// Requests that are lost, or turned away unprocessed.
    pub(crate) lost_requests: u8,
    pub(crate) lost_replies: u8,
    /// Leases that run out while their holder lives.
    pub(crate) expiries: u8,
    /// Failovers of the store, or restarts without its last writes.
    pub(crate) failovers: u8,
    /// Times that nobody reaches the store for longer than lease and quarantine together.
    pub(crate) outages: u8,
    pub(crate) reconsents: u8,
    pub(crate) ends: u8,
}

/// What happened that the properties have to know. None of it is known to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are facts that do not exclude one another")]
pub(crate) struct Ledger {
    /// By grant: an answer with tokens never reached a process that wanted it (W1), or died there (W2).
    pub(crate) lost: [bool; 2],
    /// The bank saw a refresh token again in a request that was no probe.
    pub(crate) presented_twice: bool,
    /// A promoted store lacks a write that was acknowledged (W7).
    pub(crate) forgotten: bool,
    /// An assumption about time was broken (W5 and its kin).
    pub(crate) overtime: bool,
    pub(crate) reconsented: bool,
    /// The grant whose end was acknowledged.
    pub(crate) ended: Option<u8>,
}

/// Something worth seeing at least once, in the step that led to this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Event {
    #[default]
    None,
    Refreshed,
    ProbeSucceeded,
    SpillMattered,
    LateCommit,
    Restored,
    AltTaken,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Record,
    /// The store's own replicas, or its disk: what would be found after a failover or a restart.
    pub(crate) followers: [Record; 2],
    /// Followers that lack an acknowledged write, bit by bit.
    pub(crate) lacking: u8,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) wire: [Wire; ATTEMPTS],
    pub(crate) bank: [Grant; 2],
    pub(crate) attempts: Attempt,
    pub(crate) left: Budget,
    pub(crate) ledger: Ledger,
    pub(crate) event: Event,
}
