//! The listener that customers' browsers come to: out to the bank, and back from it.
//!
//! [`settings`] is what it has to be told.

pub mod settings;
