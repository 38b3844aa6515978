//! What the protocol lives in: the bank, the wire, time, and people.
//!
//! Time has no numbers here. A lease can run out whenever it likes, if the budget allows. A quarantine is over only when
//! everything is over that the constants of the protocol leave time for; the [`Assumption`]s name that, one by one.

use std::collections::BTreeSet;

use super::Protocol;
use super::state::{
    ATTEMPTS, Answer, Event, Flight, Grant, Ledger, Phase, Record, Replica, Spill, State, Task, Token, Wire, Written,
};

/// What lease and quarantine together must outlast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assumption {
    /// A pause of a holder between its look at the clock and the first byte it sends. Where it does not: W5.
    Pauses,
    /// A request, and its answer, on the way or inside the bank.
    BankDecides,
    /// An answer in a live process that has yet to reach the store.
    HolderReachesStore,
    /// A process that is down and has a spill to replay.
    RestartsInTime,
}

/// All of them.
pub(crate) const ASSUMPTIONS: [Assumption; 4] =
    [Assumption::Pauses, Assumption::BankDecides, Assumption::HolderReachesStore, Assumption::RestartsInTime];

pub(crate) fn is_met(assumption: Assumption, state: &State) -> bool {
    let newer = |spill: &Spill| !spill.settled && spill.lease.base >= state.store.version;
    let mut replicas = state.replicas.iter();
    match assumption {
        Assumption::Pauses => replicas.all(|replica| !matches!(replica.flight, Flight::Armed(..))),
        Assumption::BankDecides => state.wire.iter().all(|wire| *wire == Wire::Nothing),
        Assumption::HolderReachesStore => replicas.filter(|replica| replica.up).all(|replica| {
            let uncommitted = matches!(replica.flight, Flight::Keeping { commit: Written::No, .. });
            !uncommitted && !replica.spills.iter().any(newer)
        }),
        Assumption::RestartsInTime => replicas.all(|replica| replica.up || !replica.spills.iter().any(newer)),
    }
}

/// Whether every request has been decided on, and none can follow.
pub(crate) fn requests_are_decided(state: &State) -> bool {
    let decided = state.wire.iter().all(|wire| !matches!(wire, Wire::Request { .. }));
    decided && is_met(Assumption::Pauses, state)
}

impl Protocol {
    /// Time as long as lease and quarantine passes. `false`: not before something else has happened.
    fn time_passes(&self, state: &mut State) -> bool {
        let mut unmet = ASSUMPTIONS.into_iter().filter(|assumption| !is_met(*assumption, state));
        let broken = match (unmet.next(), unmet.next()) {
            (None, _) => false,
            (Some(one), None) if self.beyond == Some(one) => true,
            (Some(_), _) => return false,
        };
        state.ledger.overtime |= broken;
        true
    }

    /// A write that must not be lost has reached the primary.
    pub(crate) fn written(&self, state: &mut State) -> Written {
        let all = (1 << self.followers) - 1;
        if self.required == 0 {
            state.lacking |= all;
            return Written::Durable;
        }
        Written::Waiting(all)
    }

    /// The customer consents anew, and this replica is told of it.
    pub(crate) fn reconsent(&self, state: &mut State, place: usize) -> bool {
        if state.replicas[place].task != Task::None || !spend(&mut state.left.reconsents) {
            return false;
        }
        state.bank[1] = Grant { alive: true, ..Grant::default() };
        state.replicas[place].task = Task::Seed(Written::No);
        self.repeat(state, place)
    }

    /// The consent ends, and this replica is told of it.
    pub(crate) fn end(&self, state: &mut State, place: usize) -> bool {
        let free = state.replicas[place].task == Task::None && state.store.phase != Phase::Ended;
        if !free || !spend(&mut state.left.ends) {
            return false;
        }
        state.replicas[place].task = Task::End(state.store.version.grant, Written::No);
        self.repeat(state, place)
    }

    /// Whoever stays down longer than lease and quarantine is not waited for.
    pub(crate) fn forget(&self, state: &mut State, place: usize) -> bool {
        let happened = self.time_passes(state);
        state.replicas[place].unheard = false;
        happened
    }

    pub(crate) fn quarantine_over(&self, state: &mut State) -> bool {
        let happened = self.time_passes(state);
        state.store.quarantined = false;
        happened
    }

    /// A SEED or an END, which is repeated until it is durable.
    pub(crate) fn repeat(&self, state: &mut State, place: usize) -> bool {
        let task = match state.replicas[place].task {
            Task::Seed(Written::No) => {
                if state.store.version.grant == 0 && state.store.token.grant == 0 {
                    state.store.seed(self, 1);
                }
                self.learn(state, place);
                Task::Seed(self.written(state))
            }
            Task::End(grant, Written::No) => {
                if state.store.version.grant == grant {
                    state.store.end(self);
                    self.learn(state, place);
                    Task::End(grant, self.written(state))
                } else {
                    Task::None
                }
            }
            Task::None | Task::Seed(_) | Task::End(..) => return false,
        };
        state.replicas[place].task = task;
        true
    }

