//! What has to hold of any input: the kept inputs of `fuzz/corpus` are replayed, altered and added to.
//!
//! The same functions are the fuzz targets of `fuzz`, which look for inputs by coverage, on demand.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// How many inputs are made up for each property. `PROPTEST_CASES` asks for more.
fn config(name: &str) -> Config {
    let standard = Config { failure_persistence: None, ..Config::default() };
    // A file is written for each.
    if name == "configuration" { Config { cases: standard.cases / 4, ..standard } } else { standard }
}

fn kept(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut kept: Vec<_> = files
        .map(|file| file.expect("readable").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("readable")))
        .collect();
    kept.sort();
    assert!(kept.len() >= 5, "only {} inputs are kept for {name}", kept.len());
    kept
}

#[test]
fn every_kept_input_holds() {
    for (name, property) in properties::ALL {
        for (file, input) in kept(name) {
            assert!(std::panic::catch_unwind(|| property(&input)).is_ok(), "{file} does not hold");
        }
    }
}

#[test]
fn inputs_that_are_made_up_hold() {
    for (name, property) in properties::ALL {
        let noise = prop::collection::vec(any::<u8>(), 0..400);
        TestRunner::new(config(name))
            .run(&noise, |input| {
                property(&input);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A kept input with some of its bytes replaced, left out, doubled, or those of another put in.
#[test]
fn kept_inputs_that_are_altered_hold() {
    for (name, property) in properties::ALL {
        let kept: Vec<_> = kept(name).into_iter().map(|(_, input)| input).collect();
        let change = (0..5_u8, any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
        let inputs = (prop::sample::select(kept.clone()), prop::collection::vec(change, 1..6));
        TestRunner::new(config(name))
            .run(&inputs, |(mut input, changes)| {
                for (kind, at, byte, other) in changes {
                    let at = at.index(input.len() + 1);
                    let other = &kept[other.index(kept.len())];
                    match kind {
                        0 if at < input.len() => input[at] = byte,
                        1 if at < input.len() => drop(input.remove(at)),
                        2 => input.insert(at, byte),
                        3 => drop(input.splice(at..at, other.iter().copied())),
                        _ => input.truncate(at),
                    }
                }
                property(&input);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_property_has_its_target() {
    let manifest = fs::read_to_string("fuzz/Cargo.toml").expect("the manifest");
    for (name, _) in properties::ALL {
        let source = fs::read_to_string(format!("fuzz/fuzz_targets/{name}.rs")).expect(name);
        assert!(source.contains(&format!("run(\"{name}\"")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
