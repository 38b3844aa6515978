//! The program's own token path, its shipping scripts, and a world that is out to get a consent lost.
//!
//! Several replicas run the real `Tokens` over the real Redis client and the real token endpoint's client, against a
//! Redis, banks, a network, disks and clocks that are simulated, from one seed, on one thread, in simulated time. An
//! oracle replays what the banks saw. `docs/simulation.md` says what is simulated and how far.
//!
//! ```console
//! cargo test --test simulation                                             # some hundred seeds
//! SEEDS=10000 cargo test --test simulation many_seeds -- --nocapture       # many
//! FAMILY=always SEED=17 cargo test --test simulation one_seed -- --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "the counts and the histories are what `--nocapture` is for")]

mod bank;
mod broken;
mod chance;
mod disk;
mod families;
mod faults;
mod machine;
mod network;
mod oracle;
mod redis;
mod replica;
mod tests;
mod trace;
mod world;
