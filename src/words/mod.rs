//! The ground floor: the words every other floor speaks in.
//!
//! Plain values, no I/O, nothing async. Read [`ids`] and [`secrets`] first: what names a consent and what must
//! never be printed; [`signing`] is the key that our client signs with. [`token_set`] is what a bank answers, [`clock`] is where time comes from, [`bank`] is what a
//! provider profile says about a bank's behaviour, [`said`] what a bank said to one request, [`failure`] why one got
//! nothing, [`problem`] is every answer of our own, [`metrics`] every number, [`pace`] what tests may do to time.

pub mod bank;
pub mod clock;
pub mod failure;
pub mod ids;
pub mod metrics;
pub mod pace;
pub mod problem;
pub mod said;
pub mod secrets;
pub mod signing;
pub mod token_set;
