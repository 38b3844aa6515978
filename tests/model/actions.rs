//! What may happen, and which of it may happen next.
//!
//! An action is a step of one replica, of the bank, or of the world. [`Protocol::step`] says what follows from it, or
//! that it cannot happen. The holder's steps stand in `holder`, everything else in `world` and `faults`.

use super::state::{Event, Flight, Phase, State, Task, Wire};
use super::{Protocol, faults, holder, world};

/// Everything that can happen. Numbers are places in the state's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
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
    pub(crate) fn candidates(&self, state: &State, actions: &mut Vec<Action>) {
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
            for step in steps {
                may(true, step(place));
            }
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
    pub(crate) fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.event = Event::None;
        let happened = match action {
            Action::Begin(place) => self.begin(&mut next, place),
            Action::Arm(place) => self.arm(&mut next, place),
            Action::GiveUp(place) => holder::give_up(&mut next.replicas[place]),
            Action::Send(place) => holder::send(&mut next, place),
            Action::Receive(place) => holder::receive(&mut next, place),
            Action::Silence(place) => self.silence(&mut next, place),
            Action::Renew(place) => holder::renew(&mut next, place),
            Action::Cut(place) => self.cut(&mut next, place),
            Action::WriteSpill(place) => self.write_spill(&mut next.replicas[place]),
            Action::Commit(place) => self.commit(&mut next, place),
            Action::Report(place) => self.report(&mut next, place),
            Action::DropSpills(place) => holder::drop_spills(&mut next.replicas[place]),
            Action::Reassert(place) => self.reassert(&mut next, place),
            Action::Repeat(place) => self.repeat(&mut next, place),
            Action::Reconsent(place) => self.reconsent(&mut next, place),
            Action::End(place) => self.end(&mut next, place),
            Action::Crash(place) => faults::crash(&mut next, place),
            Action::Restart(place) => !std::mem::replace(&mut next.replicas[place].up, true),
            Action::Forget(place) => self.forget(&mut next, place),
            Action::Process(place) => self.process(&mut next, place),
            Action::TurnAway(place) => world::turn_away(&mut next, place),
            Action::LoseRequest(place) => faults::lose_request(&mut next, place),
            Action::LoseReply(place) => faults::lose_reply(&mut next, place),
            Action::LeaseExpires => world::lease_expires(&mut next),
            Action::QuarantineOver => self.quarantine_over(&mut next),
            Action::Replicate(follower) => self.replicate(&mut next, follower),
            Action::Failover(follower) => self.failover(&mut next, follower),
            Action::Outage => self.outage(&mut next),
        };
        happened.then(|| {
            Self::tidy(&mut next);
            next
        })
    }
}
