//! What is done to the protocol: the bank, the wire, time, crashes, the store's failovers, and people.
//!
//! Time has no numbers here. A lease can run out whenever it likes, if the budget allows. A quarantine is over only when
//! everything is over that the constants of the protocol leave time for; the [`Assumption`]s name that, one by one.

use super::Protocol;
use super::actions::Action;
use super::mutants::Mutant;
use super::state::{Answer, Event, Flight, Grant, Phase, Spill, State, Task, Token, Version, Wire, Written};

/// What lease and quarantine together must outlast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
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
pub const ASSUMPTIONS: [Assumption; 4] =
    [Assumption::Pauses, Assumption::BankDecides, Assumption::HolderReachesStore, Assumption::RestartsInTime];

fn is_met(assumption: Assumption, state: &State) -> bool {
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

impl Protocol {
    /// Whether every request has been decided on, and none can follow.
    pub fn requests_are_decided(&self, state: &State) -> bool {
        let decided = state.wire.iter().all(|wire| !matches!(wire, Wire::Request { .. }));
        decided && is_met(Assumption::Pauses, state)
    }

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
    pub fn written(&self, state: &mut State) -> Written {
        let all = (1 << self.followers) - 1;
        if self.required == 0 {
            state.lacking |= all;
            return Written::Durable;
        }
        Written::Waiting(all)
    }

    pub fn turn(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Repeat(place) => self.repeat(state, place),
            Action::Reconsent(place) => {
                let free = state.replicas[place].task == Task::None;
                if !free || !spend(&mut state.left.reconsents) {
                    return false;
                }
                state.bank[1] = Grant { alive: true, ..Grant::default() };
                state.replicas[place].task = Task::Seed(Written::No);
                self.repeat(state, place)
            }
            Action::End(place) => {
                let free = state.replicas[place].task == Task::None && state.store.phase != Phase::Ended;
                if !free || !spend(&mut state.left.ends) {
                    return false;
                }
                state.replicas[place].task = Task::End(state.store.version.grant, Written::No);
                self.repeat(state, place)
            }
            Action::Crash(place) => crash(state, place),
            Action::Restart(place) => !std::mem::replace(&mut state.replicas[place].up, true),
            Action::Forget(place) => {
                let waited_for = state.replicas[place].unheard && !state.replicas[place].up;
                if !waited_for || !self.time_passes(state) {
                    return false;
                }
                state.replicas[place].unheard = false;
                true
            }
            Action::Process(place) => self.process(state, place),
            Action::TurnAway(place) => {
                let reply = if is_awaited(state, place) { Wire::Reply(Answer::NotProcessed) } else { Wire::Nothing };
                state.wire[place] = reply;
                spend(&mut state.left.lost_requests)
            }
            Action::LoseRequest(place) => {
                state.wire[place] = Wire::Nothing;
                spend(&mut state.left.lost_requests)
            }
            Action::LoseReply(place) => {
                if let Wire::Reply(Answer::Tokens(token)) = state.wire[place] {
                    state.ledger.lost[usize::from(token.grant)] = true;
                }
                state.wire[place] = Wire::Nothing;
                spend(&mut state.left.lost_replies)
            }
            Action::LeaseExpires => {
                let owner = state.store.owner;
                let lives = state.replicas.iter().any(|replica| replica.up && attempt(&replica.flight) == owner);
                std::mem::take(&mut state.store.leased) && (!lives || spend(&mut state.left.expiries))
            }
            Action::QuarantineOver => {
                let waits = state.store.phase == Phase::Uncertain && state.store.quarantined;
                if !waits || !self.time_passes(state) {
                    return false;
                }
                state.store.quarantined = false;
                true
            }
            Action::Replicate(follower) => self.replicate(state, follower),
            Action::Failover(follower) => self.failover(state, follower),
            Action::Outage => self.outage(state),
            _ => false,
        }
    }

    fn repeat(&self, state: &mut State, place: usize) -> bool {
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
    fn process(&self, state: &mut State, place: usize) -> bool {
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

    fn replicate(&self, state: &mut State, follower: usize) -> bool {
        let bit = 1 << follower;
        let mut news = state.followers[follower] != state.store || state.lacking & bit != 0;
        state.followers[follower] = state.store;
        state.lacking &= !bit;
        let mut lacking = state.lacking;
        let mut acknowledge = |written: &mut Written| {
            let Written::Waiting(missing) = written else { return };
            news |= *missing & bit != 0;
            *missing &= !bit;
            if self.followers - missing.count_ones() as usize >= self.required {
                lacking |= *missing;
                *written = Written::Durable;
            }
        };
        for replica in &mut state.replicas {
            match &mut replica.flight {
                Flight::Armed(_, written) | Flight::Keeping { commit: written, .. } => acknowledge(written),
                Flight::None | Flight::Leased(_) | Flight::Sent(_) | Flight::Failing(..) => {}
            }
            match &mut replica.task {
                Task::Seed(written) | Task::End(_, written) => acknowledge(written),
                Task::None => {}
            }
        }
        state.lacking = lacking;
        news
    }

    /// A follower is promoted, or the store restarts from its disk: what it did not have is gone, and the wait for its
    /// acknowledgement breaks off.
    fn failover(&self, state: &mut State, follower: usize) -> bool {
        state.ledger.forgotten |= state.lacking & (1 << follower) != 0;
        state.store = state.followers[follower];
        state.followers[..self.followers].fill(state.store);
        state.lacking = 0;
        for replica in &mut state.replicas {
            match &mut replica.flight {
                Flight::Armed(lease, Written::Waiting(_)) => replica.flight = Flight::Leased(*lease),
                Flight::Keeping { commit, .. } if *commit != Written::Durable => *commit = Written::No,
                _ => {}
            }
            match &mut replica.task {
                Task::Seed(written) | Task::End(_, written) => *written = Written::No,
                Task::None => {}
            }
            replica.unheard = self.reasserts();
        }
        spend(&mut state.left.failovers)
    }

    /// Nobody reaches the store for so long that every lease and quarantine is over on its clock. What was on its way to
    /// or from the bank has arrived or died.
    fn outage(&self, state: &mut State) -> bool {
        let decided = is_met(Assumption::Pauses, state) && is_met(Assumption::BankDecides, state);
        if !decided || !spend(&mut state.left.outages) {
            return false;
        }
        state.store.leased = false;
        state.store.quarantined = false;
        for replica in &mut state.replicas {
            replica.unheard = self.reasserts() && !self.is(Mutant::OutageUnnoticed);
        }
        true
    }

    /// What follows by itself: a flight that is over ends, a durable task is done, a spill is replayed before anything
    /// else, and replicas stand in order.
    pub fn tidy(&self, state: &mut State) {
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
            let mut due = replica.spills.iter().filter(|spill| !spill.settled).copied();
            let due = if self.implemented_so_far { due.next() } else { due.next_back() };
            if let (true, Flight::None, Some(Spill { lease, token, .. })) = (replica.up, replica.flight, due) {
                replica.flight = Flight::Keeping { lease, token, spilled: true, commit: Written::No, replayed: true };
            }
        }
        state.replicas.sort();
    }
}

impl Grant {
    pub fn accepts(&self, serial: u8, tolerant: bool) -> bool {
        self.alive && (serial == self.latest || (tolerant && self.parent == Some(serial)))
    }
}

/// Spends one of a budget. `false`: there was none left.
fn spend(budget: &mut u8) -> bool {
    let left = budget.checked_sub(1);
    *budget = left.unwrap_or_default();
    left.is_some()
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

fn crash(state: &mut State, place: usize) -> bool {
    let State { replicas, wire, ledger, left, .. } = state;
    let replica = &mut replicas[place];
    match replica.flight {
        Flight::Sent(lease) => {
            let wire = &mut wire[usize::from(lease.attempt)];
            match wire {
                Wire::Request { orphan, .. } => *orphan = true,
                Wire::Reply(Answer::Tokens(token)) => ledger.lost[usize::from(token.grant)] = true,
                Wire::Reply(_) | Wire::Nothing => {}
            }
            if let Wire::Reply(_) = wire {
                *wire = Wire::Nothing;
            }
        }
        Flight::Keeping { token, spilled: false, commit, .. } if commit != Written::Durable => {
            ledger.lost[usize::from(token.grant)] = true;
        }
        _ => {}
    }
    if let Task::Seed(_) = replica.task {
        ledger.lost[1] = true;
    }
    replica.spills = replica.spills.iter().map(|spill| Spill { settled: false, ..*spill }).collect();
    replica.up = false;
    replica.memory = None;
    replica.flight = Flight::None;
    replica.task = Task::None;
    spend(&mut left.crashes)
}

/// The first state of every run: a consent that was stored and replicated, at a bank that has seen nothing of it.
pub fn first(protocol: &Protocol) -> State {
    let store = super::state::Record { version: Version::default(), fence: 0, ..Default::default() };
    let replica = super::state::Replica {
        up: true,
        memory: None,
        flight: Flight::None,
        spills: std::collections::BTreeSet::new(),
        task: Task::None,
        unheard: false,
    };
    State {
        store,
        followers: [store; 2],
        lacking: 0,
        replicas: vec![replica; protocol.replicas],
        wire: [Wire::Nothing; super::state::ATTEMPTS],
        bank: [Grant { alive: true, ..Grant::default() }, Grant::default()],
        attempts: 0,
        left: protocol.budget,
        ledger: super::state::Ledger::default(),
        event: Event::None,
    }
}
