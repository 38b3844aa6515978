//! The tests themselves.

use std::collections::BTreeMap;

use crate::families::{ALWAYS, BEYOND, FAITHFUL, Family};
use crate::oracle::{Cause, Judgement, judge};
use crate::trace::{Event, digest};
use crate::world::{History, Protocol, run};

#[test]
fn a_store_that_keeps_its_word_loses_nothing_that_could_be_kept() {
    let mut sum = Sum::default();
    for family in FAITHFUL {
        for seed in 0..seeds(20) {
            sum.add(*family, seed, Protocol::SHIPPING, &[Cause::W1, Cause::W2]);
        }
    }
    println!("{sum:?}");
}

#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(1);
    let name = std::env::var("FAMILY").unwrap_or_else(|_| "always".to_owned());
    let family = FAITHFUL.iter().chain(BEYOND).find(|family| family.name == name).expect("a family of that name");
    let history = run(seed, *family, Protocol::SHIPPING);
    if std::env::var("TRACE").is_ok() {
        history.events.iter().for_each(|event| println!("{event}"));
    }
    println!("{:#?}", judge(*family, &history));
    complain(*family, seed, &history, &judge(*family, &history), &[Cause::W1, Cause::W2]);
}

#[test]
fn a_seed_is_a_whole_history() {
    for seed in 0..3 {
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
    fn add(&mut self, family: Family, seed: u64, protocol: Protocol, allowed: &[Cause]) {
        let history = run(seed, family, protocol);
        let judgement = judge(family, &history);
        complain(family, seed, &history, &judgement, allowed);
        self.histories += 1;
        self.rotations += judgement.rotations;
        self.probes += judgement.probes;
        self.faults += history.faults;
        self.calls += history.calls;
        for (_, cause) in judgement.lost {
            *self.lost.entry(cause).or_default() += 1;
        }
    }
}

/// Panics over what must not be, with the way to see it again.
fn complain(family: Family, seed: u64, history: &History, judgement: &Judgement, allowed: &[Cause]) {
    let mut faults = judgement.faults.clone();
    let forbidden = judgement.lost.iter().filter(|(_, cause)| !allowed.contains(cause));
    faults.extend(forbidden.map(|(consent, cause)| (Some(*consent), format!("lost by {cause:?}"))));
    let Some((consent, _)) = faults.first().cloned() else { return };
    let about = |event: &&Event| consent.is_none_or(|consent| event.what.concerns(consent));
    let mut last: Vec<_> = history.events.iter().filter(about).map(ToString::to_string).collect();
    last.drain(..last.len().saturating_sub(50));
    let texts: Vec<_> = faults.iter().map(|(consent, text)| format!("consent {consent:?}: {text}")).collect();
    panic!(
        "{}\n{}\n\nAgain:\n  FAMILY={} SEED={seed} cargo test --test simulation one_seed -- --nocapture\n",
        last.join("\n"),
        texts.join("\n"),
        family.name
    );
}

fn seeds(usual: u64) -> u64 {
    number("SEEDS").unwrap_or(usual)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
