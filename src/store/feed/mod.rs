//! What replicas share about a provider's feed, as a record and its steps, and what its consents are called here.
//!
//! `record` is the fields, [`steps`] the decisions. The embedded store runs them; the Lua scripts of the Redis store
//! decide the same, and one suite of tests holds the two together.

mod record;
pub mod steps;

pub use record::{FeedRecord, NameRecord};
