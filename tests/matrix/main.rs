//! The fault matrix: every row of `docs/fault-matrix.md`, against the real binary, real Redis processes and the sandbox's
//! banks over mutual TLS, with a link of our own between each pair that can break.
//!
//! A test's name begins with its row. What is asserted is seen from outside: what the app was answered, what the bank
//! was asked, what stands in Redis, what the metrics and the log say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

// What the tests stand on: servers, certificates, faults.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;

// What the rows have in common: a scene, and ways to look at it.
mod house;

// F2 to F8: the holder is killed between any two lasting steps.
mod killed;

// F9 to F14: the store answers badly, or not at all.
mod store_away;

// F15 to F18: another Redis takes over.
mod failover;

// F19 to F24, F27, F28: the bank is slow, or answers rubbish.
mod bank_slow;

// F29 to F32: processes that stand still, clocks that are wrong, apps that go away, ends.
mod time_and_processes;

// F33 to F35: consents that end or are granted anew while they are refreshed.
mod ended;

// F1, F36: herds and storms.
mod herd;

// F37: a start with many expired consents, and what the bank sees of it.
mod limits;

// F26, F38: a bank that refuses everybody, and one that is down.
mod breaker;

// F39 to F43: changes, spills, seals and certificates.
mod keeping;

// F44: a slot of a cluster moves.
mod cluster;

// F48: a store that is put back from an old backup.
mod old_backup;

// F45 to F47: upgrades, servers that are not fit, and a process without room.
mod surroundings;
