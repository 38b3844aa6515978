//! The store's steps on its one record: the decisions of `src/store/steps` without durations.
//!
//! Each is atomic. A duration there is a flag here: `leased` while the lease runs, `quarantined` until the quarantine is
//! over.

use super::Protocol;
use super::mutants::Mutant;
use super::state::{Attempt, Event, Failure, Lease, Memory, Phase, Record, Token, Version};

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    Stored(Event),
    Superseded,
    Gone,
}

impl Record {
    /// BEGIN. `None`: somebody or something has to be waited for. The record may change even then: a lease that ran out
    /// after its intent was written leaves it uncertain, and the quarantine is counted from there.
    pub(crate) fn begin(&mut self, protocol: &Protocol, attempt: Attempt) -> Option<Lease> {
        let probing = self.phase == Phase::Uncertain && self.owner.is_some() && self.owner != self.intent;
        if self.leased && (matches!(self.phase, Phase::Leased | Phase::Armed) || probing) {
            return None;
        }
        match self.phase {
            Phase::Active | Phase::Leased => self.phase = Phase::Leased,
            Phase::Armed | Phase::Uncertain => {
                if self.phase == Phase::Armed {
                    self.quarantined = true;
                }
                self.phase = Phase::Uncertain;
                if self.quarantined && protocol.has_quarantine() {
                    return None;
                }
            }
            Phase::Refused | Phase::Ended => return None,
        }
        if protocol.is(Mutant::ProbeUnrecorded) {
            self.phase = Phase::Leased;
        }
        self.fence += 1;
        self.owner = Some(attempt);
        self.leased = true;
        let probe = self.phase == Phase::Uncertain;
        Some(Lease { attempt, fence: self.fence, base: self.version, token: self.token, probe })
    }

    /// Whether the lease is still its holder's.
    pub(crate) fn is_held(&self, lease: Lease) -> bool {
        let open = matches!(self.phase, Phase::Leased | Phase::Armed | Phase::Uncertain);
        open && self.owner == Some(lease.attempt) && self.fence == lease.fence
    }

    /// ARM: the intent. `false`: the lease is lost, and nothing may be sent.
    pub(crate) fn arm(&mut self, protocol: &Protocol, lease: Lease) -> bool {
        if !self.is_held(lease) || self.version != lease.base || !self.leased {
            return false;
        }
        if self.phase == Phase::Uncertain && !lease.probe {
            return false;
        }
        if protocol.is(Mutant::NoIntent) {
            return true;
        }
        if self.intent != Some(lease.attempt) {
            self.sends += 1;
        }
        self.intent(lease.attempt);
        true
    }

    fn intent(&mut self, attempt: Attempt) {
        self.intent = Some(attempt);
        self.phase = Phase::Armed;
        self.leased = true;
        self.quarantined = true;
    }

    /// RENEW: a sender whose lease ran out, noticed or not, has it back if nobody else was granted one.
    pub(crate) fn renew(&mut self, lease: Lease) {
        if self.phase == Phase::Uncertain && self.intent == Some(lease.attempt) {
            self.phase = Phase::Armed;
            self.quarantined = true;
        }
        self.leased = true;
    }

    /// COMMIT: compare and set on the version that was spent, whether or not the lease still runs.
    pub(crate) fn commit(&mut self, protocol: &Protocol, lease: Lease, token: Token) -> Committed {
        let next = lease.base.next();
        if self.phase == Phase::Ended {
            return Committed::Gone;
        }
        if !protocol.is(Mutant::CommitUnconditional) {
            if self.version.grant != lease.base.grant {
                return Committed::Superseded;
            }
            if self.version == next && self.committed_by == Some(lease.attempt) {
                return Committed::Stored(Event::None);
            }
            if self.version.generation > lease.base.generation {
                if self.version == next && self.token != token && !protocol.is(Mutant::AltDropped) {
                    self.alt = Some(token);
                }
                return Committed::Superseded;
            }
        }
        let event = match (self.leased && self.owner == Some(lease.attempt), lease.probe) {
            (_, true) => Event::ProbeSucceeded,
            (false, false) => Event::LateCommit,
            (true, false) => Event::Refreshed,
        };
        self.settle(next, token);
        self.committed_by = Some(lease.attempt);
        self.absent = false;
        Committed::Stored(event)
    }

