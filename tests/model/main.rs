//! A model of the refresh protocol, explored in every order of events.
//!
//! One consent, a few replicas, a bank that takes each refresh token once, a store that may fail over, and a budget of
//! faults. Every state that can be reached within the budget is visited, and in each the promises of
//! `docs/refresh.md` are checked. Read `state` for what is known where, `store` for the store's steps, `holder`
//! for a replica's, `world` and `faults` for what surrounds them and what goes wrong, `properties` for the promises, and
//! `mutants` for what happens when a part of the protocol is left out. `docs/model.md` tells what is not modelled.

#![expect(clippy::print_stdout, reason = "the counts of states are what `--nocapture` is for")]

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};
use tokio::time::Instant;

mod actions;
mod faults;
mod holder;
mod mutants;
mod properties;
mod state;
mod store;
mod world;

use actions::Action;
use mutants::Mutant;
use properties::{ALT_TAKEN, KILLED_IN_A_WINDOW, LATE, PROBED, PROMISES, REFRESHED, REPLAYED, RESTORED};
use state::{Budget, State};
use world::Assumption;

/// What is explored: how many of everything, which faults, and what is left out of the protocol.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    /// Processes of the sidecar.
    pub(crate) replicas: usize,
    /// Replicas of the store, or its disk; two at most.
    pub(crate) followers: usize,
    /// How many of them must have an intent, and every other write that must not be lost, before it counts.
    pub(crate) required: usize,
    /// The bank takes the last spent token once more and gives another successor, and the profile says so.
    pub(crate) tolerant: bool,
    pub(crate) budget: Budget,
    pub(crate) mutant: Option<Mutant>,
    /// The assumption about time that is broken.
    pub(crate) beyond: Option<Assumption>,
    /// An acknowledged write may get lost: W7 is open.
    pub(crate) forgets: bool,
}

/// Two replicas and a store with one replica of its own, at a strict bank: the protocol as it is meant to run.
pub(crate) const STANDARD: Protocol = Protocol {
    replicas: 2,
    followers: 1,
    required: 1,
    tolerant: false,
    budget: Budget {
        rounds: 3,
        crashes: 1,
        lost_requests: 1,
        lost_replies: 1,
        expiries: 1,
        failovers: 1,
        outages: 0,
        reconsents: 0,
        ends: 0,
    },
    mutant: None,
    beyond: None,
    forgets: false,
};

impl Protocol {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// A profile with a `reuse_grace` sends again inside it.
    pub(crate) fn has_quarantine(&self) -> bool {
        !self.tolerant && !self.is(Mutant::NoQuarantine)
    }

    /// Whether replicas remember records, which matters only where the store can forget.
    pub(crate) fn remembers(&self) -> bool {
        self.reasserts() && self.budget.failovers > 0
    }

