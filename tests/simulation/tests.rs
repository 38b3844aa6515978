//! The tests themselves.

use std::collections::BTreeMap;

use crate::families::{self, ALL, ALWAYS, Family};
use crate::oracle::{Cause, Finding, Judgement, judge};
use crate::trace::{Event, digest};
use crate::world::{History, Protocol, run};

#[test]
fn a_quiet_world_loses_nothing_at_all() {
    explore(families::QUIET, 10);
}

#[test]
fn a_store_that_never_fails_loses_nothing_that_could_be_kept() {
    explore(families::CALM_STORE, 20);
}

#[test]
fn a_store_that_syncs_every_write_and_restarts_loses_nothing_that_could_be_kept() {
    explore(ALWAYS, 20);
}

#[test]
fn a_store_with_a_replica_that_must_acknowledge_and_takes_over_loses_nothing_that_could_be_kept() {
    explore(families::ONE_REPLICA, 20);
}

#[test]
fn two_replicas_that_must_both_acknowledge_lose_nothing_that_could_be_kept() {
    explore(families::TWO_OF_TWO, 20);
}

#[test]
fn banks_that_answer_badly_lose_nothing_that_could_be_kept() {
    explore(families::BAD_BANKS, 20);
}

#[test]
fn banks_that_think_for_long_lose_nothing_that_could_be_kept() {
    explore(families::SLOW_BANKS, 20);
}

#[test]
fn deaths_at_bad_moments_lose_nothing_that_could_be_kept() {
    explore(families::DEADLY, 20);
}

#[test]
fn a_tolerant_bank_loses_nothing_that_could_be_kept() {
    explore(families::TOLERANT, 20);
}

#[test]
fn full_disks_lose_nothing_that_could_be_kept() {
    explore(families::FULL_DISKS, 20);
}

#[test]
fn stalls_beyond_what_the_protocol_allows_for_are_named() {
    explore(families::STALLS, 20);
}

#[test]
fn a_store_that_forgets_a_second_is_named() {
    explore(families::EVERY_SECOND, 20);
}

#[test]
fn a_wrong_promotion_is_named() {
    explore(families::WRONG_PROMOTION, 20);
}

/// Runs so many histories of a family, or as many as the environment says, one seed after the other.
fn explore(family: Family, usual: u64) {
    let seeds = number("SEEDS").unwrap_or(usual);
    let mut sum = Sum::default();
    for seed in 0..seeds {
        sum.add(family, seed);
    }
    println!("{}: {sum:?}", family.name);
    assert!(sum.rotations > 8 * usize::try_from(seeds).expect("few"), "too little happens to find anything");
}

/// Whether such a loss is nobody's fault in this family.
pub(crate) fn is_allowed(family: Family, cause: Cause) -> bool {
    family.unavoidable.contains(&cause)
}

#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(1);
    let name = std::env::var("FAMILY").unwrap_or_else(|_| "always".to_owned());
    let family = ALL.iter().find(|family| family.name == name).expect("a family of that name");
    let history = run(seed, *family, Protocol::SHIPPING);
    if std::env::var("TRACE").is_ok() {
        history.events.iter().for_each(|event| println!("{event}"));
    }
    println!("{:#?}", judge(*family, &history));
    complain(*family, seed, &history, &judge(*family, &history));
}

#[test]
fn a_seed_is_a_whole_history() {
    for seed in 0..2 {
        let first = run(seed, ALWAYS, Protocol::SHIPPING);
        let second = run(seed, ALWAYS, Protocol::SHIPPING);
        if digest(&first.events) != digest(&second.events) {
            let differs = first.events.iter().zip(&second.events).find(|(a, b)| a.to_string() != b.to_string());
            panic!("seed {seed} has two histories: {differs:?}");
        }
    }
}

/// What a number of histories came to.
#[derive(Debug, Default)]
struct Sum {
    histories: u64,
    rotations: usize,
    probes: usize,
    faults: u64,
    calls: u64,
    lost: BTreeMap<Cause, usize>,
}

impl Sum {
    fn add(&mut self, family: Family, seed: u64) {
        let history = run(seed, family, Protocol::SHIPPING);
        let judgement = judge(family, &history);
        complain(family, seed, &history, &judgement);
        self.histories += 1;
        self.rotations += judgement.rotations;
        self.probes += judgement.probes;
        self.faults += history.faults;
        self.calls += history.calls;
        for (_, cause, _) in judgement.lost {
            *self.lost.entry(cause).or_default() += 1;
        }
    }
}

/// Panics over what must not be, with the way to see it again.
fn complain(family: Family, seed: u64, history: &History, judgement: &Judgement) {
    let mut faults = judgement.faults.clone();
    let forbidden = judgement.lost.iter().filter(|(_, cause, _)| !is_allowed(family, *cause));
    faults.extend(forbidden.map(|(consent, cause, at)| Finding {
        consent: Some(*consent),
        at: *at,
        text: format!("lost by {cause:?}"),
    }));
    let Some(first) = faults.first() else { return };
    let about = |event: &&Event| event.at <= first.at && first.consent.is_none_or(|of| event.what.concerns(of));
    let mut last: Vec<_> = history.events.iter().filter(about).map(ToString::to_string).collect();
    last.drain(..last.len().saturating_sub(50));
    let texts: Vec<_> =
        faults.iter().map(|found| format!("consent {:?} at {} ms: {}", found.consent, found.at, found.text)).collect();
    panic!(
        "{}\n{}\n\nAgain:\n  FAMILY={} SEED={seed} cargo test --test simulation one_seed -- --nocapture\n",
        last.join("\n"),
        texts.join("\n"),
        family.name
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
