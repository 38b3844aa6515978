//! What breaks: processes, the wire, the store's primary, and the way to the store.

use super::Protocol;
use super::mutants::Mutant;
use super::state::{Answer, Flight, Spill, State, Task, Wire, Written};
use super::world::{Assumption, is_met, spend};

impl Protocol {
    pub(crate) fn replicate(&self, state: &mut State, follower: usize) -> bool {
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
    pub(crate) fn failover(&self, state: &mut State, follower: usize) -> bool {
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
    pub(crate) fn outage(&self, state: &mut State) -> bool {
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
}

/// A process dies. Its disk stays; what it had in memory alone is lost, and an answer among it is W1 or W2.
pub(crate) fn crash(state: &mut State, place: usize) -> bool {
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

pub(crate) fn lose_request(state: &mut State, place: usize) -> bool {
    state.wire[place] = Wire::Nothing;
    spend(&mut state.left.lost_requests)
}

/// W1, if it is an answer with tokens.
pub(crate) fn lose_reply(state: &mut State, place: usize) -> bool {
    if let Wire::Reply(Answer::Tokens(token)) = state.wire[place] {
        state.ledger.lost[usize::from(token.grant)] = true;
    }
    state.wire[place] = Wire::Nothing;
    spend(&mut state.left.lost_replies)
}