    /// The bank takes a refresh token once. A strict one takes a second presentation for theft and ends the grant; a
    /// tolerant one gives another successor as long as the first was not used, and then knows only the latest.
    pub(crate) fn process(&self, state: &mut State, place: usize) -> bool {
        let Wire::Request { token: Token { grant, serial }, probe, orphan } = state.wire[place] else { return false };
        let bank = &mut state.bank[usize::from(grant)];
        let seen = bank.presented & (1 << serial) != 0;
        bank.presented |= 1 << serial;
        state.ledger.presented_twice |= seen && !probe;
        let accepted = bank.accepts(serial, self.tolerant);
        let answer = if accepted {
            bank.latest += 1;
            bank.parent = self.tolerant.then_some(serial);
            Answer::Tokens(Token { grant, serial: bank.latest })
        } else {
            bank.alive &= self.tolerant;
            Answer::InvalidGrant
        };
        let awaited = is_awaited(state, place);
        state.ledger.lost[usize::from(grant)] |= orphan && accepted;
        state.wire[place] = if awaited { Wire::Reply(answer) } else { Wire::Nothing };
        true
    }

    /// What follows by itself: a flight that is over ends, a durable task is done, a spill is replayed before anything
    /// else, and replicas stand in order.
    pub(crate) fn tidy(state: &mut State) {
        for place in 0..state.replicas.len() {
            match state.replicas[place].task {
                Task::Seed(Written::Durable) => {
                    state.ledger.reconsented = true;
                    state.replicas[place].task = Task::None;
                }
                Task::End(grant, Written::Durable) => {
                    state.ledger.ended = Some(grant);
                    state.replicas[place].task = Task::None;
                }
                Task::None | Task::Seed(_) | Task::End(..) => {}
            }
            let replica = &mut state.replicas[place];
            if let Flight::Keeping { lease, spilled: true, commit: Written::Durable, .. } = replica.flight {
                replica.flight = Flight::None;
                replica.spills = std::mem::take(&mut replica.spills)
                    .into_iter()
                    .map(|spill| Spill { settled: spill.settled || spill.lease.attempt == lease.attempt, ..spill })
                    .collect();
            }
            // The newest first: an old one may wait for its acknowledgement while a newer one is not known to the store.
            let due = replica.spills.iter().filter(|spill| !spill.settled).copied().next_back();
            if let (true, Flight::None, Some(Spill { lease, token, .. })) = (replica.up, replica.flight, due) {
                replica.flight = Flight::Keeping { lease, token, spilled: true, commit: Written::No, replayed: true };
            }
        }
        state.replicas.sort();
    }
}

impl Grant {
    pub(crate) fn accepts(self, serial: u8, tolerant: bool) -> bool {
        self.alive && (serial == self.latest || (tolerant && self.parent == Some(serial)))
    }
}

/// Spends one of a budget. `false`: there was none left.
pub(crate) fn spend(budget: &mut u8) -> bool {
    let left = budget.checked_sub(1);
    *budget = left.unwrap_or_default();
    left.is_some()
}

/// A lease of a holder that lives runs out only within the budget; any other just does.
pub(crate) fn lease_expires(state: &mut State) -> bool {
    let owner = state.store.owner;
    let lives = state.replicas.iter().any(|replica| replica.up && attempt(&replica.flight) == owner);
    state.store.leased = false;
    !lives || spend(&mut state.left.expiries)
}

/// The bank answers without looking at the refresh token.
pub(crate) fn turn_away(state: &mut State, place: usize) -> bool {
    let awaited = is_awaited(state, place);
    state.wire[place] = if awaited { Wire::Reply(Answer::NotProcessed) } else { Wire::Nothing };
    spend(&mut state.left.lost_requests)
}

fn attempt(flight: &Flight) -> Option<u8> {
    match flight {
        Flight::None => None,
        Flight::Leased(lease)
        | Flight::Armed(lease, _)
        | Flight::Sent(lease)
        | Flight::Failing(lease, _)
        | Flight::Keeping { lease, .. } => Some(lease.attempt),
    }
}

fn is_awaited(state: &State, place: usize) -> bool {
    let awaits = |flight: &Flight| matches!(flight, Flight::Sent(lease) if usize::from(lease.attempt) == place);
    state.replicas.iter().any(|replica| replica.up && awaits(&replica.flight))
}

/// The first state of every run: a consent that was stored and replicated, at a bank that has seen nothing of it.
pub(crate) fn first(protocol: &Protocol) -> State {
    let store = Record::default();
    let replica = Replica {
        up: true,
        memory: None,
        flight: Flight::None,
        spills: BTreeSet::new(),
        task: Task::None,
        unheard: false,
    };
    State {
        store,
        followers: [store; 2],
        lacking: 0,
        replicas: vec![replica; protocol.replicas],
        wire: [Wire::Nothing; ATTEMPTS],
        bank: [Grant { alive: true, ..Grant::default() }, Grant::default()],
        attempts: 0,
        left: protocol.budget,
        ledger: Ledger::default(),
        event: Event::None,
    }
}