    /// FAIL: a refresh got nothing. Only the lease's owner may say so.
    pub(crate) fn fail(&mut self, protocol: &Protocol, lease: Lease, failure: Failure) {
        let owned = self.is_held(lease) && self.version == lease.base;
        let believed = protocol.is(Mutant::ReleaseByAnybody) && failure == Failure::NotSpent;
        if !owned && !believed {
            return;
        }
        match failure {
            Failure::NotSpent => {
                if self.intent == Some(lease.attempt) || !owned {
                    self.intent = None;
                    self.sends = self.sends.saturating_sub(1);
                }
                self.phase = if self.sends == 0 { Phase::Active } else { Phase::Uncertain };
            }
            Failure::Unknown => {
                self.phase = Phase::Uncertain;
                self.sends = self.sends.max(1);
                self.quarantined = true;
            }
            Failure::InvalidGrant => {
                self.phase = Phase::Refused;
                self.intent = None;
                self.sends = 0;
            }
        }
        self.owner = None;
        self.leased = false;
        if self.phase == Phase::Active {
            self.quarantined = false;
        }
    }

    /// What a refusal leads to where an `alt` is at hand: it takes the place of the token that was refused.
    pub(crate) fn take_alt(&mut self, lease: Lease) -> bool {
        match self.alt {
            Some(alt) if self.is_held(lease) && self.version == lease.base => {
                self.settle(self.version, alt);
                true
            }
            Some(_) | None => false,
        }
    }

    /// RESTORE: somebody remembers more than the store.
    pub(crate) fn restore(&mut self, memory: Memory) {
        self.fence += 1;
        self.settle(memory.version, memory.token);
        self.committed_by = None;
    }

    /// A holder tells a store that may have forgotten it of its intent. A later holder keeps the lease.
    pub(crate) fn reassert(&mut self, lease: &mut Lease) {
        if self.version != lease.base || self.phase == Phase::Ended {
            return;
        }
        if self.intent != Some(lease.attempt) {
            self.sends += 1;
        }
        if self.phase != Phase::Armed || self.intent <= Some(lease.attempt) {
            self.fence += 1;
            lease.fence = self.fence;
            self.owner = Some(lease.attempt);
            self.intent(lease.attempt);
        }
    }

    /// Somebody remembers that this version's token may have been spent.
    pub(crate) fn doubt(&mut self) {
        if matches!(self.phase, Phase::Active | Phase::Leased) {
            self.phase = Phase::Uncertain;
            self.sends = self.sends.max(1);
            self.quarantined = true;
            self.owner = None;
            self.leased = false;
        }
    }

    /// SEED: the first token set of a new grant, which beats any refresh in flight.
    pub(crate) fn seed(&mut self, protocol: &Protocol, grant: u8) {
        self.fence += 1;
        let version =
            if protocol.is(Mutant::SeedKeepsVersion) { self.version } else { Version { grant, generation: 0 } };
        self.settle(version, Token { grant, serial: 0 });
        self.committed_by = None;
        self.absent = false;
    }

    /// END: a tombstone, newer than anything anybody remembers of this grant.
    pub(crate) fn end(&mut self, protocol: &Protocol) {
        if self.phase == Phase::Ended || self.absent {
            return;
        }
        self.fence += 1;
        self.settle(self.version, Token::default());
        self.committed_by = None;
        if protocol.is(Mutant::TombstoneForgotten) {
            // Deleted: the next commit finds nothing and restores what it brings.
            self.version.generation = 0;
            self.phase = Phase::Refused;
            self.absent = true;
        } else {
            self.version = self.version.next();
            self.phase = Phase::Ended;
        }
    }

    /// Leaves nothing of a refresh under way.
    fn settle(&mut self, version: Version, token: Token) {
        *self = Self {
            phase: Phase::Active,
            version,
            token,
            fence: self.fence,
            committed_by: self.committed_by,
            absent: self.absent,
            ..Self::default()
        };
    }
}
