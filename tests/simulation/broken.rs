//! Protocols that are broken on purpose, each in one place. The oracle must find every one: a check that cannot fail is
//! worth nothing.

use std::time::Duration;

use consentry::token::timing::Timing;

use crate::bank::Manners;
use crate::families::{self, Family};
use crate::oracle::judge;
use crate::tests::is_allowed;
use crate::world::{Protocol, run};

/// How many seeds it may take.
const WITHIN: u64 = 40;

#[test]
fn without_an_intent() {
    let edit = |text: &str| changed(text, "save(rec)\nreturn answer('ARMED')", "return answer('ARMED')");
    is_found(families::CALM_STORE, Protocol { edit, ..Protocol::SHIPPING });
}

#[test]
fn without_a_quarantine() {
    let timing = Timing { quarantine: Duration::ZERO, ..Timing::STANDARD };
    is_found(crawling(families::SLOW_BANKS), Protocol { timing, ..Protocol::SHIPPING });
}

#[test]
fn without_a_spill() {
    is_found(families::DEADLY, Protocol { spill: false, ..Protocol::SHIPPING });
}

#[test]
fn with_spills_that_are_not_synced() {
    is_found(families::DEADLY, Protocol { syncs: false, ..Protocol::SHIPPING });
}

#[test]
fn without_renewing_a_lease() {
    let timing = Timing { renewal: Duration::from_secs(3_600), ..Timing::STANDARD };
    is_found(crawling(families::QUIET), Protocol { timing, ..Protocol::SHIPPING });
}

#[test]
fn hanging_up_on_a_slow_bank() {
    let timing = Timing { send: Duration::from_secs(10), ..Timing::STANDARD };
    is_found(families::QUIET, Protocol { timing, ..Protocol::SHIPPING });
}

#[test]
fn without_recording_a_probe() {
    let edit = |text: &str| changed(text, "rec.it_n = str(num(rec.it_n) + 1)", "rec.it_n = '1'");
    is_found(families::BAD_BANKS, Protocol { edit, ..Protocol::SHIPPING });
}

/// The same with banks that mostly think for very long.
fn crawling(family: Family) -> Family {
    Family { manners: Manners { slow: 800, ..family.manners }, ..family }
}

/// The text with one place changed, where it is the script that has that place.
fn changed(text: &str, from: &str, to: &str) -> String {
    text.replacen(from, to, 1)
}

fn is_found(family: Family, protocol: Protocol) {
    let found = (0..WITHIN).find(|seed| {
        let history = run(*seed, family, protocol);
        let judgement = judge(family, &history);
        !judgement.faults.is_empty() || judgement.lost.iter().any(|(_, cause, _)| !is_allowed(family, *cause))
    });
    assert!(found.is_some(), "the oracle finds nothing wrong with it in {WITHIN} histories of {}", family.name);
    println!("found at seed {found:?}");
}
