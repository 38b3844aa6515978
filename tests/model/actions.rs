//! The holder's steps, in their order: BEGIN, ARM, send once, read, spill beside COMMIT, or FAIL.
//!
//! An action is a step of one replica, of the bank, or of the world. [`Protocol::step`] says what follows from it, or
//! that it cannot happen.

use super::Protocol;
use super::mutants::Mutant;
use super::state::{
    Answer, Event, Failure, Flight, Memory, Phase, Replica, Spill, State, Task, Wire, Written,
};
use super::store::Committed;

/// Everything that can happen. Numbers are places in the state's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask the store, having no token that serves, and connect to the bank if a lease is granted.
    Begin(usize),
    /// Write the intent. The wait for the store's replicas begins with it.
    Arm(usize),
    /// Not sent: no connection, too few replicas acknowledged in time, or the guard says that the lease has run out.
    GiveUp(usize),
    Send(usize),
    Receive(usize),
    /// The connection broke, or no answer came.
    Silence(usize),
    Renew(usize),
    /// A renewal says that the fence is lost: hang up.
    Cut(usize),
    WriteSpill(usize),
    Commit(usize),
    Report(usize),
    DropSpills(usize),
    /// After a failover or an outage: say what is remembered and what is under way.
    Reassert(usize),
    /// Repeat a SEED or an END until it is durable.
    Repeat(usize),
    Reconsent(usize),
    End(usize),
    Crash(usize),
    Restart(usize),
    /// A replica that stays down is no longer waited for.
    Forget(usize),
    Process(usize),
    TurnAway(usize),
    LoseRequest(usize),
    LoseReply(usize),
    LeaseExpires,
    QuarantineOver,
    Replicate(usize),
    Failover(usize),
    Outage,
}

impl Protocol {
    /// What may happen next. [`Protocol::step`] has the last word.
    pub fn candidates(&self, state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        let mut may = |possible: bool, action: Action| {
            if possible {
                actions.push(action);
            }
        };
        for (place, replica) in state.replicas.iter().enumerate() {
            may(!replica.up, Action::Restart(place));
            may(!replica.up && replica.unheard, Action::Forget(place));
            if !replica.up {
                continue;
            }
            let steps: &[fn(usize) -> Action] = match replica.flight {
                Flight::None => &[Action::Begin],
                Flight::Leased(_) => &[Action::Arm, Action::GiveUp],
                Flight::Armed(..) => &[Action::Send, Action::GiveUp],
                Flight::Sent(_) => &[Action::Receive, Action::Silence, Action::Renew, Action::Cut],
                Flight::Keeping { .. } => &[Action::WriteSpill, Action::Commit],
                Flight::Failing(..) => &[Action::Report],
            };
            steps.iter().for_each(|step| may(true, step(place)));
            may(!replica.spills.is_empty(), Action::DropSpills(place));
            may(replica.unheard, Action::Reassert(place));
            may(replica.task != Task::None, Action::Repeat(place));
            may(left.reconsents > 0, Action::Reconsent(place));
            may(left.ends > 0, Action::End(place));
            may(left.crashes > 0, Action::Crash(place));
        }
        for (place, wire) in state.wire.iter().enumerate() {
            let request = matches!(wire, Wire::Request { .. });
            may(request, Action::Process(place));
            may(request && left.lost_requests > 0, Action::TurnAway(place));
            may(request && left.lost_requests > 0, Action::LoseRequest(place));
            may(matches!(wire, Wire::Reply(_)) && left.lost_replies > 0, Action::LoseReply(place));
        }
        for follower in 0..self.followers {
            may(true, Action::Replicate(follower));
            may(left.failovers > 0, Action::Failover(follower));
        }
        may(state.store.leased, Action::LeaseExpires);
        may(state.store.phase == Phase::Uncertain && state.store.quarantined, Action::QuarantineOver);
        may(left.outages > 0, Action::Outage);
    }

