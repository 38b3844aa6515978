//! The holder's steps, in their order: BEGIN, ARM, send once, read, spill beside COMMIT, or FAIL.
//!
//! Each changes `state` and says whether it could happen; what it left behind is thrown away where it could not.

use super::mutants::Mutant;
use super::state::{Answer, Event, Failure, Flight, Memory, Phase, Replica, Spill, State, Task, Wire, Written};
use super::store::Committed;
use super::{Protocol, world};

impl Protocol {
    pub(crate) fn begin(&self, state: &mut State, place: usize) -> bool {
        let State { store, replicas, attempts, .. } = state;
        if replicas.iter().any(|replica| replica.unheard) || replicas[place].task != Task::None {
            return false;
        }
        let before = *store;
        let granted = store.begin(self, *attempts);
        let learnt = self.learn(state, place);
        let Some(lease) = granted else { return learnt || state.store != before };
        if state.left.rounds == 0 || (lease.probe && self.tolerant && !world::requests_are_decided(state)) {
            return false;
        }
        state.left.rounds -= 1;
        state.attempts += 1;
        state.replicas[place].flight = Flight::Leased(lease);
        true
    }

    /// A replica remembers the newest record that it has seen, tokens unopened. `true`: that was news.
    pub(crate) fn learn(&self, state: &mut State, place: usize) -> bool {
        let (store, memory) = (&state.store, &mut state.replicas[place].memory);
        if !self.remembers() || memory.is_some_and(|memory| memory.version > store.version) {
            return false;
        }
        let seen = Memory {
            version: store.version,
            token: store.token,
            ended: store.phase == Phase::Ended,
            doubtful: store.phase == Phase::Uncertain,
        };
        memory.replace(seen) != Some(seen)
    }

    pub(crate) fn arm(&self, state: &mut State, place: usize) -> bool {
        let Flight::Leased(lease) = state.replicas[place].flight else { return false };
        if state.replicas.iter().any(|replica| replica.unheard) {
            return false;
        }
        state.replicas[place].flight = if state.store.arm(self, lease) {
            let written = if self.is(Mutant::NoWait) { Written::Durable } else { self.written(state) };
            Flight::Armed(lease, written)
        } else {
            Flight::None
        };
        true
    }

    pub(crate) fn silence(&self, state: &mut State, place: usize) -> bool {
        let Flight::Sent(lease) = state.replicas[place].flight else { return false };
        let wire = &mut state.wire[usize::from(lease.attempt)];
        if *wire != Wire::Nothing {
            return false;
        }
        if self.is(Mutant::SentAgain) {
            *wire = Wire::Request { token: lease.token, probe: false, orphan: false };
        } else {
            state.replicas[place].flight = Flight::Failing(lease, Failure::Unknown);
        }
        true
    }

    /// Hangs up when the fence is lost. At a bank that takes a token once more the answer may still be the newest, so
    /// there it is waited for unless the consent was ended or replaced and no answer is wanted.
    pub(crate) fn cut(&self, state: &mut State, place: usize) -> bool {
        let Flight::Sent(lease) = state.replicas[place].flight else { return false };
        let unwanted = state.store.version.grant != lease.base.grant || state.store.phase == Phase::Ended;
        let patient = self.tolerant && !unwanted;
        if state.store.is_held(lease) || state.replicas[place].unheard || patient {
            return false;
        }
        let wire = &mut state.wire[usize::from(lease.attempt)];
        if let Wire::Reply(_) = *wire {
            *wire = Wire::Nothing;
        }
        state.ledger.lost[usize::from(lease.base.grant)] |= unwanted;
        state.replicas[place].flight = Flight::None;
        true
    }

    pub(crate) fn write_spill(&self, replica: &mut Replica) -> bool {
        let Flight::Keeping { lease, token, spilled, commit, .. } = &mut replica.flight else { return false };
        if *spilled {
            return false;
        }
        *spilled = true;
        if !self.is(Mutant::NoSpill) {
            let settled = *commit == Written::Durable;
            replica.spills.insert(Spill { lease: *lease, token: *token, settled });
        }
        true
    }