    pub(crate) fn reasserts(&self) -> bool {
        !self.is(Mutant::NoReassertion)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![world::first(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.candidates(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// Explores `protocol` until nothing is left, or until `until` says so, and prints what it took.
pub(crate) fn explore(name: &str, protocol: &Protocol, until: HasDiscoveries) -> impl Checker<Protocol> + use<> {
    let started = Instant::now();
    let checker = protocol.clone().checker().finish_when(until).timeout(Duration::from_secs(600)).spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker
}

/// Explores everything: no promise is broken, what `seen` names occurs, and at least `floor` states were visited, so
/// that the model cannot shrink to nothing unnoticed.
fn holds(name: &str, protocol: &Protocol, floor: usize, seen: &[&'static str]) {
    let checker = explore(name, protocol, HasDiscoveries::All);
    for promise in PROMISES {
        if let Some(path) = checker.discovery(promise) {
            panic!("{name}: broken: {promise}\n{}", tell(until_broken(protocol, path, promise)));
        }
    }
    for sight in seen {
        assert!(checker.discovery(sight).is_some(), "{name}: never seen: {sight}");
    }
    assert!(checker.is_done(), "{name}: not everything was explored");
    let states = checker.unique_state_count();
    assert!(states >= floor, "{name}: only {states} states");
}

/// The steps of a run up to the one that broke `promise`, and the state before each.
pub(crate) fn until_broken(
    protocol: &Protocol,
    path: Path<State, Action>,
    promise: &str,
) -> Vec<(State, Option<Action>)> {
    let property = protocol.properties().into_iter().find(|property| property.name == promise);
    let holds = property.expect("a property of that name").condition;
    path.into_vec().into_iter().take_while(|(state, _)| holds(protocol, state)).collect()
}

/// A run, with what each step found in the store and in the replicas.
fn tell(run: Vec<(State, Option<Action>)>) -> String {
    let step = |(state, action): (State, Option<Action>)| {
        let flights: Vec<_> = state.replicas.iter().map(|replica| &replica.flight).collect();
        format!("{:?}\n  {flights:?}\n{action:?}\n", state.store)
    };
    run.into_iter().map(step).collect()
}

/// One store that keeps what it was told.
pub(crate) const ALONE: Protocol =
    Protocol { followers: 0, required: 0, budget: Budget { failovers: 0, expiries: 2, ..STANDARD.budget }, ..STANDARD };

/// Fewer refreshes, for variants that are large for another reason.
const SMALL: Budget = Budget { rounds: 2, lost_requests: 0, ..STANDARD.budget };

#[test]
fn three_refreshes_with_a_store_that_forgets_nothing() {
    holds("one store", &ALONE, 50_000, &[REFRESHED, PROBED, REPLAYED, LATE]);
}

#[test]
fn a_failover_loses_nothing_that_was_acknowledged() {
    let budget = Budget { rounds: 2, ..STANDARD.budget };
    holds("a failover", &Protocol { budget, ..STANDARD }, 270_000, &[REFRESHED, PROBED, REPLAYED, LATE]);
}

#[test]
fn three_replicas_are_as_safe_as_two() {
    let budget = Budget { lost_replies: 0, ..SMALL };
    holds("three replicas", &Protocol { replicas: 3, budget, ..STANDARD }, 450_000, &[REFRESHED, PROBED, REPLAYED]);
}

#[test]
fn with_all_of_two_store_replicas_required_any_may_be_promoted() {
    let budget = Budget { lost_replies: 0, expiries: 0, ..SMALL };
    holds("two of two", &Protocol { followers: 2, required: 2, budget, ..STANDARD }, 95_000, &[REFRESHED, PROBED]);
}

#[test]
fn what_a_store_forgets_the_replicas_remember_as_long_as_they_live() {
    let budget = Budget { crashes: 0, lost_replies: 0, ..SMALL };
    let promoted = Protocol { followers: 2, budget, ..STANDARD };
    holds("one of two, all alive", &promoted, 300_000, &[REFRESHED, LATE, RESTORED]);
    let restarted = Protocol { required: 0, budget, ..STANDARD };
    holds("a lazy disk, all alive", &restarted, 70_000, &[REFRESHED, LATE, RESTORED]);
}

#[test]
fn an_acknowledged_write_that_nobody_remembers_is_the_window_w7_and_no_other() {
    let budget = Budget { lost_replies: 0, expiries: 0, ..SMALL };
    let promoted = Protocol { followers: 2, forgets: true, budget, ..STANDARD };
    holds("W7, one of two", &promoted, 500_000, &[KILLED_IN_A_WINDOW]);
    let restarted = Protocol { required: 0, forgets: true, budget, ..STANDARD };
    holds("W7, a lazy disk", &restarted, 115_000, &[KILLED_IN_A_WINDOW]);
}

#[test]
fn an_end_stays_an_end_and_a_new_grant_is_not_overwritten() {
    let quiet = Budget { lost_replies: 0, expiries: 0, ..SMALL };
    let budget = Budget { ends: 1, ..quiet };
    holds("an end", &Protocol { budget, ..STANDARD }, 145_000, &[REFRESHED, REPLAYED]);
    let budget = Budget { reconsents: 1, ..quiet };
    holds("a new grant", &Protocol { budget, ..STANDARD }, 220_000, &[REFRESHED, REPLAYED]);
    let budget = Budget { rounds: 1, ends: 1, reconsents: 1, ..quiet };
    holds("an end and a new grant", &Protocol { budget, ..STANDARD }, 110_000, &[REFRESHED, REPLAYED]);
}

#[test]
fn an_outage_of_any_length_costs_no_consent() {
    let budget = Budget { outages: 1, lost_requests: 0, ..ALONE.budget };
    holds("an outage", &Protocol { budget, ..ALONE }, 140_000, &[REFRESHED, PROBED, REPLAYED, LATE]);
}

#[test]
fn at_a_bank_with_a_grace_period_what_came_second_is_kept_and_used() {
    holds("a tolerant bank", &Protocol { tolerant: true, ..ALONE }, 85_000, &[REFRESHED, PROBED, LATE, ALT_TAKEN]);
}

#[test]
fn each_assumption_about_time_is_needed_and_breaking_it_opens_its_own_window_only() {
    for beyond in world::ASSUMPTIONS {
        let protocol = Protocol { beyond: Some(beyond), ..ALONE };
        let budget = Budget { rounds: 2, lost_requests: 0, ..ALONE.budget };
        holds(&format!("beyond {beyond:?}"), &Protocol { budget, ..protocol }, 4_000, &[KILLED_IN_A_WINDOW]);
    }
}
