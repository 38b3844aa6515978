//! The protocol with one part left out. What the checker finds then is why the part is there.
//!
//! A mutant that is not caught would mean that the part is not needed, or that the model does not see what it is for.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries};

use super::properties::{NEVER_KILLED, NEW_GRANT_STAYS, NEWEST_KNOWN, SENT_ONCE, STAYS_ENDED};
use super::state::Budget;
use super::{ALONE, Protocol, STANDARD, explore, until_broken};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// ARM writes nothing: a lease that ran out looks as if nothing had been sent.
    NoIntent,
    /// An intent counts before a replica of the store has it.
    NoWait,
    /// An unexplained intent is probed at once.
    NoQuarantine,
    /// An answer is committed and nothing else.
    NoSpill,
    /// "Not spent" is believed from somebody whose lease is over.
    ReleaseByAnybody,
    /// A commit overwrites whatever is stored.
    CommitUnconditional,
    /// After the quarantine a refresh goes out as if nothing had happened.
    ProbeUnrecorded,
    /// A request without an answer is sent again.
    SentAgain,
    /// A new grant takes the place of the old one without a version of its own.
    SeedKeepsVersion,
    /// A consent that ends is deleted.
    TombstoneForgotten,
    /// A token set that came second is dropped.
    AltDropped,
    /// After a failover leases are granted at once, and nobody tells the store what it forgot.
    NoReassertion,
    /// After an outage leases are granted at once.
    OutageUnnoticed,
}

/// Explores `protocol` without a part until `broken` is found to be broken.
fn is_caught(mutant: Mutant, protocol: &Protocol, broken: &'static str) {
    let protocol = Protocol { mutant: Some(mutant), ..protocol.clone() };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([broken]));
    let name = format!("{mutant:?}");
    let checker = explore(&name, &protocol, until);
    let path = checker.discovery(broken).unwrap_or_else(|| panic!("{mutant:?} does not break: {broken}"));
    let steps: Vec<_> = until_broken(&protocol, path, broken).into_iter().filter_map(|(_, action)| action).collect();
    println!("  {broken}, by {steps:?}");
}

/// Two refreshes and no faults but those that are named.
const CALM: Budget =
    Budget { rounds: 2, crashes: 0, lost_requests: 0, lost_replies: 0, expiries: 0, failovers: 0, ..STANDARD.budget };

#[test]
fn without_an_intent_a_lease_that_runs_out_sends_twice() {
    let budget = Budget { expiries: 1, ..CALM };
    is_caught(Mutant::NoIntent, &Protocol { budget, ..ALONE }, SENT_ONCE);
    is_caught(Mutant::NoIntent, &Protocol { budget, ..ALONE }, NEVER_KILLED);
}

#[test]
fn without_the_wait_a_failover_forgets_an_intent() {
    let budget = Budget { crashes: 1, failovers: 1, ..CALM };
    is_caught(Mutant::NoWait, &Protocol { budget, ..STANDARD }, SENT_ONCE);
}

#[test]
fn without_the_quarantine_a_probe_overtakes_the_request_it_asks_about() {
    let budget = Budget { expiries: 1, ..CALM };
    is_caught(Mutant::NoQuarantine, &Protocol { budget, ..ALONE }, SENT_ONCE);
    is_caught(Mutant::NoQuarantine, &Protocol { budget, ..ALONE }, NEVER_KILLED);
}

#[test]
fn without_a_spill_a_crash_loses_an_answer_that_was_read() {
    let budget = Budget { crashes: 1, ..CALM };
    is_caught(Mutant::NoSpill, &Protocol { budget, ..ALONE }, NEWEST_KNOWN);
    is_caught(Mutant::NoSpill, &Protocol { budget, ..ALONE }, NEVER_KILLED);
}

#[test]
fn a_lease_that_anybody_can_release_is_no_lease() {
    let budget = Budget { expiries: 1, ..CALM };
    let protocol = Protocol { budget: Budget { rounds: 3, ..budget }, ..ALONE };
    is_caught(Mutant::ReleaseByAnybody, &protocol, SENT_ONCE);
    is_caught(Mutant::ReleaseByAnybody, &protocol, NEVER_KILLED);
}

#[test]
fn a_commit_that_compares_nothing_brings_back_what_was_spent() {
    let protocol = Protocol { budget: Budget { rounds: 3, crashes: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::CommitUnconditional, &protocol, NEWEST_KNOWN);
    is_caught(Mutant::CommitUnconditional, &protocol, SENT_ONCE);
}

#[test]
fn a_probe_that_is_not_recorded_is_a_second_send() {
    let protocol = Protocol { budget: Budget { lost_replies: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::ProbeUnrecorded, &protocol, SENT_ONCE);
}

#[test]
fn a_request_that_is_repeated_without_an_answer_is_a_second_send() {
    let protocol = Protocol { budget: Budget { lost_replies: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::SentAgain, &protocol, SENT_ONCE);
}

#[test]
fn a_new_grant_without_a_version_of_its_own_is_overwritten() {
    let protocol = Protocol { budget: Budget { reconsents: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::SeedKeepsVersion, &protocol, NEW_GRANT_STAYS);
}

#[test]
fn an_end_that_is_not_remembered_is_undone_by_a_late_commit() {
    let protocol = Protocol { budget: Budget { ends: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::TombstoneForgotten, &protocol, STAYS_ENDED);
}

#[test]
fn what_came_second_is_the_newest_when_the_bank_saw_it_last() {
    let protocol = Protocol { tolerant: true, budget: Budget { expiries: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::AltDropped, &protocol, NEWEST_KNOWN);
}

#[test]
fn without_reassertion_a_promoted_store_grants_what_is_being_spent() {
    let budget = Budget { failovers: 1, ..CALM };
    is_caught(Mutant::NoReassertion, &Protocol { followers: 2, budget, ..STANDARD }, SENT_ONCE);
    is_caught(Mutant::NoReassertion, &Protocol { required: 0, budget, ..STANDARD }, NEVER_KILLED);
}

#[test]
fn an_outage_that_nobody_notices_lets_a_probe_overtake_a_commit() {
    let protocol = Protocol { budget: Budget { outages: 1, expiries: 1, ..CALM }, ..ALONE };
    is_caught(Mutant::OutageUnnoticed, &protocol, NEVER_KILLED);
}