    pub(crate) fn commit(&self, state: &mut State, place: usize) -> bool {
        let Flight::Keeping { lease, token, commit: Written::No, replayed, .. } = state.replicas[place].flight else {
            return false;
        };
        let outcome = state.store.commit(self, lease, token);
        let written = match outcome {
            Committed::Stored(event) => {
                state.event = if replayed && event != Event::None { Event::SpillMattered } else { event };
                self.learn(state, place);
                self.written(state)
            }
            // What beat it may yet be forgotten, so the spill stays until that, too, is durable.
            Committed::Superseded | Committed::Gone => self.written(state),
        };
        if let Flight::Keeping { commit, .. } = &mut state.replicas[place].flight {
            *commit = written;
        }
        true
    }

    pub(crate) fn report(&self, state: &mut State, place: usize) -> bool {
        let State { store, replicas, .. } = state;
        let replica = &mut replicas[place];
        let Flight::Failing(lease, failure) = replica.flight else { return false };
        if replica.unheard {
            return false;
        }
        replica.flight = Flight::None;
        match failure {
            // Read again first: somebody was faster.
            Failure::InvalidGrant if store.version != lease.base => {}
            Failure::InvalidGrant if store.take_alt(lease) => state.event = Event::AltTaken,
            Failure::InvalidGrant | Failure::NotSpent | Failure::Unknown => store.fail(self, lease, failure),
        }
        self.learn(state, place);
        true
    }

    pub(crate) fn reassert(&self, state: &mut State, place: usize) -> bool {
        let State { store, replicas, event, .. } = state;
        let Replica { flight, memory, unheard, .. } = &mut replicas[place];
        if !std::mem::take(unheard) {
            return false;
        }
        if let Some(memory) = memory {
            let same_grant = store.version.grant == memory.version.grant;
            if memory.ended && store.version.grant <= memory.version.grant {
                store.end(self);
            } else if memory.version > store.version && !(same_grant && store.phase == Phase::Ended) {
                store.restore(*memory);
                *event = Event::Restored;
            }
            if memory.doubtful && memory.version == store.version {
                store.doubt();
            }
        }
        match flight {
            Flight::Armed(lease, _)
            | Flight::Sent(lease)
            | Flight::Keeping { lease, commit: Written::No, .. }
            | Flight::Failing(lease, Failure::Unknown | Failure::InvalidGrant) => store.reassert(lease),
            Flight::None | Flight::Leased(_) | Flight::Keeping { .. } | Flight::Failing(_, Failure::NotSpent) => {}
        }
        true
    }
}

pub(crate) fn give_up(replica: &mut Replica) -> bool {
    let (Flight::Leased(lease) | Flight::Armed(lease, _)) = replica.flight else { return false };
    replica.flight = Flight::Failing(lease, Failure::NotSpent);
    true
}

pub(crate) fn send(state: &mut State, place: usize) -> bool {
    let Flight::Armed(lease, Written::Durable) = state.replicas[place].flight else { return false };
    state.wire[usize::from(lease.attempt)] = Wire::Request { token: lease.token, probe: lease.probe, orphan: false };
    state.replicas[place].flight = Flight::Sent(lease);
    true
}

pub(crate) fn receive(state: &mut State, place: usize) -> bool {
    let Flight::Sent(lease) = state.replicas[place].flight else { return false };
    let wire = &mut state.wire[usize::from(lease.attempt)];
    let Wire::Reply(answer) = *wire else { return false };
    *wire = Wire::Nothing;
    state.replicas[place].flight = match answer {
        Answer::Tokens(token) => Flight::Keeping { lease, token, spilled: false, commit: Written::No, replayed: false },
        Answer::InvalidGrant => Flight::Failing(lease, Failure::InvalidGrant),
        Answer::NotProcessed => Flight::Failing(lease, Failure::NotSpent),
    };
    true
}

pub(crate) fn renew(state: &mut State, place: usize) -> bool {
    let Flight::Sent(lease) = state.replicas[place].flight else { return false };
    let renewed = state.store.is_held(lease) && !state.store.leased;
    if renewed {
        state.store.renew(lease);
    }
    renewed
}

pub(crate) fn drop_spills(replica: &mut Replica) -> bool {
    let before = replica.spills.len();
    replica.spills.retain(|spill| !spill.settled);
    replica.spills.len() < before
}