    /// The state after `action`; `None` if it cannot happen.
    pub fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.event = Event::None;
        let happened = match action {
            Action::Begin(place) => self.begin(&mut next, place),
            Action::Arm(place) => self.arm(&mut next, place),
            Action::GiveUp(place) => give_up(&mut next.replicas[place]),
            Action::Send(place) => send(&mut next, place),
            Action::Receive(place) => receive(&mut next, place),
            Action::Silence(place) => self.silence(&mut next, place),
            Action::Renew(place) => renew(&mut next, place),
            Action::Cut(place) => self.cut(&mut next, place),
            Action::WriteSpill(place) => self.write_spill(&mut next.replicas[place]),
            Action::Commit(place) => self.commit(&mut next, place),
            Action::Report(place) => self.report(&mut next, place),
            Action::DropSpills(place) => drop_spills(&mut next.replicas[place]),
            Action::Reassert(place) => self.reassert(&mut next, place),
            Action::Repeat(_)
            | Action::Reconsent(_)
            | Action::End(_)
            | Action::Crash(_)
            | Action::Restart(_)
            | Action::Forget(_)
            | Action::Process(_)
            | Action::TurnAway(_)
            | Action::LoseRequest(_)
            | Action::LoseReply(_)
            | Action::LeaseExpires
            | Action::QuarantineOver
            | Action::Replicate(_)
            | Action::Failover(_)
            | Action::Outage => self.turn(&mut next, action),
        };
        happened.then(|| {
            self.tidy(&mut next);
            next
        })
    }

    fn begin(&self, state: &mut State, place: usize) -> bool {
        let State { store, replicas, attempts, .. } = state;
        if replicas.iter().any(|replica| replica.unheard) || replicas[place].task != Task::None {
            return false;
        }
        let before = *store;
        let granted = store.begin(self, *attempts);
        let learnt = self.learn(state, place);
        let Some(lease) = granted else { return learnt || state.store != before };
        if state.left.rounds == 0 || (lease.probe && self.tolerant && !self.requests_are_decided(state)) {
            return false;
        }
        state.left.rounds -= 1;
        state.attempts += 1;
        state.replicas[place].flight = Flight::Leased(lease);
        true
    }

    /// A replica remembers the newest record that it has seen, tokens unopened. `true`: that was news.
    pub fn learn(&self, state: &mut State, place: usize) -> bool {
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

    fn arm(&self, state: &mut State, place: usize) -> bool {
        let Flight::Leased(lease) = state.replicas[place].flight else { return false };
        if state.replicas.iter().any(|replica| replica.unheard) {
            return false;
        }
        state.replicas[place].flight = if state.store.arm(self, &lease) {
            let written = if self.is(Mutant::NoWait) { Written::Durable } else { self.written(state) };
            Flight::Armed(lease, written)
        } else {
            Flight::None
        };
        true
    }

    fn silence(&self, state: &mut State, place: usize) -> bool {
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
    fn cut(&self, state: &mut State, place: usize) -> bool {
        let Flight::Sent(lease) = state.replicas[place].flight else { return false };
        let unwanted = state.store.version.grant != lease.base.grant || state.store.phase == Phase::Ended;
        if state.store.is_held(&lease) || state.replicas[place].unheard || (self.tolerant && !unwanted) {
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

    fn write_spill(&self, replica: &mut Replica) -> bool {
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

    fn commit(&self, state: &mut State, place: usize) -> bool {
        let Flight::Keeping { lease, token, commit: Written::No, replayed, .. } = state.replicas[place].flight else {
            return false;
        };
        let outcome = state.store.commit(self, &lease, token);
        let written = match outcome {
            Committed::Stored(event) => {
                state.event = if replayed && event != Event::None { Event::SpillMattered } else { event };
                self.learn(state, place);
                self.written(state)
            }
            // What beat it may yet be forgotten, so the spill stays until that, too, is durable.
            Committed::Superseded | Committed::Gone if self.implemented_so_far => Written::Durable,
            Committed::Superseded | Committed::Gone => self.written(state),
        };
        if let Flight::Keeping { commit, .. } = &mut state.replicas[place].flight {
            *commit = written;
        }
        true
    }

    fn report(&self, state: &mut State, place: usize) -> bool {
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
            Failure::InvalidGrant if !self.implemented_so_far && store.take_alt(&lease) => state.event = Event::AltTaken,
            Failure::InvalidGrant | Failure::NotSpent | Failure::Unknown => store.fail(self, &lease, failure),
        }
        self.learn(state, place);
        true
    }

    fn reassert(&self, state: &mut State, place: usize) -> bool {
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
                store.restore(memory);
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

fn give_up(replica: &mut Replica) -> bool {
    let (Flight::Leased(lease) | Flight::Armed(lease, _)) = replica.flight else { return false };
    replica.flight = Flight::Failing(lease, Failure::NotSpent);
    true
}

fn send(state: &mut State, place: usize) -> bool {
    let Flight::Armed(lease, Written::Durable) = state.replicas[place].flight else { return false };
    state.wire[usize::from(lease.attempt)] =
        Wire::Request { token: lease.token, probe: lease.probe, orphan: false };
    state.replicas[place].flight = Flight::Sent(lease);
    true
}

fn receive(state: &mut State, place: usize) -> bool {
    let Flight::Sent(lease) = state.replicas[place].flight else { return false };
    let wire = &mut state.wire[usize::from(lease.attempt)];
    let Wire::Reply(answer) = *wire else { return false };
    *wire = Wire::Nothing;
    state.replicas[place].flight = match answer {
        Answer::Tokens(token) => {
            Flight::Keeping { lease, token, spilled: false, commit: Written::No, replayed: false }
        }
        Answer::InvalidGrant => Flight::Failing(lease, Failure::InvalidGrant),
        Answer::NotProcessed => Flight::Failing(lease, Failure::NotSpent),
    };
    true
}

fn renew(state: &mut State, place: usize) -> bool {
    let Flight::Sent(lease) = state.replicas[place].flight else { return false };
    let renewed = state.store.is_held(&lease) && !state.store.leased;
    if renewed {
        state.store.renew(&lease);
    }
    renewed
}

fn drop_spills(replica: &mut Replica) -> bool {
    let before = replica.spills.len();
    replica.spills.retain(|spill| !spill.settled);
    replica.spills.len() < before
}
