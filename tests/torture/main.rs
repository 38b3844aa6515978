//! The torture: real replicas, a real Redis and the sandbox's bank under load, while processes are killed and stopped at
//! random for minutes on end. No consent may be lost but in a window that no client can close, and each such loss is
//! shown with the death that made it.
//!
//! `scripts/torture [minutes]` runs it. Without a time to run for, as in `cargo test`, only the judgement is tried: that
//! it takes a named window for what it is, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]
#![expect(clippy::print_stdout, reason = "a program without a harness says itself what it found")]

// What the tests stand on: servers, certificates, faults.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binaries use the rest")]
mod support;

// The one source of chance.
#[path = "../simulation/chance.rs"]
#[expect(dead_code, reason = "the simulation uses the rest")]
mod chance;

// Whether a loss has a window that explains it.
mod judge;

// The consents that calls are made with.
mod pool;

// What dies and what stands still.
mod faults;

// The store, alone or behind sentinels.
mod servers;

// The calls.
mod load;

// What came out.
mod summary;

// One run.
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    let told = |name: &str| std::env::var(format!("CONSENTRY_TORTURE_{name}")).ok();
    let Some(minutes) = told("MINUTES") else {
        judge::tried();
        println!("the torture's judgement holds; scripts/torture runs the torture itself");
        return ExitCode::SUCCESS;
    };
    let plan = run::Plan {
        minutes: minutes.parse().expect("CONSENTRY_TORTURE_MINUTES is a number"),
        seed: told("SEED").map_or(1, |seed| seed.parse().expect("CONSENTRY_TORTURE_SEED is a number")),
        sentinel: told("STORE").is_some_and(|store| store == "sentinel"),
        grace: told("GRACE").is_some(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if runtime.block_on(run::run(plan)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
